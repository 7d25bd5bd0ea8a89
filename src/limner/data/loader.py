"""Batches from a dataset, as a pure function of (seed, images seen).

Image number i of a run, counted from the first ever shown, is row `i mod N` of epoch `i div N`'s permutation, mirrored
or not by a hash of i. So the order is the same across restarts, batch sizes and numbers of processes, and resuming
costs nothing. A batch is one vectorised gather of bytes from the memory-mapped array (from the GPU's memory where the
array fits there), made into floats on the training device: no decoding, no worker processes.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from limner.data.dataset import Dataset
from limner.errors import DataError, LimnerError
from limner.latents import Labels
from limner.pixels import to_floats
from limner.types import Attributes, Images

_ORDER, _MIRROR = 1, 2  # which stream of random numbers


class Loader:
    """Reals for training: bytes on disk to floats on `device`."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        mirror: bool = True,
        attributes: Sequence[str] = (),
        split: str = "train",
    ) -> None:
        self.dataset = dataset
        self.seed = seed
        self.salt = 0
        self.device = device
        self.dtype = dtype
        self.mirror = mirror
        self.rows = dataset.indices(split)
        if len(self.rows) == 0:
            raise DataError(f"{dataset.folder}: no image in split {split!r}; prepare it with some, or choose another")
        self.labels = choose_labels(dataset, attributes, self.rows)
        self._attributes = _attribute_columns(dataset, self.labels.names)
        self._arrays: dict[int, Tensor | None] = {}
        self._permutations: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, start: int, stop: int, resolution: int) -> tuple[Images, Attributes | None]:
        """Images number start … stop - 1 of the run at `resolution`, with their attributes where the model has any."""
        numbers = np.arange(start, stop, dtype=np.int64)
        rows = self.order(numbers)
        images = to_floats(self._gather(rows, resolution), self.dtype)
        if self.mirror:
            flips = torch.from_numpy(_hash_bits(self.seed, self.salt, _MIRROR, numbers)).to(self.device)
            images = torch.where(flips[:, None, None, None], images.flip(3), images)
        return images, self.attributes_of(rows)

    def attributes_of(self, rows: Int64[np.ndarray, "n"]) -> Attributes | None:
        """What the model is told of these rows of the dataset; None where it is told nothing."""
        if self._attributes is None:
            return None
        return torch.from_numpy(self._attributes[rows]).to(self.device, self.dtype)

    def order(self, numbers: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """Rows of the dataset shown as the given image numbers of the run."""
        epochs, places = np.divmod(numbers, len(self.rows))
        rows = np.empty_like(numbers)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = self.rows[self._permutation(int(epoch))[places[chosen]]]
        return rows

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            stream = np.random.SeedSequence([self.seed, self.salt, _ORDER, epoch])
            self._permutations[epoch] = np.random.Generator(np.random.PCG64(stream)).permutation(len(self.rows))
            while len(self._permutations) > 2:
                self._permutations.popitem(last=False)
        return self._permutations[epoch]

    def set_salt(self, salt: int) -> None:
        """Another order from now on: after a rollback, so that the batch that diverged is not met again."""
        self.salt = salt
        self._permutations.clear()

    def _gather(self, rows: np.ndarray, resolution: int) -> Tensor:
        array = self._array(resolution)
        if array is None:
            return torch.from_numpy(self.dataset.read(resolution, rows)).to(self.device)
        return array.index_select(0, torch.from_numpy(rows).to(array.device)).to(self.device, non_blocking=True)

    def _array(self, resolution: int) -> Tensor | None:
        """The images of a resolution as one tensor, on the GPU where it fits; None where they are encoded."""
        if resolution not in self._arrays:
            if resolution not in self.dataset.resolutions:
                have = ", ".join(map(str, self.dataset.resolutions))
                raise DataError(
                    f"{self.dataset.folder}: no images of {resolution}²; it has {have}; prepare it again larger"
                )
            self._arrays[resolution] = self._open(resolution)
        return self._arrays[resolution]

    def _open(self, resolution: int) -> Tensor | None:
        try:
            mapped = self.dataset.images(resolution)
        except DataError:
            return None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nobody writes to it
            array = torch.from_numpy(mapped)
        if self.device.type == "cuda" and array.numel() < 0.5 * torch.cuda.mem_get_info(self.device)[0]:
            return array.to(self.device)
        return array


def choose_labels(dataset: Dataset, names: Sequence[str], rows: np.ndarray, most: int = 1024) -> Labels:
    """The named attributes with up to `most` rows of the data, evenly taken, for a model to draw from."""
    unknown = [name for name in names if name not in dataset.attribute_names]
    if unknown:
        have = ", ".join(dataset.attribute_names) or "none"
        raise LimnerError(f"attributes: {dataset.folder} has no {unknown[0]!r}; it has: {have}")
    columns = _attribute_columns(dataset, tuple(names))
    if columns is None:
        return Labels()
    even = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)
    return Labels(tuple(names), columns[rows[even]].astype(bool))


def _attribute_columns(dataset: Dataset, names: tuple[str, ...]) -> np.ndarray | None:
    if not names:
        return None
    table = dataset.attributes()
    if table is None:
        raise DataError(f"{dataset.folder}: attributes.npy is missing; prepare the dataset again")
    return np.ascontiguousarray(table[:, [dataset.attribute_names.index(name) for name in names]])


def _hash_bits(seed: int, salt: int, stream: int, numbers: np.ndarray) -> np.ndarray:
    """One fair bit per number: the top bit of SplitMix64's mixing function (Steele et al. 2014), which has no state."""
    key = int(np.random.SeedSequence([seed, salt, stream]).generate_state(1, np.uint64)[0])
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(63)).astype(bool)
