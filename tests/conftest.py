"""What every test shares: run-time checks of all array shapes, one thread, and a tiny dataset."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import numpy as np
import pytest
import torch
from beartype._check.code import codemain

if TYPE_CHECKING:
    from limner.data.dataset import Dataset

# beartype draws which item of a list to check from Python's global generator, whose state runs keep and tests
# compare.
codemain.getrandbits = random.Random(0).getrandbits

# Nothing of limner is imported above: from here on every annotated shape is checked when its function is called.
jaxtyping.install_import_hook("limner", "beartype.beartype")
torch.set_num_threads(1)

ATTRIBUTE_NAMES = ("bright", "warm", "left")


@pytest.fixture(scope="session")
def tiny_dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 images of 16², smooth blobs, with attributes that can be seen in them. Splits: all train."""
    from limner.data.writer import DatasetWriter

    folder = tmp_path_factory.mktemp("data") / "tiny"
    images, attributes = draw_blobs(64, 16, seed=0)
    with DatasetWriter(
        folder,
        name="tiny",
        count=len(images),
        resolution=16,
        crop="none",
        resize="none",
        source={"made by": "tests"},
        attribute_names=ATTRIBUTE_NAMES,
    ) as writer:
        writer.write(0, images)
        writer.finish(attributes=attributes, splits=np.zeros(len(images), dtype=np.uint8))
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tiny_dataset_folder: Path) -> Dataset:
    from limner.data.dataset import open_dataset

    return open_dataset(tiny_dataset_folder)


def draw_blobs(count: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images (n, r, r, 3) uint8 of one soft spot each, and whether it is bright, warm, left (n, 3)."""
    rng = np.random.default_rng(seed)
    attributes = rng.integers(0, 2, (count, 3)).astype(np.uint8)
    bright, warm, left = (attributes[:, k, None, None] == 1 for k in range(3))
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    centre = np.where(left, 0.3, 0.7) + rng.uniform(-0.15, 0.15, (count, 1, 1))
    height = rng.uniform(0.3, 0.7, (count, 1, 1))
    spot = np.exp(-((x - centre) ** 2 + (y - height) ** 2) / 0.05) * np.where(bright, 1.0, 0.6)
    colours = np.where(warm[..., None], (1.0, 0.6, 0.2), (0.2, 0.6, 1.0)) * rng.uniform(0.8, 1.0, (count, 1, 1, 3))
    return (spot[..., None] * colours * 255).round().astype(np.uint8), attributes


def pytest_configure() -> None:
    """Let Ctrl-C arrive: a shell that starts the tests in the background has it ignored, by every child as well."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
