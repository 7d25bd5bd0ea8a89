"""Copy rate: returned training images are found, fresh ones are not; nearest images against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import draw_blobs
from limner.data.dataset import Dataset
from limner.data.layout import halve
from limner.data.writer import DatasetWriter
from limner.errors import DataError, LimnerError
from limner.metrics import copies
from limner.metrics.copies import CopyRate, copy_values, nearest_images, shrink

COUNT = 900
TRAIN, VALID, TEST = 600, 150, 150


def faces(count: int, seed: int) -> np.ndarray:
    """Smooth pictures (n, 32, 32, 3): random 4×4 grids of colour blown up, which are all different."""
    grid = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(grid, 32, mode="bilinear", align_corners=True)
    return (255 * smooth).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def write(folder: Path, images: np.ndarray, splits: np.ndarray) -> Dataset:
    about = {"name": "faces", "crop": "none", "resize": "none", "source": {"made by": "tests"}}
    with DatasetWriter(folder, count=len(images), resolution=images.shape[1], **about) as writer:  # type: ignore[arg-type]
        writer.write(0, images)
        return writer.finish(splits=splits)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Rows in mixed order: a row's number says nothing of its split."""
    splits = np.repeat(np.arange(3, dtype=np.uint8), (TRAIN, VALID, TEST))
    order = np.random.default_rng(0).permutation(COUNT)
    return write(tmp_path_factory.mktemp("data") / "faces", faces(COUNT, 1), splits[order])


def training(dataset: Dataset, count: int) -> tuple[np.ndarray, Tensor]:
    rows = dataset.indices("train")[:count]
    return rows, torch.from_numpy(dataset.read(32, rows))


def rate(dataset: Dataset, fakes: Tensor, **rest: int) -> CopyRate:
    metric = CopyRate(dataset, resolution=fakes.shape[1], **rest)
    for some in fakes.split(70):
        metric.add_fakes(some)
    return metric


# --- nearest ---


