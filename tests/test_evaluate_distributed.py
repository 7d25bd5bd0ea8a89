"""Two processes measure what one does, to the last bit; trouble in one ends both, each with its line."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.cli import main
from limner.data.dataset import open_dataset
from limner.latents import Labels
from limner.metrics.card import Card
from limner.metrics.evaluate import evaluate_model
from limner.training.distributed import World
from limner.training.log import read_events
from limner.training.team import WorldTeam
from test_code_recovery import NAMED, PAPER, Coded, Eye
from test_distributed import Pair
from test_evaluate import OF_FEATURES, Painter, Pooling, Shades
from test_reconstruction import Copyist
from test_turning import BOTH, Sight, Turner

METRICS = ("swd", "ms_ssim", *OF_FEATURES, "ppl", "copy_rate")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    two = Pair()
    yield two
    two.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Stumbling(Painter):
    """Fails at its n-th batch."""

    def __init__(self, at: int) -> None:
        super().__init__(16)
        self.at = at

    def generate(self, latents: Tensor) -> Tensor:
        if len(self.sizes) == self.at:
            raise ValueError("stumbled over\nits own feet")
        return super().generate(latents)


def measure(
    world: World, folder: Path, cache: Path, count: int, batch_size: int, metrics: tuple[str, ...] = METRICS
) -> tuple[list[Card], list[int]]:
    """The cards, and how many images this process looked at in each batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMNER_CACHE", str(cache))
        looks = Pooling()
        cards = evaluate_model(
            Painter(16),
            open_dataset(folder),
            metrics=metrics,
            count=count,
            split="train",
            weights_name="ema",
            images_seen=0,
            extractor=looks,
            batch_size=batch_size,
            team=WorldTeam(world),
        )
    return cards, looks.looked


@pytest.mark.parametrize(("count", "batch_size"), [(64, 8), (50, 8), (21, 4), (9, 64)])
def test_two_processes_measure_what_one_does(
    pair: Pair, tiny_dataset_folder: Path, cache: Path, count: int, batch_size: int
) -> None:
    """Whole and ragged last batches, an odd number of batches, and one batch for both."""
    (first, first_looked), (second, second_looked) = pair(measure, tiny_dataset_folder, cache, count, batch_size)
    alone, looked = measure(World(), tiny_dataset_folder, cache, count, batch_size)
    assert [card.metric for card in alone] == list(METRICS)
    assert first == alone
    assert second == []
    assert sum(first_looked) + sum(second_looked) == sum(looked) == 2 * count
    assert abs(len(first_looked) - len(second_looked)) <= 2


def test_both_agree_on_what_the_cache_knows(pair: Pair, tiny_dataset_folder: Path, cache: Path) -> None:
    """Only the first process has the file: the others take its word, and nobody reads a real."""
    others = cache.with_name("empty")
    (kept, _), (_, looked) = pair(measure, tiny_dataset_folder, cache, 20, 4, ("fd",))
    assert len(looked) == 4
    known, unaware = pair(measure_with_own_cache, tiny_dataset_folder, [cache, others], 20, 4)
    assert known[0] == kept
    assert (len(known[1]), len(unaware[1])) == (3, 2)


def measure_with_own_cache(world: World, folder: Path, caches: list[Path], count: int, batch_size: int) -> Any:
    return measure(world, folder, caches[world.rank], count, batch_size, ("fd",))


def stumble(world: World, folder: Path, rank: int) -> None:
    model = Stumbling(1) if world.rank == rank else Painter(16)
    evaluate_model(
        model,
        open_dataset(folder),
        count=32,
        split="train",
        weights_name="ema",
        images_seen=0,
        batch_size=4,
        team=WorldTeam(world),
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_trouble_in_one_ends_both(pair: Pair, tiny_dataset_folder: Path, rank: int) -> None:
    answers = pair(stumble, tiny_dataset_folder, rank)
    assert answers[rank] == "ValueError: stumbled over\nits own feet"
    assert answers[1 - rank] == f"PeerLostError: process {rank} of 2 ended: stumbled over its own feet"


def cards_of(world: World, folder: Path, model: Any, **chosen: Any) -> list[Card]:
    named = {"split": "train", "weights_name": "ema", "images_seen": 0}
    return evaluate_model(model, open_dataset(folder), **named, **chosen, team=WorldTeam(world))


def conditional(world: World, folder: Path) -> list[Card]:
    model = Shades(Labels(("warm",), np.zeros((2, 1), bool)))
    return cards_of(world, folder, model, metrics=("swd",), count=30, batch_size=4)


def test_every_fake_is_asked_for_its_own_attributes(pair: Pair, tiny_dataset_folder: Path) -> None:
    first, _ = pair(conditional, tiny_dataset_folder)
    assert first == conditional(World(), tiny_dataset_folder)


def with_codes(world: World, folder: Path) -> list[Card]:
    coded = Coded(NAMED, PAPER[0])
    return cards_of(world, folder, coded, metrics=("code_recovery",), count=50, probe=Eye(), batch_size=4)


def encoding(world: World, folder: Path) -> list[Card]:
    copyist = Copyist(("warm",), wrong=0.1)
    return cards_of(world, folder, copyist, metrics=("reconstruction",), count=50, batch_size=4)


def turning(world: World, folder: Path) -> list[Card]:
    return cards_of(world, folder, Turner(), metrics=BOTH, count=50, probe=Sight(), batch_size=7)


@pytest.mark.parametrize("measured", [with_codes, encoding, turning])
def test_codes_photos_and_frames_stay_with_their_images(pair: Pair, tiny_dataset_folder: Path, measured: Any) -> None:
    first, second = pair(measured, tiny_dataset_folder)
    assert first == measured(World(), tiny_dataset_folder)
    assert (first[0].value > 0.9, second) == (True, [])


def command(world: World, words: list[str], cache: str) -> tuple[int, str, str]:
    """A command's exit code and what it wrote to both streams."""
    torch.set_num_threads(1)
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("LIMNER_CACHE", cache)
        return main(words), out.getvalue(), err.getvalue()


def test_the_verb_prints_and_writes_once(pair: Pair, tiny_dataset_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["--width", "4", "--latent-dim", "4", "--batch-size", "8", "--kimg", "0.016", "--metrics-count", "16"]
    train = ["train", "dcgan", "--data", str(tiny_dataset_folder), "--out", str(run), *small]
    assert command(World(), train, str(tmp_path))[0] == 0
    evaluate = ["evaluate", str(run), "--count", "40", "--extractor", "none"]
    (code, out, err), (other_code, other_out, other_err) = pair(command, evaluate, str(tmp_path))
    assert (code, other_code, other_out, other_err) == (0, 0, "", ""), err
    assert all(name in out for name in ("swd_40", "ms_ssim_40", "copy_rate_40"))
    files = {path: json.loads(path.read_text()) for path in sorted((run / "metrics").glob("*_40-train-ema.json"))}
    assert len(files) == 3
    events = [event["name"] for event in read_events(run / "log.jsonl") if event["event"] == "metric"]
    assert events.count("swd_40") == 1
    assert command(World(), evaluate, str(tmp_path))[0] == 0
    assert {path: json.loads(path.read_text()) for path in files} == files
