"""What `limner evaluate` says before and while it measures: the network and why, the expected time, what runs."""

from __future__ import annotations

import io
import re
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from limner.cli import main
from limner.data.dataset import Dataset, open_dataset
from limner.metrics.cost import RULES, Work, expected_seconds
from limner.metrics.evaluate import choose_reals, evaluate_model
from limner.metrics.probe.lessons import open_lessons
from limner.metrics.probe.verb import train_probe
from limner.metrics.registry import METRICS
from limner.metrics.speeds import Speeds, seconds_per_item
from limner.training import evaluation_table, instruments
from limner.training.time_left import TimeLeft
from test_evaluate import Painter, Pooling
from test_evaluate_verb import run, train

COUNT = 20


@pytest.fixture(scope="module")
def trained(tiny_dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_dataset_folder, folder)
    return folder


@pytest.fixture(autouse=True)
def at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the extractors that are at hand; each is a `Pooling` of that name."""
    names = ["efficientnet-lite0"]
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(instruments, "available", lambda: tuple(names))
    monkeypatch.setattr(instruments, "open_extractor", lambda name, **_: Pooling(name))
    return names


# --- the choice of a network, and the line that says it ---------------------------------------------------------------


def announced(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The first line on standard error that begins with "evaluate"."""
    code, _, err = run(capsys, "evaluate", *words, "--count", COUNT)
    assert code == 0, err
    return next(line for line in err.splitlines() if line.startswith("evaluate "))