@pytest.mark.parametrize("block", [9, 37, 1024])
def test_brute_force(dataset: Dataset, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_IMAGES_AT_ONCE", block)
    rows = dataset.indices("train")[:150]
    others = dataset.read(32, rows).astype(np.int64)
    queries = faces(12, 9)
    found = nearest_images(torch.from_numpy(queries), dataset, rows)
    for i, query in enumerate(queries.astype(np.int64)):
        plain = ((query - others) ** 2).sum((1, 2, 3))
        flipped = ((query - others[:, :, ::-1]) ** 2).sum((1, 2, 3))
        assert int(found.squared[i]) == min(plain.min(), flipped.min())
        assert int(found.rows[i]) == rows[np.minimum(plain, flipped).argmin()]
        assert bool(found.mirrored[i]) == (flipped.min() < plain.min())


def test_one_grey_level_in_one_pixel_is_told_apart(dataset: Dataset) -> None:
    """What float32 products cannot see: two training images that differ in one byte."""
    one = faces(1, 5)
    twins = np.concatenate([one, one])
    twins[1, 3, 4, 1] ^= 1
    folder = dataset.folder.with_name("twins")
    pair = write(folder, np.concatenate([twins, faces(30, 6)]), np.zeros(32, dtype=np.uint8))
    found = nearest_images(torch.from_numpy(twins), pair, pair.indices("train"))
    assert found.squared.tolist() == [0, 0]
    assert found.rows.tolist() == [0, 1]
    found = nearest_images(torch.from_numpy(twins), pair, pair.indices("train"), without=torch.tensor([0, 1]))
    assert found.squared.tolist() == [1, 1]
    assert found.rows.tolist() == [1, 0]


def test_shrinking_is_the_datasets_own() -> None:
    images, _ = draw_blobs(3, 128, seed=1)
    expected = halve(halve(images))
    assert np.array_equal(shrink(torch.from_numpy(images), 32).numpy(), expected)
    assert np.array_equal(shrink(torch.from_numpy(expected), 32).numpy(), expected)


# --- the rate ---


def test_returned_training_images_are_all_copies(dataset: Dataset) -> None:
    rows, images = training(dataset, 100)
    metric = rate(dataset, images.flip(0))
    found = metric.result()
    assert found.value == 1
    assert found.values["median"] == 0
    assert found.values["nearer"] == 1
    pairs = metric.closest(5)
    assert [pair.distance for pair in pairs] == [0] * 5
    assert all(rows[::-1][pair.fake] == pair.row and not pair.mirrored for pair in pairs)


@pytest.mark.parametrize("change", ["mirrored", "noise", "darker"])
def test_lightly_changed_training_images_are_copies(dataset: Dataset, change: str) -> None:
    _, images = training(dataset, 100)
    noise = torch.randint(-6, 7, images.shape, generator=torch.Generator().manual_seed(0))
    changed = {
        "mirrored": images.flip(2),
        "noise": (images.int() + noise).clamp(0, 255).byte(),
        "darker": (images * 0.97).round().byte(),
    }[change]
    metric = rate(dataset, changed)
    assert metric.result().value == 1
    assert all(pair.mirrored == (change == "mirrored") for pair in metric.closest(20))


def test_fresh_faces_have_the_expected_rate(dataset: Dataset) -> None:
    found = rate(dataset, torch.from_numpy(faces(900, 77))).result()
    expected = found.values["expected"]
    assert expected == pytest.approx(3 / 301)
    assert found.value == pytest.approx(expected, abs=0.015)
    assert found.values["nearer"] == pytest.approx(0.5, abs=0.06)
    assert found.values["ratio"] == pytest.approx(1, abs=0.03)
    assert found.settings["held_out_from"] == "valid and test"
    assert found.count_reals == TRAIN


def test_a_tenth_of_copies_is_a_tenth(dataset: Dataset) -> None:
    _, copied = training(dataset, 60)
    fakes = torch.cat([torch.from_numpy(faces(540, 78)), copied])
    metric = rate(dataset, fakes)
    assert metric.result().value == pytest.approx(0.1, abs=0.015)
    assert {pair.fake for pair in metric.closest(60)} == set(range(540, 600))


def test_larger_fakes_are_compared_at_32(tmp_path: Path) -> None:
    big = torch.nn.functional.interpolate(
        torch.from_numpy(faces(150, 3)).permute(0, 3, 1, 2).float(), 64, mode="bicubic"
    )
    images = big.clamp(0, 255).round().byte().permute(0, 2, 3, 1).contiguous()
    large = write(tmp_path / "large", images.numpy(), np.zeros(150, dtype=np.uint8))
    found = rate(large, images[:50]).result()
    assert (found.value, found.values["median"]) == (1, 0)


def test_without_held_out_images_training_images_stand_in(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", faces(300, 1), np.zeros(300, dtype=np.uint8))
    fresh = rate(whole, torch.from_numpy(faces(400, 2))).result()
    assert fresh.settings["held_out_from"] == "training images, each without itself"
    assert fresh.values["held_out_median"] > 0
    assert fresh.value < 0.04
    assert rate(whole, torch.from_numpy(faces(300, 1)[:40])).result().value == 1


def test_duplicates_between_the_splits_do_not_hide_copies(tmp_path: Path) -> None:
    """5 % of the held-out faces are training faces: the threshold is 0, and what is at 0 is still a copy."""
    images = faces(400, 1)
    images[200:210] = images[:10]
    splits = np.repeat(np.array([0, 2], dtype=np.uint8), 200)
    leaky = write(tmp_path / "leaky", images, splits)
    found = rate(leaky, torch.from_numpy(images[:50])).result()
    assert (found.value, found.values["threshold"]) == (1, 0)
    assert rate(leaky, torch.from_numpy(faces(300, 5))).result().value == 0


def test_the_held_out_choice_is_seeded(dataset: Dataset) -> None:
    fakes = torch.from_numpy(faces(50, 4))
    one, same, other = (rate(dataset, fakes, held_out=40, seed=seed).result().values for seed in (0, 0, 1))
    assert one == same
    assert one["held_out_median"] != other["held_out_median"]


def test_values_in_closed_form() -> None:
    """Held-out at 1 … 200: fewer than 1 % lie nearer than 2, so 2 is a copy and 3 is not."""
    held_out = torch.arange(1, 201)
    values = copy_values(torch.tensor([1, 2, 3, 300]), held_out)
    assert values["rate"] == 0.5
    assert values["expected"] == pytest.approx(2 / 201)
    assert values["threshold"] == 2
    assert copy_values(held_out, held_out)["nearer"] == pytest.approx(0.5)
    assert copy_values(torch.tensor([0, 1000]), held_out)["nearer"] == pytest.approx(0.5)


def test_refusals_and_polls(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(LimnerError, match="no fakes"):
        CopyRate(dataset, resolution=32).result()
    metric = rate(dataset, torch.from_numpy(faces(4, 4)))
    with pytest.raises(LimnerError, match="after result"):
        metric.closest()
    calls = []
    metric.result(lambda: calls.append(1))
    assert len(calls) == 2
    with pytest.raises(LimnerError, match="bytes"):
        metric.add_fakes(torch.zeros(2, 32, 32, 3))
    test_only = write(tmp_path / "test", faces(5, 1), np.full(5, 2, dtype=np.uint8))
    with pytest.raises(DataError, match="no training images"):
        CopyRate(test_only, resolution=32)
