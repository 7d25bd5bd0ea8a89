"""Runs that go on beyond their goal, stop before it, or are asked for less."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kill_harness import KNOWN, final_digest, make_dataset, tiny_config
from limner.errors import LimnerError
from limner.training import run
from limner.training.config import TrainConfig, longer_decay, read_config
from limner.training.log import read_log

ITERATION = 4
"""images"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


def config_of(dataset: Path, iterations: int, **settings: Any) -> TrainConfig[Any]:
    """DCGAN whose learning rate falls by a cosine over the second half of the run."""
    return tiny_config("dcgan", dataset, iterations, decay_start_kimg=None, warmup_kimg=0.0, **settings)


def begun(dataset: Path, folder: Path, iterations: int = 4, **arguments: Any) -> Path:
    return run.train(KNOWN["dcgan"], config_of(dataset, iterations), folder, **arguments)


def go_on(folder: Path, iterations: int | None = None, **arguments: Any) -> Path:
    """Resume, to a goal of so many iterations where it is given."""
    model_class, config = read_config(folder / "config.json")
    if iterations is not None:
        config = dataclasses.replace(config, kimg=iterations * ITERATION / 1000)
    return run.resume(folder, model_class, config, **arguments)


def rates(folder: Path) -> dict[int, float]:
    """The generator's learning rate by images seen at the end of each tick, which is one iteration."""
    return {
        e["images"]: e["learning_rate"]["generator"] for e in read_log(folder / "log.jsonl") if e["event"] == "tick"
    }


def test_a_finished_run_whose_rate_decays_goes_on_as_in_a_longer_one(dataset: Path, tmp_path: Path) -> None:
    folder = begun(dataset, tmp_path / "run")
    go_on(folder, 8)
    longer = config_of(dataset, 8)
    full = longer.model.learning_rate
    after = {images: rate for images, rate in rates(folder).items() if images > 16}
    assert after == {n: pytest.approx(full * longer.learning_rate_factor(n - ITERATION)) for n in (20, 24, 28, 32)}
    assert json.loads((folder / "config.json").read_text())["kimg"] == 0.032
    resumed = [event for event in read_log(folder / "log.jsonl") if event["event"] == "resume"][-1]
    assert "kimg: 0.016 → 0.032" in resumed["changed"]
    assert any(line.startswith("the learning rate goes on as in a run of 0.032 kimg") for line in resumed["changed"])


def test_a_longer_run_is_exact_too(dataset: Path, tmp_path: Path) -> None:
    """Stopped after it was made longer, it ends with the same bits as one that was not stopped there."""
    straight, stopped = begun(dataset, tmp_path / "straight"), begun(dataset, tmp_path / "stopped")
    go_on(straight, 8)
    go_on(stopped, 8, stop_at=0.024)
    go_on(stopped)
    assert final_digest(stopped) == final_digest(straight)


def test_what_is_said_of_the_rate() -> None:
    short, long = config_of(Path("x"), 4), config_of(Path("x"), 8)
    assert longer_decay(short, long, 16) == (
        "the learning rate goes on as in a run of 0.032 kimg: from here on 1 of its full value, before 0.1, and its "
        "cosine decay ends at 0.032 kimg"
    )
    assert longer_decay(short, short, 16) is None
    assert longer_decay(dataclasses.replace(short, decay="none"), dataclasses.replace(long, decay="none"), 16) is None


def test_stopped_at_a_number_of_images_and_gone_on_with_it_is_the_same_run(dataset: Path, tmp_path: Path) -> None:
    whole = begun(dataset, tmp_path / "whole", 6)
    parts = begun(dataset, tmp_path / "parts", 6, stop_at=0.01)
    last = read_log(parts / "log.jsonl")[-1]
    assert (last["event"], last["images"], last["reason"]) == ("end", 12, "stopped at 0 kimg, as asked")
    assert json.loads((parts / "config.json").read_text())["kimg"] == 0.024, "the goal stays"
    assert (parts / "samples" / "images-000000000012.png").exists(), "there is a picture of what was reached"
    go_on(parts)
    assert final_digest(parts) == final_digest(whole)


@pytest.mark.parametrize(("stop_at", "says"), [(0.1, "beyond the run's goal"), (0.008, "seen already"), (-1.0, "seen")])
def test_a_moment_to_stop_at_that_cannot_be_is_refused(
    dataset: Path, tmp_path: Path, stop_at: float, says: str
) -> None:
    folder = begun(dataset, tmp_path / "run", 6, stop_at=0.008)
    with pytest.raises(LimnerError, match=says):
        go_on(folder, stop_at=stop_at)


def test_a_moment_to_stop_at_beyond_the_goal_makes_no_run(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(LimnerError, match="beyond the run's goal"):
        begun(dataset, tmp_path / "run", 6, stop_at=1.0)
    assert not (tmp_path / "run").exists()


def test_less_than_the_goal_is_refused_and_the_goal_stays(dataset: Path, tmp_path: Path) -> None:
    folder = begun(dataset, tmp_path / "run", 6, stop_at=0.008)
    before = (folder / "config.json").read_bytes()
    with pytest.raises(LimnerError, match=r"goal is 0\.024 kimg, and --kimg 0\.016 is less; .* --stop-at 0\.016"):
        go_on(folder, 4)
    assert (folder / "config.json").read_bytes() == before


def test_a_finished_run_says_how_to_train_it_further(dataset: Path, tmp_path: Path) -> None:
    folder = begun(dataset, tmp_path / "run")
    with pytest.raises(LimnerError, match=rf"reached its goal of 0\.016 kimg; .*resume {folder} --kimg 0\.024"):
        go_on(folder)
    assert f"resume {folder} --kimg 0.024" in (folder / "report.html").read_text()


def test_the_report_of_a_run_that_is_not_finished_goes_on_as_it_is(dataset: Path, tmp_path: Path) -> None:
    folder = begun(dataset, tmp_path / "run", 6, stop_at=0.008)
    page = (folder / "report.html").read_text()
    assert f"resume {folder}\n" in page
    assert "stopped at 0 kimg, as asked" in page
