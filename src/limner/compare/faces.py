"""Faces of several models for the same seeds and the same attribute rows; attributes and codes turned; photos
reconstructed. All through the averaged weights, all uint8 [n, r, r, 3].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from limner.compare.contenders import Contender, Group
from limner.data.dataset import Dataset, open_dataset
from limner.errors import LimnerError
from limner.heads import default_heads
from limner.latents import AttributeRows, Categorical, Gaussian, Part, Uniform
from limner.models import Model
from limner.models.base import Encodes
from limner.pixels import to_bytes, to_floats
from limner.training.sheets import generate
from limner.types import Latents

SHEET_FACES = 24
STRIP_LATENTS = 3
RECONSTRUCTED = 8
_FLIPPED_LATENTS = 8
"""over so many, what a flip changes is averaged"""
_TURNS = 7
"""values of a continuous code that are shown"""


@dataclass(frozen=True)
class Cast:
    """The rows of the data that every model is asked for: the attributes and, where the data is at hand, the photos."""

    names: tuple[str, ...]
    attributes: np.ndarray
    """[n, a], 0 or 1"""
    images: np.ndarray | None = None
    split: str = ""
    """that they are of, where the data is at hand"""

    def rows(self, names: Sequence[str]) -> torch.Tensor | None:
        """[n, len(names)] float; None where the data does not tell all of these."""
        if not set(names) <= set(self.names):
            return None
        columns = [self.names.index(name) for name in names]
        return torch.from_numpy(self.attributes[:, columns].astype(np.float32))


@dataclass(frozen=True)
class Flip:
    """One attribute without and with, all else kept: `faces` [2, l, r, r, 3] and the mean absolute change of a pixel's
    value, as a share of its range.
    """

    faces: np.ndarray
    change: float


@dataclass(frozen=True)
class Turn:
    """One code turned through its values: `faces` [l, v, r, r, 3], a row a latent."""

    name: str
    what: str
    faces: np.ndarray


def choose_cast(groups: Sequence[Group], count: int = SHEET_FACES, seed: int = 0) -> Cast:
    """`count` rows of the runs' data, held-out ones where there are enough; where the data is not at hand any more,
    attribute rows that the first conditional model keeps.
    """
    run = groups[0].runs[0]
    rng = np.random.default_rng(seed)
    dataset = _data_of(run)
    if dataset is not None:
        split = next((name for name in ("test", "valid", "train") if len(dataset.indices(name)) >= count), "all")
        chosen = _pick(dataset.indices(split), count, rng)
        known = dataset.attributes()
        rows = np.zeros((count, 0), np.uint8) if known is None else np.asarray(known[chosen])
        names = () if known is None else dataset.attribute_names
        return Cast(names, rows, dataset.read(int(run.facts["resolution"]), chosen), split)
    labels = next((group.model.labels for group in groups if group.model.labels.rows is not None), None)
    if labels is None or labels.rows is None:
        return Cast((), np.zeros((count, 0), np.uint8))
    return Cast(labels.names, labels.rows[_pick(np.arange(len(labels.rows)), count, rng)])


def _pick(places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(places, count, replace=len(places) < count)


def _data_of(run: Contender) -> Dataset | None:
    """The data a run was trained on, where it is still there and still the same."""
    place = run.config["data"]
    try:
        heads = int(run.facts["resolution"]), int(run.config["heads"])
        dataset = open_dataset(Path(place) if place else default_heads(*heads))
    except LimnerError:
        return None
    return dataset if dataset.manifest_hash == run.facts["dataset"]["manifest_sha256"] else None


def faces_of(model: Model, latents: Latents) -> np.ndarray:
    """[n, d] → uint8 [n, r, r, 3]."""
    device = next(model.parameters()).device
    return to_bytes(generate(model, latents, device)).cpu().numpy()


def latents_of(model: Model, cast: Cast, count: int) -> Latents:
    """[count, d] of the seeds 0 … count - 1, with the cast's rows in every part that holds attributes."""
    latents = model.latents.sample_seeds(range(count))
    rows = cast.rows(model.labels.names) if model.labels.names else None
    if rows is None:
        return latents
    parts = {part.name: rows[:count] for part in model.latents.parts if isinstance(part, AttributeRows)}
    return model.latents.replace(latents, **parts) if parts else latents


def flips_of(group: Group, cast: Cast) -> dict[str, Flip]:
    """Of every attribute the model is told, or code named after one."""
    model = group.model
    part = next((part for part in model.latents.parts if isinstance(part, AttributeRows)), None)
    if part is None:
        return {}
    latents = latents_of(model, cast, _FLIPPED_LATENTS)
    rows = model.latents.split(latents)[part.name]
    found = {}
    for column, name in enumerate(model.labels.names):
        both = rows.repeat(2, 1)
        both[: len(rows), column], both[len(rows) :, column] = 0, 1
        faces = faces_of(model, model.latents.replace(latents.repeat(2, 1), **{part.name: both}))
        without, with_it = faces[: len(rows)], faces[len(rows) :]
        change = float(np.abs(with_it.astype(np.float32) - without).mean() / 255)
        found[name] = Flip(np.stack([without, with_it])[:, :STRIP_LATENTS], change)
    return found


def turns_of(group: Group, cast: Cast) -> list[Turn]:
    """Of every code that is no attribute's: each value of a categorical one, a continuous one from end to end."""
    model = group.model
    parts = [model.latents.part(name) for name in group.code_parts]
    latents = latents_of(model, cast, STRIP_LATENTS)
    return [_turn(model, latents, part) for part in parts if not isinstance(part, AttributeRows)]


def _turn(model: Model, latents: Latents, part: Part) -> Turn:
    values, what = _values_of(part)
    steps = len(values)
    latents = latents.repeat_interleave(steps, 0)
    faces = faces_of(model, model.latents.replace(latents, **{part.name: values.repeat(STRIP_LATENTS, 1)}))
    return Turn(part.name, what, faces.reshape(STRIP_LATENTS, steps, *faces.shape[1:]))


def _values_of(part: Part) -> tuple[torch.Tensor, str]:
    """[v, width] values to show of a code, and what they are."""
    if isinstance(part, Categorical):
        return torch.eye(part.width), f"its {part.width} values"
    low, high = (part.low, part.high) if isinstance(part, Uniform) else (-2.0, 2.0)
    if not isinstance(part, Uniform | Gaussian):
        raise LimnerError(f"compare: no way to turn a code of kind {type(part).__name__} ({part.name})")
    return torch.linspace(low, high, _TURNS)[:, None].expand(-1, part.width), f"from {low:g} to {high:g}"


def reconstructions_of(group: Group, cast: Cast) -> np.ndarray | None:
    """The first photos of the cast encoded and decoded; None for a model that cannot encode, or without photos."""
    model = group.model
    if not isinstance(model, Encodes) or cast.images is None:
        return None
    device = next(model.parameters()).device
    photos = to_floats(torch.from_numpy(cast.images[:RECONSTRUCTED])).to(device)
    rows = cast.rows(model.labels.names) if model.labels.names else None
    with torch.inference_mode():
        latents = model.encode(photos, None if rows is None else rows[:RECONSTRUCTED].to(device))
    return faces_of(model, latents)
