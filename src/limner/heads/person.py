"""One head to draw, sampled from (seed, identity, view): who it is, what its face does, and how it is pictured.

The identity decides shape, skin, hair and clothes; the view decides expression, pose, lens, light and backdrop. So
views of one identity are pictures of one person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.complexion import Complexion, label_complexion, sample_complexion
from limner.heads.expression import expression_weights, label_expression, sample_expression
from limner.heads.facial_hair import FacialHair, label_facial_hair, sample_facial_hair
from limner.heads.features import feature_weights, label_features, sample_features
from limner.heads.identity import label_identity, macro_weights, sample_identity
from limner.heads.looks import Looks, label_looks, sample_looks
from limner.heads.make_up import MakeUp, label_make_up, sample_make_up
from limner.heads.pack import Pack
from limner.heads.shot import Shot, sample_shot

ATTRIBUTE_NAMES = (
    "5_o_Clock_Shadow",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "Long_Hair",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Pale_Skin",
    "Receding_Hairline",
    "Red_Hair",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Young",
)


@dataclass(frozen=True)
class Person:
    """Everything the renderer needs. `mirrored`: draw it as in a mirror; `shot` is already the picture's own."""

    weights: np.ndarray
    complexion: Complexion
    make_up: MakeUp
    facial_hair: FacialHair
    looks: Looks
    shot: Shot
    shows_teeth: bool
    mirrored: bool
    attributes: dict[str, bool]


def sample_person(pack: Pack, seed: int, identity: int, view: int, yaw_range_radians: float) -> Person:
    """View number `view` of person number `identity` of the set `seed`: the same whatever else was drawn."""
    # A stream of its own for each topic, so that a topic that draws more numbers leaves the others as they are.
    of_person, of_view = (np.random.default_rng([seed, identity, stream]) for stream in (0, 1 + view))
    of_who, of_features, of_skin, of_make_up, of_beard, of_looks = of_person.spawn(6)
    of_expression, of_shot = of_view.spawn(2)
    who, expression = sample_identity(of_who), sample_expression(of_expression)
    features, complexion = sample_features(pack, of_features), sample_complexion(who, of_skin)
    make_up, facial_hair = sample_make_up(who, of_make_up), sample_facial_hair(who, of_beard)
    looks = sample_looks(pack, who, of_looks)
    weights = macro_weights(pack, who) + feature_weights(pack, who, features)
    labels = label_identity(who) | label_features(features) | label_complexion(complexion) | label_make_up(make_up)
    labels |= label_facial_hair(facial_hair) | label_looks(looks) | label_expression(expression)
    return Person(
        weights=weights + expression_weights(pack, expression),
        complexion=complexion,
        make_up=make_up,
        facial_hair=facial_hair,
        looks=looks,
        shot=sample_shot(of_shot, yaw_range_radians),
        shows_teeth=expression.parted,
        mirrored=bool(of_person.random() < 0.5),
        attributes={name: labels[name] for name in ATTRIBUTE_NAMES},
    )
