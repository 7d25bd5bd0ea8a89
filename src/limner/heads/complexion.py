"""What a person's skin looks like: which textures are mixed, and its tint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.identity import ORIGINS, Identity


@dataclass(frozen=True)
class Complexion:
    """skins: texture names and shares that sum to 1; tint: (3,) factors on the stored colour."""

    skins: tuple[tuple[str, float], ...]
    tint: np.ndarray


def sample_complexion(identity: Identity, rng: np.random.Generator) -> Complexion:
    """Draw the skin of this person."""
    return Complexion(_skin_shares(identity), 1 + rng.normal(0, 0.025, 3) + rng.normal(0, 0.04))


def label_complexion(complexion: Complexion) -> dict[str, bool]:
    """The labels that the skin decides."""
    return {}


def _skin_shares(identity: Identity) -> tuple[tuple[str, float], ...]:
    age = "young" if identity.age_years < 30 else "middleage" if identity.age_years < 55 else "old"
    sex = "male" if identity.male else "female"
    origins = zip(ORIGINS, identity.origin, strict=True)
    present = [(f"skin:{age}_{origin}_{sex}", float(share)) for origin, share in origins if share > 0.05]
    total = sum(share for _, share in present)
    return tuple((name, share / total) for name, share in present)
