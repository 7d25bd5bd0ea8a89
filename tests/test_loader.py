"""Batches as a function of (seed, images seen)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from limner.data.dataset import Dataset, open_dataset
from limner.data.loader import Loader, _hash_bits, choose_labels
from limner.data.writer import DatasetWriter
from limner.errors import DataError, LimnerError
from limner.pixels import to_bytes
from limner.types import Draws

CPU = torch.device("cpu")


def loader(dataset: Dataset, seed: int = 0, **options: object) -> Loader:
    return Loader(dataset, seed=seed, device=CPU, **options)  # type: ignore[arg-type]


def first(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def test_every_epoch_is_a_permutation_and_another_one(tiny_dataset: Dataset) -> None:
    order = loader(tiny_dataset).order(first(64 * 5)).reshape(5, 64)
    for epoch in order:
        assert sorted(epoch) == list(range(64))
    assert len({tuple(epoch) for epoch in order}) == 5


def test_order_is_a_function_of_seed_salt_and_number_alone(tiny_dataset: Dataset) -> None:
    whole = loader(tiny_dataset).order(first(300))
    assert np.array_equal(whole, loader(tiny_dataset).order(first(300)))
    late = loader(tiny_dataset)
    backwards = [late.order(np.array([number])) for number in range(299, -1, -1)]
    assert np.array_equal(whole, np.concatenate(backwards[::-1]))
    assert not np.array_equal(whole, loader(tiny_dataset, seed=1).order(first(300)))
    salted = loader(tiny_dataset)
    salted.order(first(10))
    salted.set_salt(1)
    assert not np.array_equal(whole, salted.order(first(300)))
    salted.set_salt(0)
    assert np.array_equal(whole, salted.order(first(300)))


@pytest.mark.parametrize("size", [1, 7, 60])
def test_batches_do_not_depend_on_their_size(tiny_dataset: Dataset, size: int) -> None:
    whole, rows = loader(tiny_dataset, attributes=("warm", "bright")).batch(0, 180, 16)
    other = loader(tiny_dataset, attributes=("warm", "bright"))
    parts = [other.batch(start, min(start + size, 180), 16) for start in range(0, 180, size)]
    assert torch.equal(whole, torch.cat([images for images, _ in parts]))
    assert rows is not None
    assert torch.equal(rows, torch.cat([attributes for _, attributes in parts if attributes is not None]))


def test_images_and_attributes_are_the_datasets_rows(tiny_dataset: Dataset) -> None:
    ours = loader(tiny_dataset, mirror=False, attributes=("left", "bright"))
    images, attributes = ours.batch(50, 90, 16)
    rows = ours.order(np.arange(50, 90))
    assert np.array_equal(to_bytes(images).numpy(), tiny_dataset.images(16)[rows])
    table = tiny_dataset.attributes()
    assert table is not None
    assert attributes is not None
    assert np.array_equal(attributes.numpy(), table[rows][:, [2, 0]])
    assert attributes.dtype == images.dtype == torch.float32


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_every_resolution_is_served(tiny_dataset: Dataset, resolution: int) -> None:
    images, attributes = loader(tiny_dataset).batch(0, 3, resolution)
    assert images.shape == (3, 3, resolution, resolution)
    assert attributes is None


def test_about_half_of_the_images_are_mirrored_and_always_the_same(tiny_dataset: Dataset) -> None:
    plain, _ = loader(tiny_dataset, mirror=False).batch(0, 640, 16)
    mirrored, _ = loader(tiny_dataset).batch(0, 640, 16)
    again, _ = loader(tiny_dataset).batch(0, 640, 16)
    assert torch.equal(mirrored, again)
    same = (mirrored == plain).flatten(1).all(1)
    flipped = (mirrored == plain.flip(3)).flatten(1).all(1)
    assert bool((same | flipped).all())
    assert 260 < int(flipped.sum()) < 380  # 320 ± 12.6: five standard deviations on either side


def test_mirror_bits_are_fair_and_follow_nothing() -> None:
    bits = _hash_bits(0, 0, 2, first(100_000)).astype(float)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / len(bits) ** 0.5
    for lag in (1, 2, 64, 202_599 % 1000):  # neighbours, and the same image an epoch later
        together = np.corrcoef(bits[:-lag], bits[lag:])[0, 1]
        assert abs(together) < 5 / len(bits) ** 0.5
    for other in (_hash_bits(1, 0, 2, first(100_000)), _hash_bits(0, 1, 2, first(100_000))):
        assert abs(np.corrcoef(bits, other)[0, 1]) < 5 / len(bits) ** 0.5


def test_splits_are_kept_apart(tmp_path: Path) -> None:
    pixels = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), dtype=np.uint8)
    with DatasetWriter(
        tmp_path / "d", name="d", count=10, resolution=4, crop="none", resize="none", source={}
    ) as writer:
        writer.write(0, pixels)
        writer.finish(splits=np.array([0, 1, 2, 0, 1, 2, 0, 0, 0, 1], dtype=np.uint8))
    dataset = open_dataset(tmp_path / "d")
    assert sorted(loader(dataset).order(first(5))) == [0, 3, 6, 7, 8]
    valid = loader(dataset, split="valid")
    assert len(valid) == 3
    assert sorted(to_bytes(valid.batch(0, 3, 4)[0])[:, 0, 0, 0].tolist()) == [1, 4, 9]


def test_a_batch_larger_than_the_dataset_runs_over_its_epochs(tiny_dataset: Dataset) -> None:
    rows = loader(tiny_dataset).order(np.arange(10, 10 + 200))
    assert max(np.bincount(rows, minlength=64)) <= 5
    assert min(np.bincount(rows, minlength=64)) >= 2


def test_draws_are_the_same_however_a_batch_is_split() -> None:
    def draws(start: int, stop: int) -> Draws:
        return Draws(torch.Generator().manual_seed(3), 10, start, stop)

    whole = draws(0, 10)
    uniform, normal = whole.uniform(1, 1, 1), whole.normal(2)
    assert uniform.shape == (10, 1, 1, 1)
    assert 0 <= float(uniform.min()) < float(uniform.max()) < 1
    for cut in (1, 4, 9):
        low, high = draws(0, cut), draws(cut, 10)
        assert torch.equal(uniform, torch.cat([low.uniform(1, 1, 1), high.uniform(1, 1, 1)]))
        assert torch.equal(normal, torch.cat([low.normal(2), high.normal(2)]))
    assert Draws(torch.Generator().manual_seed(3), 10, 0, 5, CPU, torch.float64).normal(1).dtype == torch.float64


def test_labels_are_rows_of_the_data(tiny_dataset: Dataset) -> None:
    labels = choose_labels(tiny_dataset, ("left", "warm"), first(64), most=16)
    table = tiny_dataset.attributes()
    assert table is not None
    assert labels.names == ("left", "warm")
    assert labels.rows is not None
    assert labels.rows.shape == (16, 2)
    everything = choose_labels(tiny_dataset, ("left", "warm"), first(64)).rows
    assert everything is not None
    assert np.array_equal(everything, table[:, [2, 1]].astype(bool))


def test_what_the_dataset_has_not_is_refused_with_what_it_has(tiny_dataset: Dataset) -> None:
    with pytest.raises(LimnerError, match=r"no 'Smiling'; it has: bright, warm, left"):
        loader(tiny_dataset, attributes=("Smiling",))
    with pytest.raises(DataError, match=r"no images of 64²; it has 4, 8, 16"):
        loader(tiny_dataset).batch(0, 2, 64)
    with pytest.raises(DataError, match=r"no image in split 'test'"):
        loader(tiny_dataset, split="test")