def test_it_says_first_what_it_will_measure_and_how_long_that_takes(
    capsys: pytest.CaptureFixture[str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.training.evaluate.evaluate_model", lambda *_, **__: exit_early())

    def exit_early() -> Any:
        raise KeyboardInterrupt

    code, out, err = run(capsys, "evaluate", trained, "--count", COUNT, "--metrics", "swd", "ms_ssim")
    assert (code, out) == (130, ""), "nothing has been measured"
    (line,) = [line for line in err.splitlines() if line.startswith("evaluate")]
    assert "evaluate swd, ms_ssim: 20 generated images against 20 of tiny (train)" in line
    assert "pixels only (these metrics look at no features)" in line
    assert re.search(r"about \d+ s\b", line)
    assert all(flag in line for flag in ("--count", "--metrics", "--extractor"))


def test_on_a_cpu_auto_leaves_features_out_where_they_take_too_long(
    capsys: pytest.CaptureFixture[str], trained: Path
) -> None:
    line = announced(capsys, trained, "--within", 0)
    assert line.startswith("evaluate swd, ms_ssim, copy_rate: ")
    assert "ask for that with --extractor efficientnet-lite0" in line
    line = announced(capsys, trained, "--within", 60)
    assert "fd, kd" in line
    assert "efficientnet-lite0 (it is installed)" in line


@pytest.mark.parametrize(
    "asked", [("--metrics", "fd"), ("--extractor", "efficientnet-lite0"), ("--metrics=precision",)]
)
def test_a_network_that_was_asked_for_is_used_however_long_it_takes(
    capsys: pytest.CaptureFixture[str], trained: Path, asked: tuple[str, ...]
) -> None:
    assert "efficientnet-lite0 (" in announced(capsys, trained, "--within", 0, *asked)


def test_on_a_cpu_the_probe_comes_before_more_comparable_networks(
    capsys: pytest.CaptureFixture[str], trained: Path, tiny_dataset_folder: Path, at_hand: list[str]
) -> None:
    at_hand.insert(0, "inception")
    assert "inception (its weights are at hand)" in announced(capsys, trained, "--within", 60)
    lessons = open_lessons(open_dataset(tiny_dataset_folder), 16, 0)
    probe = tiny_dataset_folder / "probe.safetensors"
    train_probe(lessons, probe, kimg=0.5, mirror=False, seed=0, device=torch.device("cpu"))
    try:
        line = announced(capsys, trained, "--within", 0)
    finally:
        probe.unlink()
    assert "probe (the dataset's own, and quick; also at hand: --extractor inception or efficientnet-lite0)" in line
    assert "fd" in line


@pytest.mark.parametrize("minutes", ["-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], trained: Path, minutes: str) -> None:
    code, _, err = run(capsys, "evaluate", trained, f"--within={minutes}")
    assert (code, err.count("\n")) == (2, 1)
    assert "--within" in err


# --- the expected time ------------------------------------------------------------------------------------------------


def test_every_metric_has_a_rule_of_its_cost() -> None:
    assert set(RULES) == set(METRICS)


class Even(Speeds):
    """One second for every unit of work."""

    def __init__(self) -> None:
        self.model = Painter(32)

    read = generated = patches = scored = reconstructed = projected = compared_with_faces = 1.0

    def features(self, network: object) -> float:
        return 1.0

    def moments(self, width: int) -> float:
        return 1.0

    def face_comparisons(self, fakes: int, seed: int) -> int:
        return 7 * fakes

    def neighbours(self, width: int, count: int) -> float:
        return float(count**2)

    def kernel(self, width: int, size: int) -> float:
        return float(size)

    def frechet(self, width: int) -> float:
        return 3.0


def even(*metrics: str, count: int = 10, **changes: Any) -> dict[str, float]:
    work = Work(metrics, **{"reals": count, "fakes": count, "extractor": Pooling(), "probe": None, **changes})
    return expected_seconds(work, Even())


def test_what_an_evaluation_takes_is_the_sum_of_its_steps() -> None:
    assert even("ms_ssim") == {"reals": 20, "fakes": 20, "ms_ssim": 0}, "read or generated, then scored"
    assert even("fd") == {"reals": 30, "fakes": 30, "fd": 3}, "features and their moments"
    assert even("fd", reals=0) == {"fakes": 30, "fd": 3}, "the reals' moments are known"
    assert even("copy_rate") == {"fakes": 10, "copy_rate": 70}
    found = even("precision", "recall", "coverage")
    assert [found[name] for name in ("precision", "recall", "coverage")] == [100, 0, 0], "one pass for all of them"
    assert even("kd", count=500)["kd"] == 500
    assert even("kd", count=2000)["kd"] == 100 * 1000, "subsets"
    assert even("ppl", count=1000)["ppl"] == 2 * (200 + 64) * 2
    assert even("swd", count=256)["swd"] == 256 * 512 * 2, "directions and levels"
    assert even("swd", count=2560)["swd"] > 10 * even("swd", count=256)["swd"], "sorting grows a little faster"
    assert even("fd", processes=2)["fakes"] == 15


def test_speeds_are_measured_of_the_parts_that_an_evaluation_has(tiny_dataset: Dataset) -> None:
    rows = choose_reals(tiny_dataset, "train", COUNT, 0)
    model = Painter(16)
    state = torch.get_rng_state()
    speeds = Speeds(model, tiny_dataset, rows)
    names = tuple(name for name in METRICS if METRICS[name].of is None and METRICS[name].extractor != "inception")
    steps = expected_seconds(Work(names, COUNT, COUNT, Pooling(), None), speeds)
    assert list(steps) == ["reals", "fakes", *names]
    assert all(0 <= seconds < 600 for seconds in steps.values())
    assert all(steps[name] > 0 for name in ("reals", "fakes", "swd", "copy_rate", "fd", "kd", "precision", "ppl"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trial_goes_on_to_larger_batches_since_a_single_image_says_little() -> None:
    asked: list[int] = []
    seconds_per_item(asked.append, 64)
    assert asked == [1, 4, 16, 64]
    asked.clear()
    seconds_per_item(asked.append, 5)
    assert asked == [1, 4]
    assert seconds_per_item(asked.append, 0) == 0


# --- while it measures ------------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_pace_is_the_expected_one_corrected_by_what_has_passed() -> None:
    clock = Clock()
    pace = TimeLeft({"reals": 10.0, "swd": 30.0, "fd": 10.0}, clock=clock)
    assert (pace.share, pace.seconds_left) == (0, 50)
    clock.now = 10.0
    pace.reach("reals", 0.5)  # at half the expected speed
    assert pace.share == pytest.approx(0.1)
    assert pace.seconds_left == pytest.approx(45 * (10 + 5) / (5 + 5))
    clock.now = 20.0
    pace.reach("swd", None)
    left = pace.seconds_left
    assert left == pytest.approx(40 * (20 + 5) / (10 + 5))
    clock.now = 40.0
    assert pace.seconds_left == pytest.approx(left - 20), "a step that tells nothing goes on as expected"
    clock.now = 4000.0
    assert pace.share == pytest.approx((10 + 0.95 * 30) / 50), "and is not taken for done"
    pace.reach("fd", None)
    assert pace.share == pytest.approx(0.8)


def test_without_expected_times_the_pace_is_that_of_the_images() -> None:
    clock = Clock()
    pace = TimeLeft({"images": 1.0}, measured=False, clock=clock)
    assert pace.seconds_left is None
    clock.now = 3.0
    pace.reach("images", 0.25)
    assert pace.seconds_left == pytest.approx(9)


def test_piped_a_line_comes_every_ten_seconds_and_names_what_runs() -> None:
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, width=200)
    bar = evaluation_table.Progress(console=console, disable=True)
    screen = evaluation_table.Screen(console, bar, clock)
    screen.expect({"reals": 20.0, "swd": 80.0}, {"reals": "images of heads"})
    for done in range(1, 21):
        clock.now += 1.0
        screen.told("reals", done, 20)
    screen.told("swd", 0, 1)
    for _ in range(799):
        clock.now += 0.1
        screen.poll()
    lines = out.getvalue().splitlines()
    assert lines[0] == "images of heads 10 of 20 · 10 % done · 1 min 30 s left"
    assert lines[1] == "images of heads 20 of 20 · 20 % done · 1 min 20 s left"
    assert lines[2] == "measuring: swd · 30 % done · 1 min 10 s left"
    assert len(lines) == 9


def test_on_a_terminal_each_step_is_named_as_soon_as_it_begins() -> None:
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with evaluation_table.Progress(*evaluation_table.columns(), console=console, auto_refresh=False) as bar:
        screen = evaluation_table.Screen(console, bar, clock)
        screen.expect({"fakes": 10.0, "swd": 20.0, "fd": 30.0}, {"fakes": "generated images"})
        steps = (
            ("fakes", 5.0, "generated images 1 of 2"),
            ("swd", 10.0, "measuring: swd"),
            ("fd", 30.0, "measuring: fd"),
        )
        for what, clock.now, text in steps:
            screen.told(what, 1, 2)
            assert text in out.getvalue()
    assert "50 % · 30 s left" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def test_what_is_named_is_what_runs(tiny_dataset: Dataset) -> None:
    """Whenever the evaluation polls, the code that runs is that of the step last told."""
    code = {"swd": "swd.py", "copy_rate": "copies.py", "kd": "kernel.py", "precision": "neighbours.py"}
    told: list[str] = ["reals"]
    seen: set[tuple[str, str]] = set()

    def poll() -> None:
        files = {Path(frame.filename).name for frame in traceback.extract_stack()}
        seen.update((told[-1], name) for name, file in code.items() if file in files)

    evaluate_model(
        Painter(16),
        tiny_dataset,
        metrics=tuple(code),
        count=COUNT,
        split="train",
        weights_name="ema",
        images_seen=0,
        extractor=Pooling(),
        poll=poll,
        progress=lambda what, done, of: told.append(what),
    )
    assert seen == {(name, name) for name in code}
    assert [name for name in dict.fromkeys(told) if name in code] == list(code)


def test_the_numbers_do_not_depend_on_what_is_said_before(
    capsys: pytest.CaptureFixture[str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_evaluate_verb import cards_of

    words = ("evaluate", str(trained), "--count", str(COUNT), "--metrics", "swd,ms_ssim,copy_rate,fd,kd,ppl")
    assert main([*words]) == 0
    first = cards_of(trained)
    monkeypatch.setattr("limner.training.evaluation_forecast.expected_seconds", lambda work, speeds: {"swd": 1.0})
    assert main([*words]) == 0
    assert cards_of(trained) == first
    assert np.isfinite([card.value for card in first.values()]).all()
