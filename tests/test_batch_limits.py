"""Batches that cannot be are refused before anything is made, with a size that can."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from kill_harness import KNOWN, make_dataset, tiny_config
from limner.cli import main
from limner.data.dataset import open_dataset
from limner.errors import LimnerError, ResourceError
from limner.training import batch_limits, run
from limner.training.batch_limits import refuse_more_than_the_memory
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.memory import Budget


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


def test_a_batch_of_a_hundred_million_is_refused_at_once(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "dcgan", "--data", str(dataset), "--resolution", "16", "--batch-size", "99999999"]
    assert main([*words, "--out", str(out)]) == 2
    pictures = len(open_dataset(dataset).indices("train"))
    assert capsys.readouterr().err == (
        f"limner: batch size 99999999 is more than 10 times the {pictures} images to train on; "
        f"use --batch-size {pictures} or less\n"
    )
    assert not out.exists()


def test_a_plan_refuses_it_too(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "dcgan", "--data", str(dataset), "--resolution", "16", "--batch-size", "99999999"]
    assert main(words) == 2
    assert "more than 10 times the" in capsys.readouterr().err


def test_the_batches_of_a_model_that_grows_count_as_well(dataset: Path, tmp_path: Path) -> None:
    config = tiny_config("progan", dataset)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, batch_sizes=(512,)), batch_size=None)
    with pytest.raises(LimnerError, match="batch size 512 is more than 10 times"):
        run.train(KNOWN["progan"], config, tmp_path / "run")


def test_a_few_times_the_data_are_allowed(dataset: Path, tmp_path: Path) -> None:
    pictures = len(open_dataset(dataset).indices("train"))
    config = dataclasses.replace(tiny_config("dcgan", dataset), batch_size=2 * pictures, kimg=0.05)
    run.train(KNOWN["dcgan"], config, tmp_path / "run")


def refused(dataset: Path, name: str, free: float, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    """What is said where a process may take so many bytes and every batch is tried."""
    config: TrainConfig[Any] = dataclasses.replace(tiny_config(name, dataset), **settings)
    budget = Budget(free, free, "for the test")
    monkeypatch.setattr(batch_limits, "find_budget", lambda *arguments, **named: budget)
    monkeypatch.setattr(batch_limits, "_peak_of_an_update", lambda trainer, rows: 50_000_000 + 1_000_000 * rows)
    data = open_dataset(dataset)
    make = lambda: run._make_trainer(KNOWN[name], config, data, World())  # noqa: E731
    with pytest.raises(ResourceError) as caught:
        refuse_more_than_the_memory(config, World(), make)
    return str(caught.value)


def test_a_batch_that_the_memory_does_not_hold_names_one_that_fits(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(dataset, "dcgan", 150e6, monkeypatch, batch_size=4096)
    needs = "a pass over 4096 images needs about 4.15 GB of the 150 MB that a process may take"
    assert said == f"{needs}; use --batch-size 100 or less"


def test_where_parts_train_the_same_model_they_are_offered(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "or --micro-batch 100 for the same" in refused(dataset, "progan", 150e6, monkeypatch, batch_size=4096)
    said = refused(dataset, "progan", 150e6, monkeypatch, batch_size=8192, micro_batch=4096)
    assert said.endswith("use --micro-batch 100 or less")


def test_an_ordinary_batch_is_not_tried(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Any:
        raise AssertionError("it takes seconds")

    refuse_more_than_the_memory(tiny_config("dcgan", dataset), World(), never)


def test_measured_memory_tells_a_large_batch_from_a_small_one(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real process: what a trial finds grows with the images, and the size named is one that fits."""
    config = dataclasses.replace(tiny_config("dcgan", dataset), batch_size=2_000_000)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, width=16))
    data = open_dataset(dataset)
    make = lambda: run._make_trainer(KNOWN["dcgan"], config, data, World())  # noqa: E731
    with pytest.raises(ResourceError) as caught:
        refuse_more_than_the_memory(config, World(), make)
    found = re.search(r"use --batch-size (\d+) or less", str(caught.value))
    assert found is not None
    assert 100 < int(found[1]) < 2_000_000
