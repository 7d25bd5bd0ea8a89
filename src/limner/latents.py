"""What a generator is fed: one flat [n, d] tensor of named parts, each with its own prior.

Samples are drawn on the CPU from a `torch.Generator`, so that a seed gives the same faces on every device. Nobody who
samples, walks, edits or measures needs to ask which model it is: attributes, codes and poses are parts like any other.
"""

from __future__ import annotations

import base64
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limner.errors import LimnerError
from limner.types import Latents


def slerp(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], t: Float[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
    """Along the great circle from a (t = 0) to b (t = 1), row by row (Shoemake 1985; White 2016, arXiv:1609.04468).

    The angle is taken between directions, so rows need not have unit norm; rows of equal norm keep it all the way.
    Rows (nearly) parallel are interpolated linearly, which is the limit. Opposite rows have no single great circle
    and are refused.
    """
    a64, b64, t64 = a.double(), b.double(), t.double()
    direction_a = a64 / a64.norm(dim=1, keepdim=True).clamp_min(1e-300)
    direction_b = b64 / b64.norm(dim=1, keepdim=True).clamp_min(1e-300)
    # The half-angle form is exact near 0 and π, where the arc cosine of a dot product loses half its digits.
    angle = 2 * torch.atan2((direction_a - direction_b).norm(dim=1), (direction_a + direction_b).norm(dim=1))[:, None]
    if bool((angle > torch.pi - 1e-6).any()):
        raise LimnerError("slerp: two latents point in opposite directions, so no path between them is shortest")
    sine = angle.sin().clamp_min(1e-300)
    weight_a = torch.where(angle < 1e-6, 1 - t64, ((1 - t64) * angle).sin() / sine)
    weight_b = torch.where(angle < 1e-6, t64, (t64 * angle).sin() / sine)
    return (weight_a * a64 + weight_b * b64).to(a.dtype)


def lerp(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], t: Float[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
    """Along the straight line from a (t = 0) to b (t = 1), row by row."""
    return a + (b - a) * t.to(a.dtype)


@dataclass(frozen=True)
class Labels:
    """The attributes a conditional model is told: their names, and rows of real data to draw from when nobody says.

    Rows of the data rather than independent frequencies, so that unasked-for attributes go together as they do in
    the data (no bald heads with blond hair).
    """

    names: tuple[str, ...] = ()
    rows: Bool[np.ndarray, "k a"] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.names and (self.rows is None or self.rows.ndim != 2 or self.rows.shape[1] != len(self.names)):
            shape = None if self.rows is None else self.rows.shape
            raise LimnerError(f"labels: {len(self.names)} names need rows of as many columns, not an array of {shape}")

    def to_json(self) -> dict[str, Any]:
        if self.rows is None:
            return {"names": [], "count": 0, "rows": ""}
        packed = np.packbits(self.rows.astype(bool)).tobytes()
        return {"names": list(self.names), "count": len(self.rows), "rows": base64.b64encode(packed).decode("ascii")}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Labels:
        names = tuple(facts["names"])
        if not names:
            return cls()
        packed = np.frombuffer(base64.b64decode(facts["rows"]), dtype=np.uint8)
        size = facts["count"] * len(names)
        return cls(names, np.unpackbits(packed)[:size].reshape(-1, len(names)).astype(bool))


NO_LABELS = Labels()


@dataclass(frozen=True)
class Part(ABC):
    """A named run of columns of the latents, and its prior."""

    name: str
    width: int

    @abstractmethod
    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n w"]:
        """n rows of the prior, float32 on the CPU."""

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """From a to b along the prior's geodesic."""
        return lerp(a, b, t)


@dataclass(frozen=True)
class Gaussian(Part):
    """Standard normal."""

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n w"]:
        return torch.randn(n, self.width, generator=rng)

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return slerp(a, b, t)


@dataclass(frozen=True)
class Sphere(Part):
    """Uniform on the sphere of radius √width, so that every column has unit mean square."""

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n w"]:
        drawn = torch.randn(n, self.width, generator=rng)
        return drawn * (self.width**0.5 / drawn.norm(dim=1, keepdim=True))

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return slerp(a, b, t)


@dataclass(frozen=True)
class Uniform(Part):
    """Uniform between `low` and `high`, independently in every column."""

    low: float = -1.0
    high: float = 1.0

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n w"]:
        return torch.rand(n, self.width, generator=rng) * (self.high - self.low) + self.low


@dataclass(frozen=True)
class Box(Part):
    """Uniform, independently in every column, each with a range of its own."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.low) == len(self.high) == self.width:
            raise LimnerError(
                f"latents: {self.name} has {self.width} columns, not {len(self.low)} ranges to {len(self.high)}"
            )

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n w"]:
        low, high = torch.tensor(self.low), torch.tensor(self.high)
        return torch.rand(n, self.width, generator=rng) * (high - low) + low


@dataclass(frozen=True)
class Pose(Box):
    """Yaw, pitch and roll in radians, with the signs of the datasets' `pose.npy`.

    Positive yaw turns a face to the picture's right, positive pitch lifts it, positive roll tips it clockwise. Of a
    model that was shown no pose, these are how it turns what it makes: which way a face then looks, it has to find.
    """


@dataclass(frozen=True)
class Categorical(Part):
    """One of `width` values, all as likely, as a one in its column."""

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n w"]:
        return torch.eye(self.width)[torch.randint(self.width, (n,), generator=rng)]


@dataclass(frozen=True)
class AttributeRows(Part):
    """Attributes, 0 or 1, as a row of the real data."""

    labels: Labels = NO_LABELS

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n w"]:
        if self.labels.rows is None:
            return torch.zeros(n, 0)
        rows = torch.from_numpy(self.labels.rows.astype(np.float32))
        return rows[torch.randint(len(rows), (n,), generator=rng)]


class LatentSpace:
    """The parts of a model's latents, in column order."""

    def __init__(self, *parts: Part) -> None:
        self.parts = tuple(part for part in parts if part.width > 0)
        self.width = sum(part.width for part in self.parts)
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise LimnerError(f"latents: two parts share a name in {names}")

    def __contains__(self, name: str) -> bool:
        return any(part.name == name for part in self.parts)

    @property
    def pose(self) -> Pose | None:
        """The part by which what is made turns, if there is one."""
        return next((part for part in self.parts if isinstance(part, Pose)), None)

    def part(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise LimnerError(f"latents: no part is named {name!r}; there are {[part.name for part in self.parts]}")

    def sample(self, n: int, rng: torch.Generator) -> Latents:
        """[n, d] rows of the joint prior, float32 on the CPU."""
        return torch.cat([part.sample(n, rng) for part in self.parts], dim=1)

    def sample_seeds(self, seeds: Sequence[int]) -> Latents:
        """One row per seed, each from a generator of its own: a seed names a face whatever else is drawn.

        Raises:
            LimnerError: there are no seeds, or one is not a whole number from 0 to 2^63 - 1.
        """
        numbers = _whole_numbers(seeds)
        return torch.cat([self.sample(1, torch.Generator().manual_seed(seed)) for seed in numbers])

    def split(self, latents: Latents) -> dict[str, Tensor]:
        """The parts by name, each [n, width], as views."""
        self.check(latents)
        widths = [part.width for part in self.parts]
        return dict(zip((part.name for part in self.parts), latents.split(widths, dim=1), strict=True))

    def join(self, parts: Mapping[str, Tensor]) -> Latents:
        """The inverse of `split`."""
        return torch.cat([parts[part.name] for part in self.parts], dim=1)

    def replace(self, latents: Latents, **values: Tensor) -> Latents:
        """A copy with the named parts set to the given [n, width] values."""
        parts = self.split(latents)
        for name, value in values.items():
            self.part(name)
            parts[name] = value.to(latents)
        return self.join(parts)

    def interpolate(self, a: Latents, b: Latents, t: float | Float[Tensor, "n"]) -> Latents:
        """From a (t = 0) to b (t = 1), each part along its prior's geodesic; t is one number or one per row."""
        steps = torch.as_tensor(t, dtype=torch.float64, device=a.device).expand(len(a))[:, None]
        ends_a, ends_b = self.split(a), self.split(b)
        return self.join({p.name: p.interpolate(ends_a[p.name], ends_b[p.name], steps) for p in self.parts})

    def check(self, latents: Any) -> None:
        """Raise LimnerError unless these are latents of this space, [n, width]."""
        wanted = f"[n, {self.width}] ({' + '.join(f'{part.name} {part.width}' for part in self.parts)})"
        if not isinstance(latents, Tensor):
            found = f"{type(latents).__name__} {str(latents)[:60]}"
            raise LimnerError(
                f"latents: expected a tensor {wanted}, got {found}; for seeds, `model.generate(seeds=[1, 2, 3])` or "
                "`model.latents.sample_seeds([1, 2, 3])`"
            )
        if latents.ndim != 2 or latents.shape[1] != self.width:
            raise LimnerError(f"latents: expected {wanted}, got {list(latents.shape)}")

    def __repr__(self) -> str:
        parts = ", ".join(f"{part.name}: {type(part).__name__} {part.width}" for part in self.parts)
        return f"LatentSpace([n, {self.width}]; {parts})"


def _whole_numbers(seeds: Any) -> list[int]:
    """Seeds as Python's whole numbers; NumPy's and tensors' are taken as well.

    Raises:
        LimnerError: there are none, or one is not a whole number from 0 to 2^63 - 1.
    """
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError:
        raise LimnerError(f"seeds: expected whole numbers such as [1, 2, 3], got {str(seeds)[:60]!r}") from None
    if not numbers or min(numbers) < 0 or max(numbers) >= 2**63:
        raise LimnerError(f"seeds: expected at least one, each from 0 to 2^63 - 1, got {str(numbers)[:60]}")
    return numbers
