"""The features of one face: a few that are plainly one thing or the other and get a label, and many small ones that do
not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limner.heads.identity import Identity
from limner.heads.pack import Pack, load_pack

SPREAD = 0.13  # standard deviation of a small feature's weight; 0.33 looks like caricature
LIMIT = 0.32
SHOWN_SHARE = 0.5  # of the small features, that differ from the average in one head
STRONG_TARGETS = ("trans-", "asym", "neck", "head-square", "head-triangular", "head-diamond", "invertedtriangular")
PLAIN_SPREAD = 0.08  # standard deviation of a labelled feature's strength, whose mean is 1
# An old face sags: weights at the greatest age.
AGED = {
    "head/head-age-incr": 0.35,
    "mouth/mouth-laugh-lines-out": 0.5,
    "mouth/mouth-angles-down": 0.2,
    "eyes/l-eye-eyefold-down": 0.4,
}


@dataclass(frozen=True)
class PlainFeature:
    """A labelled feature: the share of heads that have it, and target weights with it and without it."""

    share: float
    present: dict[str, float]
    absent: dict[str, float]

    @property
    def regions(self) -> tuple[str, ...]:
        """Targets that the small features leave alone, so that they do not undo this one."""
        return tuple({name.removesuffix("-incr").removesuffix("-decr") for name in {**self.present, **self.absent}})


PLAIN_FEATURES = {
    "Big_Lips": PlainFeature(
        0.35,
        {
            "mouth/mouth-upperlip-volume-incr": 0.36,
            "mouth/mouth-lowerlip-volume-incr": 0.36,
            "mouth/mouth-upperlip-height-incr": 0.60,
            "mouth/mouth-lowerlip-height-incr": 0.60,
            "mouth/mouth-scale-vert-incr": 0.36,
            "mouth/mouth-scale-horiz-incr": 0.16,
        },
        {
            "mouth/mouth-upperlip-volume-decr": 0.32,
            "mouth/mouth-lowerlip-volume-decr": 0.32,
            "mouth/mouth-upperlip-height-decr": 0.40,
            "mouth/mouth-lowerlip-height-decr": 0.40,
            "mouth/mouth-scale-vert-decr": 0.20,
        },
    ),
    "Narrow_Eyes": PlainFeature(
        0.3,
        {
            "eyes/l-eye-height1-decr": 0.50,
            "eyes/l-eye-height2-decr": 0.60,
            "eyes/l-eye-height3-decr": 0.50,
            "fu/eyeSquintLeft": 0.25,
            "fu/eyeSquintRight": 0.25,
            "fu/eyeBlinkLeft": 0.08,
            "fu/eyeBlinkRight": 0.08,
        },
        {"eyes/l-eye-height1-incr": 0.18, "eyes/l-eye-height2-incr": 0.35, "eyes/l-eye-scale-incr": 0.20},
    ),
    "Chubby": PlainFeature(
        0.25,
        {
            "head/head-fat-incr": 0.62,
            "head/head-round": 0.25,
            "cheek/l-cheek-volume-incr": 0.45,
            "neck/neck-double-incr": 0.60,
            "macro/universal-male-young-averagemuscle-maxweight": 0.50,
            "macro/universal-female-young-averagemuscle-maxweight": 0.50,
        },
        {"head/head-fat-decr": 0.22, "cheek/l-cheek-volume-decr": 0.15},
    ),
}


@dataclass(frozen=True)
class Features:
    """plain: which of PLAIN_FEATURES a face has; strength (len(PLAIN_FEATURES),) around 1; small: (pairs,) weights."""

    plain: dict[str, bool]
    strength: np.ndarray
    small: np.ndarray


def sample_features(pack: Pack, rng: np.random.Generator) -> Features:
    """Draw the features of a face."""
    chances = rng.random(len(PLAIN_FEATURES))
    count = len(pack.local_pairs)
    small = np.clip(rng.normal(0, SPREAD, count), -LIMIT, LIMIT) * (rng.random(count) < SHOWN_SHARE)
    return Features(
        plain={
            name: bool(chance < feature.share)
            for (name, feature), chance in zip(PLAIN_FEATURES.items(), chances, strict=True)
        },
        strength=rng.normal(1, PLAIN_SPREAD, len(PLAIN_FEATURES)),
        small=small,
    )


def label_features(features: Features) -> dict[str, bool]:
    """The labels that the features decide."""
    return dict(features.plain)


def feature_weights(pack: Pack, identity: Identity, features: Features) -> np.ndarray:
    """Weights (t,) of the shape targets that give a face its features and its age."""
    weights = np.zeros(len(pack.target_index) + 1, np.float32)
    low, high, scale = _small_targets()
    weights[np.where(features.small > 0, high, low)] = np.abs(features.small) * scale
    weights = weights[:-1]
    for (name, feature), strength in zip(PLAIN_FEATURES.items(), features.strength, strict=True):
        _add(pack, weights, feature.present if features.plain[name] else feature.absent, float(strength))
    _add(pack, weights, AGED, float(np.clip((identity.age_years - 40) / 40, 0, 1)))
    return weights


def _add(pack: Pack, weights: np.ndarray, targets: dict[str, float], strength: float) -> None:
    weights[pack.targets_named(tuple(targets))] += strength * np.array(list(targets.values()))


@lru_cache(maxsize=1)
def _small_targets() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each local pair (p,): its targets at negative and positive weight, -1 where there is none or a labelled
    feature has it; and what its weight is multiplied by.
    """
    pack = load_pack()
    taken = tuple(name for feature in PLAIN_FEATURES.values() for name in feature.regions)
    low, high = (
        np.array([-1 if name is None or name.startswith(taken) else pack.target_index[name] for name in names])
        for names in zip(*pack.local_pairs, strict=True)
    )
    strong = np.array([any(part in name for part in STRONG_TARGETS) for _, name in pack.local_pairs])
    return low, high, np.where(strong, 0.5, 1.0).astype(np.float32)
