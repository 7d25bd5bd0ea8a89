"""`limner train MODEL --preset NAME`: named settings that later flags go before, written down in full."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limner.cli import main
from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.models import MODELS
from limner.models.presets.progan import PRESETS
from limner.models.progan import ProGAN
from limner.training.command import default_settings

SHORT = ["--fmap-max", "4", "--latent-dim", "4", "--kimg", "0.016", "--metrics", "--resolution", "16"]


def test_a_preset_is_what_the_other_flags_start_from() -> None:
    config, rest = default_settings(ProGAN, ["--preset", "v2-8gpus", "--kimg", "3"])
    assert rest == ["--kimg", "3"]
    assert config.model.batch_sizes == (512, 256, 128, 64, 32, 32, 32, 32, 32)
    assert (config.kimg, config.ema_half_life_kimg) == (12000, 22.17)
    plain, rest = default_settings(ProGAN, ["--seed", "1"])
    assert (plain.model, plain.kimg, rest) == (ProGAN.Config(), None, ["--seed", "1"])
    same, _ = default_settings(ProGAN, ["--preset=s3"])
    assert same.model.game == "logistic"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "v2-1gpus"], r"'v2-1gpus': did you mean 'v2-1gpu'\? progan has: paper-1gpu, v2-1gpu"),
        (["--preset", "zzz"], r"'zzz': progan has: paper-1gpu"),
        (["--preset"], r"--preset needs a name; progan has"),
    ],
)
def test_a_preset_that_is_not_there_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(LimnerError, match=said):
        default_settings(ProGAN, words)


def test_a_model_without_presets_says_so() -> None:
    with pytest.raises(LimnerError, match="lsgan has none"):
        default_settings(MODELS["lsgan"], ["--preset", "paper"])


def test_a_run_keeps_what_a_preset_meant(tiny_dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "progan", "--preset", "laptop", "--data", str(tiny_dataset.folder), *SHORT, "--out", str(out)]
    assert main(words) == 0
    kept = json.loads((out / "config.json").read_text())
    assert "preset" not in kept
    assert kept["model"]["fmap_base"] == PRESETS["laptop"].model["fmap_base"]
    assert (kept["model"]["fmap_max"], kept["kimg"], kept["batch_size"]) == (4, 0.016, 16)
    assert main(["resume", str(out), "--kimg", "0.032"]) == 0


def test_one_batch_size_goes_before_the_tables_and_the_length_is_the_schedules(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    sizes = ["--fmap-max", "4", "--latent-dim", "4", "--metrics", "--resolution", "8"]
    growth = ["--stable-kimg", "0.016", "--fade-kimg", "0.008", "--batch-size", "8"]
    assert main(["train", "progan", "--data", str(tiny_dataset.folder), *sizes, *growth, "--out", str(out)]) == 0
    kept = json.loads((out / "config.json").read_text())
    assert kept["model"]["batch_sizes"] == [8]
    assert (kept["batch_size"], kept["kimg"]) == (8, 0.04)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["reason"] == "finished"
    assert log[-1]["images"] == 40


def test_the_presets_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "progan", "--help"])
    said = capsys.readouterr().out
    assert "--preset NAME" in said
    for name, preset in PRESETS.items():
        assert name in said
        assert preset.summary.split(":")[0][:30] in said
