"""Which clothes a person wears, as far as a portrait shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.backdrop import muted_colour

NECKLINES = {"crew": 0.30, "v": 0.20, "scoop": 0.16, "roll": 0.12, "collar": 0.22}
PATTERNS = {"plain": 0.45, "trimmed": 0.18, "hoops": 0.14, "stripes": 0.12, "checks": 0.11}
STRONG_COLOURS = ((0.60, 0.10, 0.12), (0.10, 0.20, 0.48), (0.10, 0.36, 0.25), (0.82, 0.62, 0.15), (0.35, 0.12, 0.35))
STRONG_SHARE = 0.25


@dataclass(frozen=True)
class Attire:
    """neckline and pattern: keys of NECKLINES and PATTERNS; colours: sRGB (3,), the second one the pattern's."""

    neckline: str
    pattern: str
    colour: np.ndarray
    second_colour: np.ndarray


def sample_attire(rng: np.random.Generator) -> Attire:
    """Draw a person's clothes."""
    neckline, pattern, strong, hue = rng.random(4).tolist()
    colour = muted_colour(rng, (0.12, 0.92))
    if strong < STRONG_SHARE:
        colour = np.array(STRONG_COLOURS[int(hue * len(STRONG_COLOURS))])
    darker = colour.mean() > 0.45
    second = muted_colour(rng, (0.08, 0.25) if darker else (0.7, 0.95))
    return Attire(_choose(NECKLINES, neckline), _choose(PATTERNS, pattern), colour, second)


def _choose(shares: dict[str, float], share: float) -> str:
    cumulative = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(cumulative, share * cumulative[-1], side="right"))]
