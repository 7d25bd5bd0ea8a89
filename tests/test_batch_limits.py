"""Batches that cannot be are refused before the first step, with a size that can."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kill_harness import KNOWN, make_dataset, tiny_config
from limner.cli import main
from limner.data.dataset import Dataset, open_dataset
from limner.data.loader import Loader
from limner.data.writer import DatasetWriter
from limner.errors import LimnerError, ResourceError
from limner.latents import NO_LABELS
from limner.models import MODELS
from limner.training import batch_limits, run
from limner.training.batch_limits import (
    LargestBatch,
    in_parts,
    kept_bytes_per_row,
    largest_batch,
    refuse_more_than_the_memory,
    rows_that_fit,
)
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.memory import Budget
from limner.training.rehearsing import Answer
from limner.training.settling import outline
from limner.training.trainer import Recipe, Trainer

IMAGES = 6000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 16²: 6,000 images to train on and 100 to test."""
    folder = tmp_path_factory.mktemp("data") / "noise"
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES + 100, 16, 16, 3), dtype=np.uint8)
    with DatasetWriter(
        folder, name="noise", count=len(pixels), resolution=16, crop="none", resize="none", source={"made by": "tests"}
    ) as writer:
        writer.write(0, pixels)
        writer.finish(splits=np.repeat(np.array([0, 2], np.uint8), [IMAGES, 100]))
    return folder


def train(dataset: Path, out: Path, model: str, *more: str) -> int:
    words = ["--data", str(dataset), "--out", str(out), "--device", "cpu", "--metrics", "--attributes", "none"]
    return main(["train", model, *words, *more])


def config_of(name: str, **settings: Any) -> TrainConfig[Any]:
    config = TrainConfig(model=MODELS[name].Config(), resolution=16, batch_size=64, kimg=1000.0, precision="fp32")
    return dataclasses.replace(config, **settings)


# --- more than the data have --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


def test_a_batch_of_a_hundred_million_is_refused_at_once(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "dcgan", "--data", str(few), "--resolution", "16", "--batch-size", "99999999"]
    assert main([*words, "--out", str(out)]) == 2
    pictures = len(open_dataset(few).indices("train"))
    assert capsys.readouterr().err == (
        f"limner: batch size 99999999 is more than 10 times the {pictures} images to train on; "
        f"use --batch-size {pictures} or less\n"
    )
    assert not out.exists()


def test_a_plan_refuses_it_too(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "dcgan", "--data", str(few), "--resolution", "16", "--batch-size", "99999999"]
    assert main(words) == 2
    assert "more than 10 times the" in capsys.readouterr().err


def test_the_batches_of_a_model_that_grows_count_as_well(few: Path, tmp_path: Path) -> None:
    config = tiny_config("progan", few)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, batch_sizes=(512,)), batch_size=None)
    with pytest.raises(LimnerError, match="batch size 512 is more than 10 times"):
        run.train(KNOWN["progan"], config, tmp_path / "run")


def test_a_few_times_the_data_are_allowed(few: Path, tmp_path: Path) -> None:
    pictures = len(open_dataset(few).indices("train"))
    config = dataclasses.replace(tiny_config("dcgan", few), batch_size=2 * pictures, kimg=0.05)
    run.train(KNOWN["dcgan"], config, tmp_path / "run")


# --- more than fits -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_and_what_is_named_instead_fits(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--memory", "700MB", "--kimg", "0.001", "--sample-kimg", "100")
    assert train(dataset, tmp_path / "run", "dcgan", *small, "--batch-size", "6000") == 5
    err = capsys.readouterr().err
    said = err.strip().splitlines()[-1]
    found = re.fullmatch(
        r"limner: batch size 6000 at 16² needs about (.*), of 700 MB \(--memory\); use --batch-size (\d+) or less", said
    )
    assert found is not None, said
    assert 2 <= int(found[2]) < 6000
    assert not (tmp_path / "run").exists()
    assert train(dataset, tmp_path / "run", "dcgan", *small, "--batch-size", found[2]) == 0, capsys.readouterr().err


def test_parts_are_offered_where_they_train_the_same_model(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_limits, "find_budget", lambda *arguments, **named: Budget(7e8, 7e8, "700 MB (a test's)"))
    width = ("--width", "64", "--kimg", "6", "--sample-kimg", "100")
    assert train(dataset, tmp_path / "run", "began", *width, "--batch-size", "6000") == 5
    said = capsys.readouterr().err.strip().splitlines()[-1]
    found = re.search(r"use --batch-size (\d+) or less, or --micro-batch (\d+) \(the same training in parts\)$", said)
    assert found is not None, said
    assert found[1] == found[2]


def test_parts_that_are_too_large_are_named() -> None:
    model = outline(MODELS["began"], config_of("began"), NO_LABELS)
    said = batch_limits._refusal(model, LargestBatch(0, 16, 6000, 5000, 1.0), 1280, 2e9, Budget(1e9, 1e9, "1 GB"), 1)
    assert said == (
        "batch size 6000 in parts of 5000 at 16² needs about 2 GB, of 1 GB; use --micro-batch 1000 (the same training "
        "in parts)"
    )


def test_batches_that_fit_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_limits, "Rehearsals", None)
    for name in MODELS:
        small = config_of(name, preflight="off") if name == "hologan" else config_of(name, batch_size=8)
        refuse_more_than_the_memory(MODELS[name], small, NO_LABELS, World())


