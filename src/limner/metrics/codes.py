"""The codes in a model's latents as variables that can be counted: what they are called, how many values they have.

A code part is one of
- `Categorical`: one variable, whose value is the column that is 1;
- `AttributeRows`: a variable per column, 0 or 1, called what the column is called;
- `Uniform`: a variable per column, cut into `BINS` pieces as likely as each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from limner.errors import LimnerError
from limner.latents import AttributeRows, Categorical, LatentSpace, Part, Uniform
from limner.types import Latents

BINS = 8
"""pieces of a continuous code: enough for a bend in the middle, few enough for a thousand images"""


@runtime_checkable
class HasCodes(Protocol):
    """Of a model with codes, what is used here; where there are none, `code_parts` is empty or missing."""

    @property
    def latents(self) -> LatentSpace: ...
    @property
    def code_parts(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Code:
    """One variable."""

    name: str
    kind: Literal["named", "categorical", "continuous"]
    ways: int
    """values it can have: 0 … ways − 1"""


def code_parts(model: object) -> tuple[str, ...]:
    """The names of the parts of a model's latents that are codes; () where it has none."""
    return tuple(model.code_parts) if isinstance(model, HasCodes) else ()


def codes_of(model: HasCodes) -> tuple[Code, ...]:
    """The model's code variables, in the order of its code parts and their columns.

    Raises:
        LimnerError: a part whose prior cannot be counted.
    """
    return tuple(code for name in model.code_parts for code in _codes(model.latents.part(name)))


def code_values(model: HasCodes, latents: Latents) -> Int64[Tensor, "n c"]:
    """What the variables of `codes_of(model)` are in these latents [n, d]."""
    parts = model.latents.split(latents)
    return torch.cat([_values(model.latents.part(name), parts[name]) for name in model.code_parts], dim=1)


def _codes(part: Part) -> tuple[Code, ...]:
    if isinstance(part, Categorical):
        return (Code(part.name, "categorical", part.width),)
    if isinstance(part, AttributeRows):
        return tuple(Code(name, "named", 2) for name in part.labels.names)
    if isinstance(part, Uniform):
        names = [part.name] if part.width == 1 else [f"{part.name}_{k + 1}" for k in range(part.width)]
        return tuple(Code(name, "continuous", BINS) for name in names)
    raise LimnerError(
        f"codes: the part {part.name!r} is {type(part).__name__}, and only categorical, uniform and attribute codes "
        "can be counted; leave code_recovery out"
    )


def _values(part: Part, columns: Tensor) -> Int64[Tensor, "n v"]:
    if isinstance(part, Categorical):
        return columns.argmax(1, keepdim=True)
    if isinstance(part, Uniform):
        place = (columns.double() - part.low) / (part.high - part.low)
        return (place * BINS).long().clamp(0, BINS - 1)
    return (columns > 0.5).long()
