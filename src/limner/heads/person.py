"""One head to draw, sampled from (seed, identity, view): who it is, what its face does, and how it is pictured.

The identity decides shape, skin, hair and clothes; the view decides expression, pose, lens, light and backdrop. So
views of one identity are pictures of one person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.complexion import Complexion, label_complexion, sample_complexion
from limner.heads.identity import Expression, Identity, sample_expression, sample_identity, shape_weights
from limner.heads.looks import Looks, label_looks, sample_looks
from limner.heads.pack import Pack
from limner.heads.shot import Shot, sample_shot

ATTRIBUTE_NAMES = (
    "Bald",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Gray_Hair",
    "Long_Hair",
    "Male",
    "Mouth_Slightly_Open",
    "Red_Hair",
    "Smiling",
    "Wearing_Hat",
    "Young",
)


@dataclass(frozen=True)
class Person:
    """Everything the renderer needs. `mirrored`: draw it as in a mirror; `shot` is already the picture's own."""

    weights: np.ndarray
    complexion: Complexion
    looks: Looks
    shot: Shot
    shows_teeth: bool
    mirrored: bool
    attributes: dict[str, bool]


def sample_person(pack: Pack, seed: int, identity: int, view: int, yaw_range_radians: float) -> Person:
    """View number `view` of person number `identity` of the set `seed`: the same whatever else was drawn."""
    of_person, of_view = np.random.default_rng([seed, identity]), np.random.default_rng([seed, identity, view])
    who, expression = sample_identity(of_person), sample_expression(of_view)
    weights = shape_weights(pack, who, expression, of_person)
    complexion, looks = sample_complexion(who, of_person), sample_looks(pack, who, of_person)
    return Person(
        weights=weights,
        complexion=complexion,
        looks=looks,
        shot=sample_shot(of_view, yaw_range_radians),
        shows_teeth=expression.jaw_open > 0 or expression.teeth > 0,
        mirrored=bool(of_person.random() < 0.5),
        attributes=_label(who, expression, complexion, looks),
    )


def _label(who: Identity, expression: Expression, complexion: Complexion, looks: Looks) -> dict[str, bool]:
    truths = {
        "Male": who.male,
        "Mouth_Slightly_Open": expression.jaw_open > 0 or expression.teeth > 0,
        "Smiling": expression.smile > 0.5,
        "Young": who.age_years < 40,
    }
    truths |= label_complexion(complexion) | label_looks(looks)
    return {name: truths[name] for name in ATTRIBUTE_NAMES}
