"""Make-up: lipstick, eye shadow, a line around the eyes, rouge; painted on the head's vertices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.complexion import cheeks
from limner.heads.face_map import lips, neutral_normals, rising
from limner.heads.identity import Identity
from limner.heads.pack import load_pack

HEAVY_SHARE = {True: 0.46, False: 0.26}  # of the women, by `Identity.young`
LIPSTICK_SHARE = 0.22  # of the women, who wear lipstick and nothing else
LIPSTICKS = ((0.66, 0.19, 0.20), (0.58, 0.16, 0.24), (0.70, 0.27, 0.25), (0.52, 0.16, 0.19), (0.66, 0.28, 0.32))  # sRGB
SHADOWS = ((0.40, 0.28, 0.30), (0.30, 0.30, 0.42), (0.38, 0.28, 0.18), (0.28, 0.22, 0.30), (0.22, 0.32, 0.36))
SHADOW = 0.62  # share of the skin that eye shadow hides
NATURAL = (0.98, 0.78, 0.80)  # linear factors that make bare lips stand out from the skin
LINE = 0.10  # linear factor of a line around the eyes
ROUGE = (1.03, 0.85, 0.86)
GLOSS = 0.8  # how much more a painted lip shines than skin


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
    heavy = not identity.male and chance < HEAVY_SHARE[identity.young]
    painted = not identity.male and chance < HEAVY_SHARE[identity.young] + LIPSTICK_SHARE
    return MakeUp(lipstick if painted else None, shadow if heavy else None)


def label_make_up(make_up: MakeUp) -> dict[str, bool]:
    """The labels that the make-up decides."""
    return {"Heavy_Makeup": make_up.shadow is not None, "Wearing_Lipstick": make_up.lipstick is not None}


def make_up_tint(make_up: MakeUp, skin: np.ndarray, bare_lips: np.ndarray) -> np.ndarray:
    """Linear factors (3, n) on the colour of the head's vertices; skin, bare_lips: their linear colours (3, 1)."""
    tint = _towards(np.array(NATURAL)[:, None], lips())
    if make_up.lipstick is not None:
        depth = 0.65 + 0.35 * float(np.sqrt(skin[0, 0]))  # on dark skin a darker red looks as strong
        tint *= _towards(
            np.square(make_up.lipstick * depth)[:, None] / (bare_lips * np.array(NATURAL)[:, None]), lips()
        )
    if make_up.shadow is not None:
        darker = np.minimum(np.square(make_up.shadow)[:, None] / skin, 0.5)
        tint *= _towards(darker, np.float32(SHADOW) * lids()) * _towards(np.array(ROUGE)[:, None], cheeks())
        tint *= 1 + eye_lines() * np.float32(LINE - 1)
    return tint


def lip_gloss(make_up: MakeUp) -> np.ndarray:
    """Factors (n,) on the highlight of the head's vertices."""
    return 1 + lips() * np.float32(0 if make_up.lipstick is None else GLOSS)


def _towards(factors: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return 1 + mask * (factors.astype(np.float32) - 1)


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
