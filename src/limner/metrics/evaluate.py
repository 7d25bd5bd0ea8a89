"""From a model and a dataset to metric cards, in batches: memory does not grow with the images, but for SWD's patches.

What is compared depends on (seed, count, split) only. Latents are drawn on the CPU and all at once, since a generator's
normals depend on how many are asked for at a time; so batch size, device and the metrics asked for change nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from limner.errors import DataError, DivergedError, LimnerError
from limner.latents import LatentSpace
from limner.metrics.card import Card, Measurement
from limner.metrics.images import check_images, check_pair
from limner.metrics.ms_ssim import MSSSIM
from limner.metrics.swd import SWD
from limner.pixels import to_bytes

QUANTISATION = "clip to [-1, 1], nearest of 256 levels"
"""what `limner.pixels.to_bytes` does"""


@runtime_checkable
class Metric(Protocol):
    """A number about reals and fakes that arrive in batches of uint8 [n, r, r, 3], the reals first."""

    def add_reals(self, images: Tensor) -> None: ...
    def add_fakes(self, images: Tensor) -> None: ...
    def result(self, poll: Callable[[], None]) -> Measurement: ...


METRICS: Mapping[str, Callable[[int, int, int], Metric]] = {"swd": SWD, "ms_ssim": MSSSIM}
"""name → metric, made of (resolution in pixels, count of each set, seed)"""


@runtime_checkable
class Generates(Protocol):
    """Of `limner.models.Model`, what is used here."""

    @property
    def resolution(self) -> int: ...
    @property
    def latents(self) -> LatentSpace: ...
    def generate(self, latents: Tensor) -> Tensor: ...


@runtime_checkable
class HasImages(Protocol):
    """Of `limner.data.dataset.Dataset`, what is used here."""

    @property
    def name(self) -> str: ...
    @property
    def crop(self) -> str: ...
    @property
    def resize(self) -> str: ...
    @property
    def manifest_hash(self) -> str: ...
    def indices(self, split: str) -> np.ndarray: ...
    def read(self, resolution: int, indices: np.ndarray) -> np.ndarray: ...


def nothing() -> None:
    """The `poll` of a caller who waits."""


def check_metrics(names: Sequence[str]) -> None:
    """Refuse names that are not in METRICS, with the nearest one that is."""
    if not names:
        raise LimnerError(f"metrics: none named; choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), METRICS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise LimnerError(f"metrics: {name!r} is not a metric; {hint}there are {', '.join(METRICS)}")


def evaluate_model(
    model: Generates,
    dataset: HasImages,
    *,
    metrics: Sequence[str] = ("swd", "ms_ssim"),
    count: int,
    split: str,
    seed: int = 0,
    weights_name: str,
    images_seen: int | None,
    model_name: str | None = None,
    batch_size: int = 64,
    poll: Callable[[], None] = nothing,
) -> list[Card]:
    """Compare a model's images with a dataset's: one card per metric, in the order asked.

    Args:
        model: in eval mode; its images are compared as bytes at its own resolution.
        dataset: holds that resolution.
        metrics: names in METRICS.
        count: images of each set; at most as many as the split has, and the card says how many were asked for.
        split: "train", "valid", "test" or "all": the reals are a seeded choice from it, without replacement.
        seed: of latents, reals, patches and directions.
        weights_name: "ema" or "raw", for the card.
        images_seen: by the model in training, for the card.
        model_name: for the card; the name of the class by default.
        batch_size: images generated at once.
        poll: called between batches and within long sums; may raise, to stop.

    Raises:
        LimnerError: unknown metric, count below 1, model in training mode.
        DataError: the split is empty, or the dataset lacks the model's resolution.
        DivergedError: the model's images are not finite.
        ResourceError: count too large for the memory.
    """
    check_metrics(metrics)
    if count < 1 or batch_size < 1:
        raise LimnerError(f"count {count}, batch_size {batch_size}: must be at least 1")
    if getattr(model, "training", False):
        raise LimnerError("the model is in training mode, where batches decide what it generates; call model.eval()")
    chosen = choose_reals(dataset, split, count, seed)
    meters = {name: METRICS[name](model.resolution, len(chosen), seed) for name in metrics}
    for images in _reals(dataset, model.resolution, chosen, batch_size):
        poll()
        for meter in meters.values():
            meter.add_reals(images)
    for images in _fakes(model, len(chosen), seed, batch_size):
        poll()
        for meter in meters.values():
            meter.add_fakes(images)
    return _cards(
        meters,
        poll,
        count_requested=count,
        count_reals=len(chosen),
        count_fakes=len(chosen),
        resolution=model.resolution,
        quantisation=QUANTISATION,
        resize=dataset.resize,
        crop=dataset.crop,
        dataset=dataset.name,
        dataset_sha256=dataset.manifest_hash,
        split=split,
        seed=seed,
        latents_seed=seed,
        model=model_name or type(model).__name__,
        weights=weights_name,
        images_seen=images_seen,
    )


def compare_images(
    reals: Tensor,
    fakes: Tensor,
    *,
    metrics: Sequence[str] = ("swd", "ms_ssim"),
    seed: int = 0,
    batch_size: int = 64,
    poll: Callable[[], None] = nothing,
    **about: str | int | None,
) -> list[Card]:
    """Compare two sets of images from anywhere: one card per metric.

    Each set is put in a seeded random order first, since `ms_ssim` pairs neighbours and files of one person are often
    neighbours. The order is the same for both sets.

    Args:
        reals: uint8 [n, r, r, 3].
        fakes: uint8 [n, r, r, 3], equally many.
        metrics: names in METRICS.
        seed: of the order, patches and directions.
        batch_size: images measured at once; does not change the result.
        poll: called between batches; may raise, to stop.
        about: fields of the card that this function cannot know: crop, resize, dataset, dataset_sha256, split, model,
            weights, images_seen, latents_seed, quantisation.

    Raises:
        LimnerError: unknown metric, a wrong type, layout or size, or unequal counts.
    """
    check_metrics(metrics)
    check_pair(reals, fakes)
    order = torch.randperm(len(reals), generator=torch.Generator().manual_seed(seed))
    meters = {name: METRICS[name](reals.shape[1], len(reals), seed) for name in metrics}
    for some in order.split(batch_size):
        poll()
        for meter in meters.values():
            meter.add_reals(reals[some.to(reals.device)])
            meter.add_fakes(fakes[some.to(fakes.device)])
    known = {
        "count_requested": len(reals),
        "count_reals": len(reals),
        "count_fakes": len(fakes),
        "resolution": reals.shape[1],
        "quantisation": "bytes as given",
        "seed": seed,
    }
    return _cards(meters, poll, **{**known, **about})


def choose_reals(dataset: HasImages, split: str, count: int, seed: int) -> np.ndarray:
    """int64 [min(count, size of the split)]: indices into the dataset, in random order, none twice."""
    indices = dataset.indices(split)
    if len(indices) == 0:
        raise DataError(f"{dataset.name}: split {split!r} has no images; choose another split")
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))
    return indices[order[:count].numpy()]


def _reals(
    dataset: HasImages, resolution: int, chosen: np.ndarray, batch_size: int
) -> Iterator[UInt8[Tensor, "n r r 3"]]:
    for start in range(0, len(chosen), batch_size):
        # a copy, as a memory-mapped array is read-only and torch has no such tensors
        yield torch.from_numpy(np.array(dataset.read(resolution, chosen[start : start + batch_size])))


def _fakes(model: Generates, count: int, seed: int, batch_size: int) -> Iterator[UInt8[Tensor, "n r r 3"]]:
    latents = model.latents.sample(count, torch.Generator().manual_seed(seed))
    for some in latents.split(batch_size):
        with torch.no_grad():
            images = model.generate(some.to(_device(model)))
        if not torch.isfinite(images).all():
            raise DivergedError("the model generates images that are not finite; go back to an earlier checkpoint")
        fakes = to_bytes(images).cpu()
        check_images(fakes, "fakes")
        if fakes.shape[1] != model.resolution:
            raise LimnerError(f"the model generates {fakes.shape[1]}² and calls itself {model.resolution}²")
        yield fakes


def _device(model: Generates) -> torch.device:
    if isinstance(model, torch.nn.Module):
        return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return torch.device("cpu")


def _cards(meters: Mapping[str, Metric], poll: Callable[[], None], **about: Any) -> list[Card]:
    cards = []
    for name, meter in meters.items():
        found = meter.result(poll)
        cards.append(
            Card(
                metric=name,
                value=found.value,
                values=found.values,
                settings=found.settings,
                extractor=found.extractor,
                extractor_sha256=found.extractor_sha256,
                **about,
            )
        )
    return cards
