"""Does the generator return its training faces? Fakes' distances to the nearest one, beside those of held-out faces.

A generator that stores its training images has the best Fréchet distance of all, so another number must catch it.
Whether a distance is small depends on the data, hence the comparison with faces that were held out: Meehan, Chaudhuri,
Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative Models", 2020, arXiv 2004.05675, who test whether
fakes lie nearer to the training set than held-out samples do.

    copy rate = share of fakes to whose nearest training face fewer than 1 % of the held-out faces lie nearer   (1)

Fresh faces have about 0.01 (exactly: the sub-value `expected`), returned ones 1. `nearer` is the chance that a fake
lies nearer than a held-out face, a half for fresh faces, which shows copying that is spread thin.

Distances are between images of 32², made by halving as in a dataset's pyramid, in the mirror as well, and are root mean
squared grey levels. They see returned and lightly changed images; they do not see one that was shifted, turned, cropped
anew or recoloured, and they see a plain backdrop as likeness: look at the closest pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from limner.data.layout import halve
from limner.errors import DataError, LimnerError
from limner.metrics.card import Measurement
from limner.metrics.images import check_images

PIXELS = 32
QUANTILE_DIVISOR = 100
"""a face is called a copy where fewer than 1/100 of the held-out faces lie nearer"""
HELD_OUT = 2000
"""held-out faces that are looked at, at most; the 1st percentile of them is known to a fifth"""

_IMAGES_AT_ONCE = 1024
_REFINED = 4
_ROUNDING = 1e-6
"""of the squared norms: what float32 products may be wrong by, generously"""


@runtime_checkable
class HoldsImages(Protocol):
    """Of `limner.data.dataset.Dataset`, what is used here."""

    def indices(self, split: str) -> np.ndarray: ...
    def read(self, resolution: int, indices: np.ndarray) -> np.ndarray: ...


class Nearest(NamedTuple):
    """For each of n images: its nearest among others."""

    squared: Int[Tensor, "n"]
    """sum over all values of squared differences of bytes, exact"""
    rows: Int[Tensor, "n"]
    """of the dataset"""
    mirrored: Bool[Tensor, "n"]
    """whether it is the mirror image of that row that lies so near"""


class Pair(NamedTuple):
    """A fake, by its number in the order added, and its nearest training face, by its row of the dataset."""

    fake: int
    row: int
    mirrored: bool
    distance: float
    """root mean squared difference at 32², grey levels"""


def shrink(images: UInt8[Tensor, "n r r 3"], pixels: int) -> UInt8[Tensor, "n p p 3"]:
    """Halved until the side is `pixels`, by the rule of a dataset's pyramid: so a returned image is at distance 0."""
    array = images.cpu().numpy()
    while array.shape[1] > pixels:
        array = halve(array)
    return torch.from_numpy(np.ascontiguousarray(array))


def nearest_images(
    images: UInt8[Tensor, "n p p 3"],
    dataset: HoldsImages,
    rows: np.ndarray,
    *,
    without: Int[Tensor, "n"] | None = None,
    poll: Callable[[], None] = lambda: None,
) -> Nearest:
    """Each image's nearest among `rows` of a dataset and their mirror images, read in blocks.

    Args:
        images: at a resolution p of the dataset.
        dataset: read at resolution p.
        rows: of the dataset.
        without: for each image a row that does not count, such as its own.
        poll: called between blocks; may raise, to stop.
    """
    found = Nearest(
        torch.full((len(images),), torch.iinfo(torch.int64).max),
        torch.full((len(images),), -1),
        torch.zeros(len(images), dtype=torch.bool),
    )
    for start in range(0, len(rows), _IMAGES_AT_ONCE):
        some = rows[start : start + _IMAGES_AT_ONCE]
        block = torch.from_numpy(np.array(dataset.read(images.shape[1], some)))
        both = torch.cat([block, block.flip(2)]).flatten(1)
        names = torch.from_numpy(np.concatenate([some, some]).astype(np.int64))
        mirrored = torch.arange(len(both)) >= len(block)
        for queries in torch.arange(len(images)).split(_IMAGES_AT_ONCE):
            poll()
            left_out = None if without is None else without[queries, None] == names
            _improve(found, queries, images[queries].flatten(1), both, names, mirrored, left_out)
    return found


def _improve(
    found: Nearest,
    queries: Tensor,
    images: Tensor,
    others: Tensor,
    names: Tensor,
    mirrored: Tensor,
    left_out: Tensor | None,
) -> None:
    """Write into `found` where one of `others` is nearer: the best few by float32 products, then exactly."""
    x, y = images.float() - 128, others.float() - 128
    norms, other_norms = x.square().sum(1, keepdim=True), y.square().sum(1)
    about = torch.addmm(norms + other_norms, x, y.T, alpha=-2)
    if left_out is not None:
        about.masked_fill_(left_out, torch.inf)
    values, places = about.topk(min(_REFINED, len(others)), dim=1, largest=False)
    slack = _ROUNDING * (norms + other_norms.max())
    hopeful = (values - slack < found.squared[queries, None]) & values.isfinite()
    which, column = hopeful.nonzero(as_tuple=True)
    exact = torch.full(places.shape, torch.iinfo(torch.int64).max)
    exact[which, column] = (images[which].int() - others[places[which, column]].int()).square().sum(1)
    smallest, column = exact.min(dim=1)
    better = smallest < found.squared[queries]
    place = places.gather(1, column[:, None])[better, 0]
    found.squared[queries[better]] = smallest[better]
    found.rows[queries[better]] = names[place]
    found.mirrored[queries[better]] = mirrored[place]


