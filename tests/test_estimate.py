"""What a run says of itself before its first step: time, epochs, disk, and what to do where that is too much."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from kill_harness import KNOWN, final_digest, make_dataset, tiny_config
from limner.data.dataset import open_dataset
from limner.latents import NO_LABELS
from limner.models import MODELS
from limner.training import pace, run
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.estimate import Estimate
from limner.training.forecast import Plan
from limner.training.log import read_log
from limner.training.pace import Pace, measure_pace
from limner.training.settling import outline, settle
from limner.training.trainer import Trainer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


def estimate(
    pictures: int = 10_000,
    speed: float = 100.0,
    name: str = "dcgan",
    speeds: dict[int, float] | None = None,
    **run: Any,
) -> Estimate:
    config: TrainConfig[Any] = TrainConfig(model=MODELS[name].Config(), **{"kimg": 100.0, "resolution": 32, **run})
    config = settle(MODELS[name], config, None, torch.device("cpu"))
    plan = Plan(model=outline(MODELS[name], config, NO_LABELS), config=config, out=Path("runs"))
    return Estimate(plan=plan, pace=Pace(speed, 32, 10**7, 1, speeds or {1: speed}), pictures=pictures)


# --- words --------------------------------------------------------------------------------------------------------


def test_time_epochs_and_disk_are_said() -> None:
    first, second = estimate().lines()
    assert first.startswith("estimate: about 16 min 40 s without metrics, until ")
    assert first.endswith("100 kimg at 100 images/s")
    assert second.startswith("estimate: each of the 10000 pictures is shown 10 times; disk ")


def test_the_disk_counts_checkpoints_and_sheets() -> None:
    few, many = estimate(), estimate(keep_checkpoints=30, checkpoint_kimg=1.0)
    assert many.plan.disk_with(10**7) - few.plan.disk_with(10**7) >= 25 * 10**7
    assert few.plan.disk_with(10**7) > 3 * 10**7


def test_the_threads_tried_are_said() -> None:
    assert "; 1 thread (7 with 2; --threads sets it)" in estimate(speeds={1: 100.0, 2: 7.0}).lines()[0]


def test_a_sensible_run_has_no_warning() -> None:
    assert estimate().warnings() == []


def test_few_pictures_shown_often_are_a_warning_with_a_way_out() -> None:
    (warning,) = estimate(pictures=236).warnings()
    assert warning.startswith("each of the 236 pictures is shown about 424 times: a model can memorize so few")
    assert warning.endswith("--kimg 23.6")
    kimg = float(warning.rsplit(" ", 1)[1])
    assert estimate(pictures=236, kimg=kimg).warnings() == [], "what is offered helps"


def test_a_run_of_days_is_a_warning_with_ways_out() -> None:
    (warning,) = estimate(speed=1.0).warnings()
    assert warning.startswith("this takes about 1 d 3 h; ")
    for way in ("--preset laptop", "--resolution", "--kimg 3.6 takes an hour", "limner resume"):
        assert way in warning


def test_of_a_model_that_grows_the_time_of_one_size_is_not_taken_for_all() -> None:
    found = estimate(name="progan", kimg=None)
    assert found.seconds is None
    assert "`limner plan` tries every size" in found.lines()[0]


# --- measuring ----------------------------------------------------------------------------------------------------


def test_a_run_says_it_before_its_first_step(dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tiny_config("dcgan", dataset, 50, tick_kimg=0.02, checkpoint_kimg=1.0, sample_kimg=1.0)
    folder = run.train(KNOWN["dcgan"], config, tmp_path / "run")
    lines = capfd.readouterr().err.splitlines()
    said = [line.startswith("estimate: ") for line in lines]
    assert said.index(True) < next(at for at, line in enumerate(lines) if " images/s | " in line)
    event = next(event for event in read_log(folder / "log.jsonl") if event["event"] == "estimate")
    assert event["images"] == 0
    assert event["times_shown"] == pytest.approx(0.2 * 1000 / 24, rel=0.5)
    assert event["seconds"] == pytest.approx(200 / event["images_per_second"], abs=0.1)


@pytest.mark.parametrize("name", ["dcgan", "restless"])
def test_the_run_is_the_same_with_and_without_the_measurement(dataset: Path, tmp_path: Path, name: str) -> None:
    digests = []
    for preflight in ("auto", "off"):
        config = tiny_config(name, dataset, 50, checkpoint_kimg=1.0, sample_kimg=1.0, preflight=preflight)
        folder = run.train(KNOWN[name], config, tmp_path / preflight)
        digests.append(final_digest(folder))
        events = [event["event"] for event in read_log(folder / "log.jsonl")]
        assert ("estimate" in events) == (preflight == "auto")
    assert digests[0] == digests[1]


def test_a_run_that_is_over_at_once_is_not_measured(dataset: Path, tmp_path: Path) -> None:
    folder = run.train(KNOWN["dcgan"], tiny_config("dcgan", dataset, 4), tmp_path / "run")
    assert "estimate" not in [event["event"] for event in read_log(folder / "log.jsonl")]


def test_a_resumed_run_is_estimated_by_its_own_ticks(
    dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config("dcgan", dataset, 50, checkpoint_kimg=1.0, sample_kimg=1.0)
    folder = run.train(KNOWN["dcgan"], config, tmp_path / "run", stop_at=0.1)
    capfd.readouterr()
    run.resume(folder, KNOWN["dcgan"], config)
    assert "0.1 kimg at " in next(line for line in capfd.readouterr().err.splitlines() if "estimate: about" in line)


def test_an_update_that_is_not_finite_measures_nothing(dataset: Path, tmp_path: Path) -> None:
    """The run itself meets it, and says so."""
    config = tiny_config("dcgan", dataset, 50, warmup_kimg=0.0)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, learning_rate=1e30))
    trainer = run._make_trainer(KNOWN["dcgan"], config, open_dataset(dataset), World())
    assert measure_pace(trainer, (1,)) is None


def growing_trainer(dataset: Path, resolution: int) -> Trainer:
    """ProGAN with narrow networks, on 16² at most as far as images are concerned."""
    config = tiny_config("progan", dataset, 50, warmup_kimg=0.0)
    return run._make_trainer(
        KNOWN["progan"], dataclasses.replace(config, resolution=resolution), open_dataset(dataset), World()
    )


def test_of_a_model_that_grows_the_largest_quick_side_is_timed(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_iteration", lambda trainer, rows, resolution: 0.1)
    found = measure_pace(growing_trainer(dataset, 16), (1,))
    assert found is not None
    assert found.resolution == 16
    monkeypatch.setattr(pace, "_iteration", lambda trainer, rows, resolution: 1.0 if resolution >= 8 else 0.01)
    found = measure_pace(growing_trainer(dataset, 16), (1,))
    assert found is not None
    assert found.resolution == 8, "and no larger one, which would take longer still"


def test_large_batches_are_timed_by_smaller_ones(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(tiny_config("dcgan", dataset, 50), batch_size=20)
    trainer = run._make_trainer(KNOWN["dcgan"], config, open_dataset(dataset), World())
    timed: list[int] = []

    def slow(trainer: Trainer, rows: int, resolution: int) -> float:
        timed.append(rows)
        return 0.2 * rows

    monkeypatch.setattr(pace, "_iteration", slow)
    found = measure_pace(trainer, (1,))
    assert found is not None
    assert found.images_per_second == pytest.approx(5.0)
    assert max(timed) == 4, "of the two, four, … that take no more than a second"
