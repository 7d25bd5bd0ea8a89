"""What a person's skin looks like: its tone, how old it is, how rested, how flushed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.face_map import neutral_normals, rising
from limner.heads.identity import ORIGINS, Identity
from limner.heads.pack import load_pack

TONES = {"african": (0.44, 0.29, 0.22), "asian": (0.775, 0.575, 0.44), "caucasian": (0.785, 0.57, 0.46)}  # sRGB
LIGHTNESS = {"african": (0.62, 1.25), "asian": (0.86, 1.01), "caucasian": (0.90, 1.01)}  # factors on TONES
PALE_TONE = (0.87, 0.71, 0.63)
PALE_SHARE = 0.24  # of those whose origins allow it
ROSY_SHARE = 0.18
BAGS_SHARE = {True: 0.18, False: 0.45}  # by `Identity.young`
SMALLEST_SHARE = 0.15  # of an origin whose skin is mixed in
FLUSH = (1.04, 0.56, 0.58)  # linear factors at the middle of a rosy cheek
TIRED = (0.42, 0.33, 0.40)  # … and under a tired eye


@dataclass(frozen=True)
class Complexion:
    """skins: texture names and shares that sum to 1; tone: (3,) sRGB of the face; wrinkles, bags, rosy: 0 to 1."""

    skins: tuple[tuple[str, float], ...]
    tone: np.ndarray
    pale: bool
    wrinkles: float
    bags: float
    rosy: float


def sample_complexion(identity: Identity, rng: np.random.Generator) -> Complexion:
    """Draw the skin of this person."""
    pale, bags, rosy, depth = rng.random(4).tolist()
    may_be_pale = identity.origin[0] < 0.2
    is_pale = bool(may_be_pale and pale < PALE_SHARE)
    aged = float(np.clip((identity.age_years - 40) / 40, 0, 1))
    return Complexion(
        skins=_skin_shares(identity),
        tone=_tone(identity, is_pale, rng),
        pale=is_pale,
        wrinkles=0.0 if identity.young else 0.65 + 0.35 * aged,
        bags=0.75 + 0.25 * depth if bags < BAGS_SHARE[identity.young] else 0.0,
        rosy=0.75 + 0.25 * depth if rosy < ROSY_SHARE else 0.0,
    )


def label_complexion(complexion: Complexion) -> dict[str, bool]:
    """The labels that the skin decides."""
    return {
        "Pale_Skin": complexion.pale,
        "Rosy_Cheeks": complexion.rosy > 0,
    }


def complexion_tint(complexion: Complexion) -> np.ndarray:
    """Linear factors (3, n) on the colour of the head's vertices: flushed cheeks and tired eyes."""
    tint = np.ones_like(load_pack().vertices)
    flush = complexion.rosy * (1.25 - 0.85 * float(complexion.tone[0]))  # pale skin shows it sooner
    for share, colour, mask in ((flush, FLUSH, cheeks), (complexion.bags, TIRED, eye_bags)):
        if share:
            tint *= 1 + np.float32(share) * mask() * (np.array(colour, np.float32)[:, None] - 1)
    return tint


@lru_cache(maxsize=1)
def cheeks() -> np.ndarray:
    """How far each vertex (n,) belongs to the round of a cheek, 0 to 1."""
    x, y, _ = load_pack().vertices
    away = np.hypot((np.abs(x) - 0.46) / 0.30, (y - 6.97) / 0.23)
    return rising(away, 1.0, 0.25) * rising(neutral_normals()[2], 0.0, 0.3)


@lru_cache(maxsize=1)
def eye_bags() -> np.ndarray:
    """How far each vertex (n,) belongs to the hollow under an eye, 0 to 1."""
    x, y, _ = load_pack().vertices
    across = np.abs(x) - 0.31
    hollow = 7.185 + 0.9 * np.square(across)
    return rising(np.abs(y - hollow), 0.085, 0.03) * rising(np.abs(across), 0.24, 0.12) * rising(y, 7.26, 7.235)


def _skin_shares(identity: Identity) -> tuple[tuple[str, float], ...]:
    age = "young" if identity.age_years < 30 else "middleage" if identity.age_years < 50 else "old"
    sex = "male" if identity.male else "female"
    origins = zip(ORIGINS, identity.origin, strict=True)
    present = [(f"skin:{age}_{origin}_{sex}", float(share)) for origin, share in origins if share > SMALLEST_SHARE]
    total = sum(share for _, share in present)
    return tuple((name, share / total) for name, share in present)


def _tone(identity: Identity, pale: bool, rng: np.random.Generator) -> np.ndarray:
    lightness, hue = rng.random(), rng.normal(0, 0.012, 3)
    if pale:
        return np.array(PALE_TONE) * (0.98 + 0.04 * lightness) + hue
    tones = [
        np.array(TONES[origin]) * (LIGHTNESS[origin][0] + lightness * (LIGHTNESS[origin][1] - LIGHTNESS[origin][0]))
        for origin in ORIGINS
    ]
    tone = sum(share * tone for share, tone in zip(identity.origin, tones, strict=True))
    return np.asarray(tone + hue)
