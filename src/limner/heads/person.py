"""One head to draw, sampled from (seed, index): its shape, its looks, its labels, and how it is posed and lit."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np

from limner.heads.identity import Expression, Identity, sample_expression, sample_identity, shape_weights
from limner.heads.pack import Pack

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
HAIR_COLOURS = {
    "Black_Hair": (0.10, 0.085, 0.08),
    "Brown_Hair": (0.33, 0.21, 0.13),
    "Blond_Hair": (0.80, 0.64, 0.40),
    "Red_Hair": (0.52, 0.26, 0.14),
    "Gray_Hair": (0.56, 0.55, 0.54),
}
MALE_HAIR = {"short01": 0.22, "short02": 0.22, "short03": 0.18, "short04": 0.20, "bald": 0.10, "long01": 0.03}
FEMALE_HAIR = {"bob01": 0.10, "bob02": 0.26, "long01": 0.26, "ponytail01": 0.14, "Braid01": 0.08, "short03": 0.05}
LONG_HAIR = ("bob01", "bob02", "long01", "ponytail01", "Braid01")
HAT_HAIR = {True: "short04", False: "long01"}
HAT_SHARE = 0.05


@dataclass(frozen=True)
class Looks:
    """What a head wears and is coloured with. Colours are sRGB in [0, 1]; `hair` and `hat` are part names or None."""

    skins: tuple[tuple[str, float], ...]
    skin_tint: np.ndarray
    hair: str | None
    hair_colour: np.ndarray
    brow: str
    eyes: str
    hat: str | None
    hat_colour: np.ndarray
    shirt_colour: np.ndarray


@dataclass(frozen=True)
class Shot:
    """How a head is pictured. Angles in radians; `light_direction` (3,) points from the head to the light in the
    camera's frame (x right, y up, z to the camera); `shift` is a fraction of the picture's side.
    """

    yaw: float
    pitch: float
    roll: float
    gaze: tuple[float, float]
    field_of_view: float
    zoom: float
    shift: tuple[float, float]
    light_direction: np.ndarray
    key_light: np.ndarray
    ambient_light: np.ndarray
    backdrop: tuple[np.ndarray, np.ndarray]
    glow: tuple[float, float]


@dataclass(frozen=True)
class Person:
    """Everything the renderer needs. `mirrored`: draw it as in a mirror; `shot` is already the picture's own."""

    weights: np.ndarray
    looks: Looks
    shot: Shot
    shows_teeth: bool
    mirrored: bool
    attributes: dict[str, bool]


def sample_person(pack: Pack, seed: int, index: int, yaw_range_radians: float) -> Person:
    """The person number `index` of the set `seed`: the same on every call, whatever else was drawn."""
    rng = np.random.default_rng([seed, index])
    identity, expression = sample_identity(rng), sample_expression(rng)
    weights = shape_weights(pack, identity, expression, rng)
    looks, hair_label = _sample_looks(pack, identity, rng)
    mirrored = bool(rng.random() < 0.5)
    return Person(
        weights=weights,
        looks=looks,
        shot=_sample_shot(rng, yaw_range_radians),
        shows_teeth=expression.jaw_open > 0 or expression.teeth > 0,
        mirrored=mirrored,
        attributes=_label(identity, expression, looks, hair_label),
    )


def _label(identity: Identity, expression: Expression, looks: Looks, hair_label: str | None) -> dict[str, bool]:
    truths = {
        "Bald": looks.hair is None,
        "Long_Hair": looks.hair is not None and looks.hair.removeprefix("hair:") in LONG_HAIR,
        "Male": identity.male,
        "Mouth_Slightly_Open": expression.jaw_open > 0 or expression.teeth > 0,
        "Smiling": expression.smile > 0.5,
        "Wearing_Hat": looks.hat is not None,
        "Young": identity.age_years < 40,
    } | {name: name == hair_label for name in HAIR_COLOURS}
    return {name: truths[name] for name in ATTRIBUTE_NAMES}