class CopyRate:
    """Equation (1) of fakes that arrive in batches; 3 kB are kept of each."""

    def __init__(self, dataset: HoldsImages, *, resolution: int, seed: int = 0, held_out: int = HELD_OUT) -> None:
        """Of fakes of `resolution`, against the split "train" of a dataset.

        Args:
            dataset: what the model was trained on; its resolutions include 32, or `resolution` where that is less.
            resolution: side of the fakes, pixels.
            seed: of the choice of held-out faces.
            held_out: how many of the splits "valid" and "test" to compare with, at most.

        Raises:
            DataError: fewer than two training images.
        """
        self._dataset = dataset
        self._pixels = min(PIXELS, resolution)
        self._training = dataset.indices("train")
        if len(self._training) < 2:
            raise DataError("copy_rate: the dataset has no training images to be copied; measure it on another dataset")
        self._held_out, self._own_rows = self._choose(seed, held_out)
        self._fakes: list[Tensor] = []
        self._found: Nearest | None = None

    def comparisons(self, fakes: int) -> int:
        """Return how many pairs of an image and a training face `result` compares, for so many fakes."""
        return (fakes + len(self._held_out)) * len(self._training)

    def add_fakes(self, images: Tensor) -> None:
        """Add a batch of uint8 [n, r, r, 3]."""
        check_images(images, "fakes")
        self._fakes.append(shrink(images, self._pixels))

    def result(self, poll: Callable[[], None] = lambda: None) -> Measurement:
        """The rate, the two sets' median distances, and what fresh faces would have.

        Raises:
            LimnerError: no fakes.
        """
        if not self._fakes:
            raise LimnerError("copy_rate: no fakes; add at least one")
        held_out = torch.from_numpy(np.array(self._dataset.read(self._pixels, self._held_out)))
        own = torch.from_numpy(self._held_out) if self._own_rows else None
        near = nearest_images(held_out, self._dataset, self._training, without=own, poll=poll)
        self._found = nearest_images(torch.cat(self._fakes), self._dataset, self._training, poll=poll)
        values = copy_values(self._found.squared, near.squared)
        scale = 3 * self._pixels**2
        for name in ("median", "held_out_median", "threshold"):
            values[name] = (values[name] / scale) ** 0.5
        if values["held_out_median"] > 0:
            values["ratio"] = values["median"] / values["held_out_median"]
        return Measurement(
            value=values.pop("rate"),
            values=values,
            settings={
                "pixels": self._pixels,
                "distance": "root mean square, grey levels, mirrored too",
                "training_images": len(self._training),
                "held_out": len(self._held_out),
                "held_out_from": "training images, each without itself" if self._own_rows else "valid and test",
                "quantile": 1 / QUANTILE_DIVISOR,
            },
            count_reals=len(self._training),
        )

    def closest(self, count: int = 16) -> list[Pair]:
        """After `result`: the fakes nearest to a training face, nearest first, each training face once.

        Raises:
            LimnerError: `result` was not asked for yet.
        """
        if self._found is None:
            raise LimnerError("copy_rate: pairs are known after result(); call that first")
        pairs: dict[int, Pair] = {}
        for fake in self._found.squared.argsort(stable=True).tolist():
            row = int(self._found.rows[fake])
            distance = (int(self._found.squared[fake]) / (3 * self._pixels**2)) ** 0.5
            pairs.setdefault(row, Pair(fake, row, bool(self._found.mirrored[fake]), distance))
            if len(pairs) >= count:
                break
        return list(pairs.values())

    def _choose(self, seed: int, most: int) -> tuple[np.ndarray, bool]:
        """Rows of held-out faces, and whether they are training images for want of others."""
        rows = np.concatenate([self._dataset.indices("valid"), self._dataset.indices("test")])
        own = len(rows) < QUANTILE_DIVISOR
        rows = self._training if own else rows
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        return np.sort(rows[order[:most].numpy()]), own


def copy_values(fakes: Tensor, held_out: Tensor) -> dict[str, float]:
    """Equation (1) and what stands beside it, of squared nearest distances: "rate", "expected", "nearer", "threshold",
    "median", "held_out_median" (the last three squared)."""
    near = held_out.sort().values
    last = (len(near) + QUANTILE_DIVISOR - 1) // QUANTILE_DIVISOR - 1
    below, not_above = (torch.searchsorted(near, fakes, right=right).double() for right in (False, True))
    return {
        "rate": float((fakes <= near[last]).double().mean()),  # (1)
        "expected": (last + 1) / (len(near) + 1),
        "nearer": 1 - float((below + not_above).mean()) / (2 * len(near)),
        "threshold": float(near[last]),
        "median": float(fakes.double().median()),
        "held_out_median": float(near.double().median()),
    }
