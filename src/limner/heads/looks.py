"""What one head wears and is coloured with: hair, eyes, hat, clothes; and the labels that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.attire import Attire, sample_attire
from limner.heads.backdrop import muted_colour
from limner.heads.eyewear import Eyewear, sample_eyewear
from limner.heads.identity import Identity
from limner.heads.pack import Pack

HAIR_COLOURS = {
    "Black_Hair": (0.10, 0.085, 0.08),
    "Brown_Hair": (0.36, 0.23, 0.14),
    "Blond_Hair": (0.86, 0.69, 0.43),
    "Red_Hair": (0.56, 0.25, 0.115),
    "Gray_Hair": (0.53, 0.525, 0.52),
}
MALE_HAIR = {"short01": 0.22, "short02": 0.22, "short03": 0.18, "short04": 0.20, "bald": 0.13, "long01": 0.08}
FEMALE_HAIR = {"bob01": 0.16, "bob02": 0.26, "long01": 0.30, "ponytail01": 0.11, "Braid01": 0.07, "short03": 0.05}
LONG_HAIR = ("bob01", "bob02", "long01", "ponytail01", "Braid01")
HAT_HAIR = {True: ("short01", "short02", "short04"), False: ("long01", "bob02", "ponytail01")}
BUSHY_BROWS = ("brow:03", "brow:08", "brow:09", "brow:12")
THIN_BROWS = ("brow:01", "brow:04", "brow:05", "brow:06", "brow:07", "brow:11")
BUSHY_SHARE = {True: 0.45, False: 0.15}
HAT_SHARE = 0.12
HATS = ("hat:fedora", "hat:knitted", "hat:visor")
FRINGE_HAIR = ("bob01", "bob02", "long01", "ponytail01", "Braid01", "short02", "short03")
FRINGE_SHARE = {True: 0.35, False: 0.42}
WAVY_HAIR = ("bob01", "bob02", "long01")
WAVY_SHARE = 0.5
RECEDING_HAIR = ("short01", "short02", "short03", "short04")
RECEDING_SHARE, YOUNG_RECEDING_SHARE = 0.65, 0.12
RECEDING_AGE = 45  # years


@dataclass(frozen=True)
class Cut:
    """How hair is worn: down to the brows or off the forehead, in waves or not, its hairline drawn back or not."""

    fringe: bool = False
    waves: bool = False
    receding: bool = False


@dataclass(frozen=True)
class Looks:
    """What a head wears and is coloured with. Colours are sRGB in [0, 1]; `hair` and `hat` are part names or None;
    `hair_label` is a key of HAIR_COLOURS.
    """

    hair: str | None
    cut: Cut
    hair_label: str | None
    hair_colour: np.ndarray
    brow: str
    bushy: bool
    eyes: str
    eyewear: Eyewear | None
    hat: str | None
    hat_colour: np.ndarray
    attire: Attire


def sample_looks(pack: Pack, identity: Identity, rng: np.random.Generator) -> Looks:
    """Draw what this person wears and is coloured with."""
    hat = _pick(HATS, rng) if rng.random() < HAT_SHARE else None
    hair = _choose(_hair_shares(identity), rng)
    hat_hair = _pick(HAT_HAIR[identity.male], rng)
    hair = hat_hair if hat else hair
    bushy = bool(rng.random() < BUSHY_SHARE[identity.male])
    hair_label = _choose(_hair_colour_shares(identity), rng)
    if hair == "afro01" and hair_label in ("Blond_Hair", "Red_Hair"):
        hair_label = "Brown_Hair"
    hair_colour = np.clip(np.array(HAIR_COLOURS[hair_label]) * rng.uniform(0.9, 1.1), 0, 1)
    return Looks(
        hair=None if hair == "bald" else f"hair:{hair}",
        cut=_cut(identity, hair, hat is not None, rng),
        hair_label=None if hair == "bald" else hair_label,
        hair_colour=hair_colour,
        brow=_pick(BUSHY_BROWS if bushy else THIN_BROWS, rng),
        bushy=bushy,
        eyes=_choose_eyes(pack, identity, rng),
        eyewear=sample_eyewear(rng),
        hat=hat,
        hat_colour=muted_colour(rng, (0.25, 0.75)),
        attire=sample_attire(rng),
    )


def label_looks(looks: Looks) -> dict[str, bool]:
    """The labels that what a person wears decides."""
    hair = "" if looks.hair is None else looks.hair.removeprefix("hair:")
    return {
        "Bald": looks.hair is None,
        "Bangs": looks.cut.fringe,
        "Bushy_Eyebrows": looks.bushy,
        "Eyeglasses": looks.eyewear is not None,
        "Long_Hair": hair in LONG_HAIR,
        "Receding_Hairline": looks.cut.receding,
        "Straight_Hair": hair in WAVY_HAIR and not looks.cut.waves,
        "Wavy_Hair": looks.cut.waves,
        "Wearing_Hat": looks.hat is not None,
    } | {name: name == looks.hair_label for name in HAIR_COLOURS}


def _cut(identity: Identity, hair: str, hat: bool, rng: np.random.Generator) -> Cut:
    fringe, waves, receding = rng.random(3)
    balding = RECEDING_SHARE if identity.age_years > RECEDING_AGE else YOUNG_RECEDING_SHARE
    recedes = identity.male and not hat and hair in RECEDING_HAIR and bool(receding < balding)
    return Cut(
        fringe=hair in FRINGE_HAIR and not hat and not recedes and bool(fringe < FRINGE_SHARE[identity.male]),
        waves=hair in WAVY_HAIR and bool(waves < WAVY_SHARE),
        receding=recedes,
    )


def _choose(shares: dict[str, float], rng: np.random.Generator) -> str:
    cumulative = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]


def _pick(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[int(rng.random() * len(names))]


def _hair_shares(identity: Identity) -> dict[str, float]:
    african = float(identity.origin[0])
    if identity.male:
        older = 0.12 if identity.age_years > 45 else 0.0
        return MALE_HAIR | {"bald": MALE_HAIR["bald"] + older, "afro01": 0.3 * african}
    return FEMALE_HAIR | {"afro01": 0.3 * african}


def _hair_colour_shares(identity: Identity) -> dict[str, float]:
    fair = float(identity.origin[2])
    gray = float(np.clip((identity.age_years - 48) / 22, 0, 0.68))
    coloured = {
        "Black_Hair": 0.10 + 0.80 * (1 - fair),
        "Brown_Hair": 0.20 + 0.15 * fair,
        "Blond_Hair": 0.45 * fair,
        "Red_Hair": 0.38 * fair,
    }
    total = sum(coloured.values())
    return {name: share * (1 - gray) / total for name, share in coloured.items()} | {"Gray_Hair": gray}


def _choose_eyes(pack: Pack, identity: Identity, rng: np.random.Generator) -> str:
    light = rng.random() < 0.75 * float(identity.origin[2]) ** 2
    names = pack.names("eyes:")
    chosen = names[int(rng.integers(len(names)))]
    return chosen if light else "eyes:brown"
