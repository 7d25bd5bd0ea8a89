"""What one head wears and is coloured with: hair, eyes, hat, clothes; and the labels that follow."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from limner.heads.identity import Identity
from limner.heads.pack import Pack

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
    """What a head wears and is coloured with. Colours are sRGB in [0, 1]; `hair` and `hat` are part names or None;
    `hair_label` is a key of HAIR_COLOURS.
    """

    hair: str | None
    hair_label: str | None
    hair_colour: np.ndarray
    brow: str
    eyes: str
    hat: str | None
    hat_colour: np.ndarray
    shirt_colour: np.ndarray


def sample_looks(pack: Pack, identity: Identity, rng: np.random.Generator) -> Looks:
    """Draw what this person wears and is coloured with."""
    hat = "hat:fedora" if rng.random() < HAT_SHARE else None
    hair = _choose(_hair_shares(identity), rng)
    if hat:
        hair = HAT_HAIR[identity.male]
    hair_label = _choose(_hair_colour_shares(identity), rng)
    hair_colour = np.array(HAIR_COLOURS[hair_label]) * rng.uniform(0.85, 1.15)
    return Looks(
        hair=None if hair == "bald" else f"hair:{hair}",
        hair_label=None if hair == "bald" else hair_label,
        hair_colour=hair_colour,
        brow=f"brow:{rng.integers(1, 13):02d}",
        eyes=_choose_eyes(pack, identity, rng),
        hat=hat,
        hat_colour=muted_colour(rng, (0.25, 0.75)),
        shirt_colour=muted_colour(rng, (0.15, 0.9)),
    )


def label_looks(looks: Looks) -> dict[str, bool]:
    """The labels that what a person wears decides."""
    return {
        "Bald": looks.hair is None,
        "Long_Hair": looks.hair is not None and looks.hair.removeprefix("hair:") in LONG_HAIR,
        "Wearing_Hat": looks.hat is not None,
    } | {name: name == looks.hair_label for name in HAIR_COLOURS}


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


def _choose_eyes(pack: Pack, identity: Identity, rng: np.random.Generator) -> str:
    light = rng.random() < 0.75 * float(identity.origin[2]) ** 2
    names = pack.names("eyes:")
    chosen = names[int(rng.integers(len(names)))]
    return chosen if light else "eyes:brown"


def muted_colour(rng: np.random.Generator, values: tuple[float, float]) -> np.ndarray:
    """An sRGB colour (3,) of little saturation, its brightness within `values`."""
    warm, place, saturation, value = rng.random(), rng.random(), 0.32 * rng.random(), rng.uniform(*values)
    hue = 0.02 + 0.12 * place if warm < 0.4 else 0.42 + 0.25 * place  # sand and rose, or sea-green to blue
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))
