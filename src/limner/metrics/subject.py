"""What is measured and against what: a generator's images and a dataset's, in batches whose make-up is fixed.

What is compared depends on (seed, count, split) only. Latents are drawn on the CPU and all at once, since a generator's
normals depend on how many are asked for at a time; so batch size, device, processes and the metrics asked for change
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from limner.errors import DataError, DivergedError, LimnerError
from limner.latents import NO_LABELS, Labels, LatentSpace, Pose
from limner.metrics.codes import HasCodes, code_parts, code_values
from limner.metrics.images import check_images
from limner.models.base import Encodes
from limner.pixels import to_bytes, to_floats
from limner.types import Latents

QUANTISATION = "clip to [-1, 1], nearest of 256 levels"
"""what `limner.pixels.to_bytes` does"""


@runtime_checkable
class Generates(Protocol):
    """Of `limner.models.Model`, what is used here; `labels` too, where the latents have a part `attributes`."""

    @property
    def resolution(self) -> int: ...
    @property
    def latents(self) -> LatentSpace: ...
    def generate(self, latents: Tensor) -> Tensor: ...


Kind = Literal["conditional", "codes", "encodes", "poses"]


def kinds_of(model: object) -> frozenset[Kind]:
    """What a model can be asked beyond images: attributes to show, codes to mean something, photos to encode, angles to
    turn to."""
    kinds: set[Kind] = set()
    if isinstance(model, Generates) and "attributes" in model.latents:
        kinds.add("conditional")
    if code_parts(model):
        kinds.add("codes")
    if isinstance(model, Encodes):
        kinds.add("encodes")
    if isinstance(model, Generates) and pose_part(model.latents) is not None:
        kinds.add("poses")
    return frozenset(kinds)


def pose_part(latents: LatentSpace) -> Pose | None:
    """The part of the latents that turns what is made; None where there is none, or its yaw has no range."""
    pose = latents.pose
    return pose if pose is not None and pose.high[0] > pose.low[0] else None


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
    @property
    def attribute_names(self) -> tuple[str, ...]: ...
    def indices(self, split: str) -> np.ndarray: ...
    def read(self, resolution: int, indices: np.ndarray) -> np.ndarray: ...
    def attributes(self) -> np.ndarray | None: ...


def choose_reals(dataset: HasImages, split: str, count: int, seed: int) -> np.ndarray:
    """int64 [min(count, size of the split)]: indices into the dataset, in random order, none twice."""
    indices = dataset.indices(split)
    if len(indices) == 0:
        raise DataError(f"{dataset.name}: split {split!r} has no images; choose another split")
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))
    return indices[order[:count].numpy()]


def read_reals(dataset: HasImages, resolution: int, rows: np.ndarray) -> UInt8[Tensor, "n r r 3"]:
    """These images; a copy, as a memory-mapped array is read-only and torch has no such tensors."""
    return torch.from_numpy(np.array(dataset.read(resolution, rows)))


@dataclass(frozen=True)
class Asked:
    """What the generator is asked for: latents [n, d], and for a conditional model the attributes in them."""

    latents: Latents
    names: tuple[str, ...] = ()
    wanted: Float[Tensor, "n a"] | None = None
    source: str | None = None
    """for the card: where the attributes came from, and which"""
    codes: Int64[Tensor, "n c"] | None = None
    """for a model with codes, the values of its code variables"""


def ask(model: Generates, dataset: HasImages | None, chosen: np.ndarray | None, count: int, seed: int) -> Asked:
    """Latents for `count` fakes; fake i of a conditional model is asked for the attributes of real i, as in training.

    Where the dataset does not have these attributes, they are drawn from the rows kept in the checkpoint.
    """
    latents = model.latents.sample(count, torch.Generator().manual_seed(seed))
    if "attributes" not in model.latents:
        return Asked(latents, codes=_code_values(model, latents))
    names = _labels(model).names
    rows = None if dataset is None or chosen is None else _attributes(dataset, names, chosen)
    source = "rows kept in the checkpoint"
    if rows is not None:
        latents, source = model.latents.replace(latents, attributes=rows), "rows of the reals"
    wanted = model.latents.split(latents)["attributes"]
    return Asked(latents, names, wanted, f"{source}: {' '.join(names)}", _code_values(model, latents))


def _code_values(model: Generates, latents: Latents) -> Int64[Tensor, "n c"] | None:
    return code_values(model, latents) if isinstance(model, HasCodes) and model.code_parts else None


def _labels(model: Generates) -> Labels:
    labels = getattr(model, "labels", NO_LABELS)
    return labels if isinstance(labels, Labels) else NO_LABELS


def _attributes(dataset: HasImages, names: tuple[str, ...], rows: np.ndarray) -> Float[Tensor, "n a"] | None:
    values = dataset.attributes()
    if values is None or not names or not set(names) <= set(dataset.attribute_names):
        return None
    columns = [dataset.attribute_names.index(name) for name in names]
    return torch.from_numpy(np.asarray(values)[rows][:, columns].astype(np.float32))


@torch.no_grad()
def generate_fakes(model: Generates, latents: Latents) -> UInt8[Tensor, "n r r 3"]:
    """The model's images of these latents as bytes on the CPU.

    Raises:
        DivergedError: they are not finite.
        LimnerError: they are not of the resolution that the model says.
    """
    images = model.generate(latents.to(device_of(model)))
    if not torch.isfinite(images).all():
        raise DivergedError("the model generates images that are not finite; go back to an earlier checkpoint")
    fakes = to_bytes(images).cpu()
    check_images(fakes, "fakes")
    if fakes.shape[1] != model.resolution:
        raise LimnerError(f"the model generates {fakes.shape[1]}² and calls itself {model.resolution}²")
    return fakes


@torch.no_grad()
def reconstruct(
    model: Generates, dataset: HasImages, images: UInt8[Tensor, "n r r 3"], rows: np.ndarray
) -> UInt8[Tensor, "n r r 3"]:
    """What the model makes of photos once it has encoded them: images `rows` of the dataset, with their attributes.

    Raises:
        LimnerError: the model encodes no photos, or takes attributes that the dataset lacks.
        DivergedError: what it makes is not finite.
    """
    if not isinstance(model, Encodes):
        raise LimnerError("reconstruction: this model encodes no photos; it is a number of vae and vae-gan")
    attributes = None
    if "attributes" in model.latents:
        names = _labels(model).names
        attributes = _attributes(dataset, names, rows)
        if attributes is None:
            lacks = ", ".join(name for name in names if name not in dataset.attribute_names)
            raise LimnerError(
                f"reconstruction: {dataset.name} has no attributes {lacks}, which the model is told of every photo; "
                "leave reconstruction out, or give a dataset that has them"
            )
        attributes = attributes.to(device_of(model))
    return generate_fakes(model, model.encode(to_floats(images.to(device_of(model))), attributes))


def device_of(model: Generates) -> torch.device:
    """Where the model's weights are."""
    if isinstance(model, torch.nn.Module):
        return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return torch.device("cpu")
