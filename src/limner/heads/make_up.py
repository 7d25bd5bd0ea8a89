"""Make-up: lipstick, eye shadow, a line around the eyes, rouge; painted on the head's vertices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.complexion import Complexion, cheeks
from limner.heads.face_map import lips, neutral_normals, rising
from limner.heads.identity import Identity
from limner.heads.pack import load_pack

HEAVY_SHARE = 0.38  # of the women
LIPSTICK_SHARE = 0.22  # of the women, who wear lipstick and nothing else
LIPSTICKS = ((0.72, 0.06, 0.10), (0.62, 0.04, 0.16), (0.80, 0.16, 0.16), (0.52, 0.04, 0.10), (0.80, 0.14, 0.36))  # sRGB
SHADOWS = ((0.40, 0.28, 0.30), (0.30, 0.30, 0.42), (0.38, 0.28, 0.18), (0.28, 0.22, 0.30), (0.22, 0.32, 0.36))
LIPS_OF_SKIN = (0.94, 0.76, 0.76)  # bare lips as a factor on the skin's tone, sRGB
LINE = 0.10  # linear factor of a line around the eyes
ROUGE = (1.04, 0.74, 0.76)
GLOSS = 2.5  # how much more a painted lip shines than skin


@dataclass(frozen=True)
class MakeUp:
    """lipstick: sRGB (3,) or None; shadow: sRGB (3,) of the lids or None, which brings rouge and a line with it."""

    lipstick: np.ndarray | None
    shadow: np.ndarray | None


def sample_make_up(identity: Identity, rng: np.random.Generator) -> MakeUp:
    """Draw a person's make-up: none, lipstick alone, or all of it."""
    chance, shade = rng.random(), rng.normal(1, 0.06)
    lipstick = np.array(LIPSTICKS[int(rng.integers(len(LIPSTICKS)))]) * shade
    shadow = np.array(SHADOWS[int(rng.integers(len(SHADOWS)))]) * shade
    heavy = not identity.male and chance < HEAVY_SHARE
    painted = not identity.male and chance < HEAVY_SHARE + LIPSTICK_SHARE
    return MakeUp(lipstick if painted else None, shadow if heavy else None)


def label_make_up(make_up: MakeUp) -> dict[str, bool]:
    """The labels that the make-up decides."""
    return {"Heavy_Makeup": make_up.shadow is not None, "Wearing_Lipstick": make_up.lipstick is not None}


def make_up_tint(make_up: MakeUp, complexion: Complexion) -> np.ndarray:
    """Linear factors (3, n) on the colour of the head's vertices."""
    tint = np.ones_like(load_pack().vertices)
    if make_up.lipstick is not None:
        tint *= _towards(make_up.lipstick / (complexion.tone * np.array(LIPS_OF_SKIN)), lips())
    if make_up.shadow is not None:
        darker = np.minimum(make_up.shadow / complexion.tone, 0.75)
        tint *= _towards(darker, lids()) * _towards(np.sqrt(ROUGE), cheeks())
        tint *= 1 + eye_lines() * np.float32(LINE - 1)
    return tint


def lip_gloss(make_up: MakeUp) -> np.ndarray:
    """Factors (n,) on the highlight of the head's vertices."""
    return 1 + lips() * np.float32(0 if make_up.lipstick is None else GLOSS)


def _towards(colour: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return 1 + mask * (np.square(colour).astype(np.float32)[:, None] - 1)


@lru_cache(maxsize=1)
def lids() -> np.ndarray:
    """How far each vertex (n,) belongs to an upper lid, 0 to 1."""
    x, y, _ = load_pack().vertices
    away = np.hypot((np.abs(x) - 0.32) / 0.27, (y - 7.36) / 0.12)
    return rising(away, 1.0, 0.45) * rising(y, 7.25, 7.30) * rising(neutral_normals()[2], -0.2, 0.1)


@lru_cache(maxsize=1)
def eye_lines() -> np.ndarray:
    """How far each vertex (n,) belongs to the rim of an eye, 0 to 1."""
    x, y, _ = load_pack().vertices
    away = np.hypot((np.abs(x) - 0.315) / 0.165, (y - 7.29) / 0.05)
    return rising(away, 1.55, 1.2) * rising(np.abs(x), 0.14, 0.20)
