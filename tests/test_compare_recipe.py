"""examples/collection.sh: the commands it gives, how it goes on where it was stopped, and the page they make."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from limner.cli import main
from limner.models import MODELS
from limner.training import instruments
from limner.training.record import read_run
from test_report import Page

RECIPE = Path(__file__).parent.parent / "examples" / "collection.sh"
EIGHT = [name for name in MODELS if name not in ("progan", "hologan")]
STAND_IN = """#!/usr/bin/env bash
# Writes down what limner was asked for, makes what the recipe looks at, and stops where the test wants.
echo "$(printf '%q ' "$@")" >> "$ASKED"
if [ "$1" = train ]; then mkdir -p "${@: -1}"; touch "${@: -1}/config.json"; fi
if [ "$1 $2" = "$STOP_AT" ]; then exit 130; fi
"""


class Recipe:
    """The recipe with a stand-in for limner: what it asks for in one go."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.out, self.asked = folder / "out", folder / "asked"
        command = folder / "bin" / "limner"
        command.parent.mkdir()
        command.write_text(STAND_IN)
        command.chmod(0o755)
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "ASKED": str(self.asked), "PROBE_KIMG": "0", **settings}

    def __call__(self, *words: str, stop_at: str = "") -> list[list[str]]:
        self.asked.write_text("")
        environment = {**self.environment, "STOP_AT": stop_at}
        done = subprocess.run(
            ["bash", str(RECIPE), str(self.out), *words], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == (130 if stop_at else 0), done.stderr
        return [shlex.split(line) for line in self.asked.read_text().splitlines()]


def short(lines: list[list[str]]) -> list[str]:
    return [" ".join(Path(word).name for word in line[:2]) for line in lines]


def value(line: list[str], flag: str) -> str:
    return line[line.index(flag) + 1]


def test_every_model_gets_the_same_terms(tmp_path: Path, tiny_dataset_folder: Path) -> None:
    lines = Recipe(tmp_path, DATA=str(tiny_dataset_folder), COUNT="99")("50", "2")
    trained = [line for line in lines if line[0] == "train"]
    assert [line[1] for line in trained] == [name for name in EIGHT for _ in range(2)]
    flags = ("--data", "--resolution", "--attributes", "--batch-size", "--kimg", "--metrics-count")
    for flag in flags:
        assert len({value(line, flag) for line in trained}) == 1, flag
    assert {value(line, "--kimg") for line in trained} == {"50"}
    assert [value(line, "--seed") for line in trained] == ["0", "1"] * len(EIGHT)
    outs = [value(line, "--out") for line in trained]
    assert len(set(outs)) == 2 * len(EIGHT)
    assert [line for line in lines if line[0] == "evaluate"] == [["evaluate", out, "--count", "99"] for out in outs]
    assert lines[-1] == ["compare", *outs, "--out", str(tmp_path / "out" / "compare.html"), "--overwrite"]


def test_it_goes_on_where_it_was_stopped_and_passes_over_what_is_finished(
    tmp_path: Path, tiny_dataset_folder: Path
) -> None:
    recipe = Recipe(tmp_path, DATA=str(tiny_dataset_folder), MODELS="dcgan wgan vae")
    begun = recipe("50", stop_at="train wgan")
    assert short(begun) == ["train dcgan", "evaluate dcgan-0", "train wgan"]
    more = recipe("50", stop_at=f"evaluate {recipe.out}/wgan-0")
    assert short(more) == ["resume wgan-0", "evaluate wgan-0"]
    assert value(more[0], "--kimg") == "50"
    assert short(recipe("50")) == ["evaluate wgan-0", "train vae", "evaluate vae-0", "compare dcgan-0"]
    assert short(recipe("50")) == ["compare dcgan-0"]
    longer = [f"{verb} {name}-0" for name in ("dcgan", "wgan", "vae") for verb in ("resume", "evaluate")]
    assert short(recipe("80")) == [*longer, "compare dcgan-0"]


def test_without_data_it_renders_heads_and_trains_a_probe_once(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, HEADS="123", PROBE_KIMG="7", MODELS="dcgan")
    data = str(recipe.out / "heads-32")
    heads, probe, *_ = recipe("50")
    assert heads == ["data", "heads", data, "--resolution", "32", "--count", "123"]
    assert probe == ["data", "probe", data, "--kimg", "7"]
    (recipe.out / "heads-32").mkdir()
    for name in ("dataset.json", "probe.safetensors"):
        (recipe.out / "heads-32" / name).touch()
    assert short(recipe("50")) == ["compare dcgan-0"]


def test_its_commands_make_the_page(
    tmp_path: Path, tiny_dataset_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruments, "available", lambda: ())  # no extractor: pixels are enough here
    recipe = Recipe(tmp_path, DATA=str(tiny_dataset_folder), MODELS="vae infogan", SIDE="16", COUNT="16")
    for line in recipe("0.032"):
        if line[0] == "train":
            (Path(line[-1]) / "config.json").unlink()
        assert main(line) == 0, capsys.readouterr().err
    page = Page(recipe.out / "compare.html")
    assert "2 models on equal terms" in page.text
    assert page.source.count('<th scope="row">bright</th>') == 1
    assert [read_run(recipe.out / f"{name}-0").config["attributes"] for name in ("vae", "infogan")] == ["all", "all"]


@pytest.mark.parametrize("model", EIGHT)
def test_the_settings_of_each_model_are_ones_it_has(
    model: str, tmp_path: Path, tiny_dataset_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Parsed and checked as `limner train` does; only the training itself is left out."""
    taken = []

    def take(found: Any, config: Any, out: Path, stop_at: float | None) -> Path:
        taken.append((found, config))
        return out

    monkeypatch.setattr("limner.training.run.train", take)
    line, *_ = Recipe(tmp_path, DATA=str(tiny_dataset_folder), MODELS=model)("50")
    assert main(line) == 0, capsys.readouterr().err
    ((found, config),) = taken
    config.check()
    assert found.name == model
    assert config.kimg == 50.0
    assert config.metrics_kimg <= 25, "measured on the way, or no cost of a score could be told"