def _sample_looks(pack: Pack, identity: Identity, rng: np.random.Generator) -> tuple[Looks, str | None]:
    hat = "hat:fedora" if rng.random() < HAT_SHARE else None
    hair = _choose(_hair_shares(identity), rng)
    if hat:
        hair = HAT_HAIR[identity.male]
    hair_label = _choose(_hair_colour_shares(identity), rng)
    hair_colour = np.array(HAIR_COLOURS[hair_label]) * rng.uniform(0.85, 1.15)
    looks = Looks(
        skins=_skin_shares(identity),
        skin_tint=1 + rng.normal(0, 0.025, 3) + rng.normal(0, 0.04),
        hair=None if hair == "bald" else f"hair:{hair}",
        hair_colour=hair_colour,
        brow=f"brow:{rng.integers(1, 13):02d}",
        eyes=_choose_eyes(pack, identity, rng),
        hat=hat,
        hat_colour=_muted_colour(rng, (0.25, 0.75)),
        shirt_colour=_muted_colour(rng, (0.15, 0.9)),
    )
    return looks, hair_label if looks.hair else None


def _choose(shares: dict[str, float], rng: np.random.Generator) -> str:
    cumulative = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]


def _hair_shares(identity: Identity) -> dict[str, float]:
    african = float(identity.origin[0])
    if identity.male:
        older = 0.12 if identity.age_years > 45 else 0.0
        return MALE_HAIR | {"bald": MALE_HAIR["bald"] + older, "afro01": 0.3 * african}
    return FEMALE_HAIR | {"afro01": 0.3 * african}


def _hair_colour_shares(identity: Identity) -> dict[str, float]:
    fair = float(identity.origin[2])
    gray = float(np.clip((identity.age_years - 48) / 22, 0, 0.9))
    coloured = {
        "Black_Hair": 0.15 + 0.85 * (1 - fair),
        "Brown_Hair": 0.15 + 0.35 * fair,
        "Blond_Hair": 0.45 * fair**2,
        "Red_Hair": 0.12 * fair**2,
    }
    total = sum(coloured.values())
    return {name: share * (1 - gray) / total for name, share in coloured.items()} | {"Gray_Hair": gray}


def _skin_shares(identity: Identity) -> tuple[tuple[str, float], ...]:
    age = "young" if identity.age_years < 30 else "middleage" if identity.age_years < 55 else "old"
    sex = "male" if identity.male else "female"
    origins = zip(("african", "asian", "caucasian"), identity.origin, strict=True)
    present = [(f"skin:{age}_{origin}_{sex}", float(share)) for origin, share in origins if share > 0.05]
    total = sum(share for _, share in present)
    return tuple((name, share / total) for name, share in present)


def _choose_eyes(pack: Pack, identity: Identity, rng: np.random.Generator) -> str:
    light = rng.random() < 0.75 * float(identity.origin[2]) ** 2
    names = pack.names("eyes:")
    chosen = names[int(rng.integers(len(names)))]
    return chosen if light else "eyes:brown"


def _muted_colour(rng: np.random.Generator, values: tuple[float, float]) -> np.ndarray:
    warm, place, saturation, value = rng.random(), rng.random(), 0.32 * rng.random(), rng.uniform(*values)
    hue = 0.02 + 0.12 * place if warm < 0.4 else 0.42 + 0.25 * place  # sand and rose, or sea-green to blue
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def _sample_shot(rng: np.random.Generator, yaw_range_radians: float) -> Shot:
    yaw = float(rng.uniform(-1, 1)) * yaw_range_radians
    pitch, roll = (float(angle) for angle in rng.normal(0, [math.radians(5), math.radians(2.5)]))
    sideways, height = rng.uniform(-1, 1), rng.uniform(0.1, 0.75)
    direction = np.array([sideways, height, 1.0])
    warmth = rng.normal(0, 0.03)
    base = _muted_colour(rng, (0.32, 0.88))
    return Shot(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        gaze=(float(rng.normal(0, 0.08)), float(rng.normal(0, 0.04))),
        field_of_view=float(rng.uniform(math.radians(16), math.radians(24))),
        zoom=float(rng.uniform(0.96, 1.05)),
        shift=(float(rng.normal(0, 0.012)), float(rng.normal(0, 0.012))),
        light_direction=direction / np.linalg.norm(direction),
        key_light=rng.uniform(0.75, 1.05) * np.array([1 + warmth, 1.0, 1 - warmth]),
        ambient_light=rng.uniform(0.30, 0.42) * np.array([1 - warmth, 1.0, 1 + warmth]),
        backdrop=(base, base * rng.uniform(0.45, 0.85)),
        glow=(float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.15, 0.6))),
    )