def test_without_a_pre_flight_only_what_is_certain_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_limits, "Rehearsals", None)
    monkeypatch.setattr(batch_limits, "find_budget", lambda *arguments, **named: Budget(1e9, 1e9, "1 GB"))
    batch = largest_batch(outline(MODELS["dcgan"], config_of("dcgan"), NO_LABELS), config_of("dcgan"), 1)
    fits, exceeds = int(0.9e9 / batch.bytes_per_row), int(1.1e9 / batch.bytes_per_row)
    off = config_of("dcgan", preflight="off", batch_size=fits)
    refuse_more_than_the_memory(MODELS["dcgan"], off, NO_LABELS, World())
    with pytest.raises(ResourceError, match="use --batch-size"):
        refuse_more_than_the_memory(MODELS["dcgan"], dataclasses.replace(off, batch_size=exceeds), NO_LABELS, World())


@pytest.mark.parametrize("name", MODELS)
def test_the_generous_estimate_is_above_what_an_iteration_keeps(name: str, tiny_dataset: Dataset) -> None:
    """Counted by autograd itself, on real tensors, in every phase."""
    config = config_of(name, batch_size=8)
    config = dataclasses.replace(config, model=MODELS[name].with_batch_size(config.model, 8))
    batch = largest_batch(outline(MODELS[name], config, NO_LABELS), config, 1)
    model = MODELS[name](config.model, 16, NO_LABELS)
    model.set_images_seen(batch.images_seen)
    loader = Loader(tiny_dataset, seed=0, device=torch.device("cpu"))
    trainer = Trainer(model, loader, Recipe(seed=0, batch_size=8), World())
    trainer.images_seen = batch.images_seen

    def most(rows: int) -> int:
        return max(kept_in(trainer, phase, rows, batch.resolution) for phase in trainer.phases)

    per_row = (most(16) - most(8)) / 8
    assert per_row <= batch_limits.GENEROUS * batch.bytes_per_row


def kept_in(trainer: Any, phase: Any, rows: int, resolution: int) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = trainer.batch(phase, 0, rows, resolution, 0, rows)
    trainer._hold_fixed_all_but(trainer.active(phase))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = phase.loss(batch)
    del loss
    return sum(kept.values())


def test_the_stage_that_takes_most_counts() -> None:
    config = dataclasses.replace(config_of("progan"), resolution=64, kimg=100_000.0)
    config = dataclasses.replace(config, model=MODELS["progan"].Config(batch_sizes=(4096, 16)))
    model = outline(MODELS["progan"], config, NO_LABELS)
    assert largest_batch(model, config, 1).resolution == 64 or largest_batch(model, config, 1).size == 4096
    few = dataclasses.replace(config, model=MODELS["progan"].Config(batch_sizes=(16,)))
    assert largest_batch(outline(MODELS["progan"], few, NO_LABELS), few, 1).resolution == 64


def test_rows_are_shared_by_processes_and_taken_in_parts() -> None:
    config = config_of("wgan-gp", batch_size=64)
    model = outline(MODELS["wgan-gp"], config, NO_LABELS)
    assert largest_batch(model, config, 4).rows == 16
    assert largest_batch(model, dataclasses.replace(config, micro_batch=5), 4).rows == 5
    assert largest_batch(model, dataclasses.replace(config, micro_batch=99_999_999), 4).rows == 16


@pytest.mark.parametrize("name", MODELS)
def test_outlines_tell_what_is_kept_of_an_image(name: str) -> None:
    config = config_of(name, resolution=32)
    model = outline(MODELS[name], config, NO_LABELS)
    model.set_images_seen(model.milestones()[-1])
    kept = kept_bytes_per_row(model, 32)
    assert 2 * 3 * 32**2 * 4 < kept < 1e8


def linear(base: float, per_row: float, seconds: float = 0.0, limit: float = float("inf")) -> Any:
    asked: list[int] = []

    def ask(images_seen: int, batch_size: int, micro_batch: int, timed: bool) -> Answer | None:
        asked.append(batch_size)
        peak = float(base + per_row * batch_size)
        return None if peak > limit else Answer(peak, seconds * batch_size, "a", seconds * batch_size)

    ask.asked = asked  # type: ignore[attr-defined]
    return ask


def test_a_line_through_the_last_two_tries_tells_what_fits() -> None:
    batch = LargestBatch(0, 16, 10_000, 10_000, 1.0)
    ask = linear(100, 10)
    most, needed = rows_that_fit(batch, Budget(1100, 1100, ""), ask, 2)
    assert (most, needed) == (100, 100_100)
    assert max(ask.asked) <= 100, "what would not fit was tried"


def test_slow_batches_are_not_tried_whole() -> None:
    batch = LargestBatch(0, 16, 10_000, 10_000, 1.0)
    ask = linear(0, 10, seconds=0.1)
    assert rows_that_fit(batch, Budget(1e6, 1e6, ""), ask, 2) == (10_000, 100_000)
    assert max(ask.asked) == 32
    assert rows_that_fit(batch, Budget(5e4, 5e4, ""), linear(0, 10, seconds=0.1), 2)[0] == 5_000


def test_where_nothing_fits() -> None:
    batch = LargestBatch(0, 16, 64, 64, 1.0)
    assert rows_that_fit(batch, Budget(10, 10, ""), linear(100, 10), 2)[0] == 0
    assert rows_that_fit(batch, Budget(1e9, 1e9, ""), linear(100, 10, limit=1), 2) == (0, float("inf"))
    model = outline(MODELS["dcgan"], config_of("dcgan"), NO_LABELS)
    said = batch_limits._refusal(model, batch, 0, float("inf"), Budget(10, 10, "10 bytes"), 1)
    assert said.endswith("not even the smallest batch fits: use a smaller --resolution or narrower networks")


def test_who_can_take_a_batch_in_parts() -> None:
    parts = {name for name in MODELS if in_parts(outline(MODELS[name], config_of(name), NO_LABELS))}
    assert parts == {"began", "hologan", "progan"}
