"""Who one head is: sex, age, origin and build, and the shape targets that these blend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.pack import Pack

ORIGINS = ("african", "asian", "caucasian")
SEXES_AND_AGES = ("male-young", "male-old", "female-young", "female-old")
ORIGIN_TARGETS = tuple(f"macro/{origin}-{kind}" for kind in SEXES_AND_AGES for origin in ORIGINS)
BUILD_TARGETS = {
    build: tuple(f"macro/universal-{kind}-averagemuscle-{build}" for kind in SEXES_AND_AGES)
    for build in ("maxweight", "minweight")
}
YOUNG_SHARE = 0.55
YOUNG_AGES = (18.0, 36.0)  # years; ages keep clear of the line between young and not
OLD_AGES = (54.0, 86.0)
YOUNGER_THAN = 45.0


@dataclass(frozen=True)
class Identity:
    """Who it is. masculinity in [0, 1]; origin: shares of ORIGINS, summing to 1; build: 0 average, -1 thin, 1 heavy."""

    male: bool
    masculinity: float
    age_years: float
    origin: np.ndarray
    build: float

    @property
    def young(self) -> bool:
        return self.age_years < YOUNGER_THAN


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a person: half are male, no origin is commoner than another, most show one origin above all."""
    male = bool(rng.random() < 0.5)
    masculinity = float(rng.beta(9, 1.2))
    young = rng.random() < YOUNG_SHARE
    return Identity(
        male=male,
        masculinity=masculinity if male else 1 - masculinity,
        age_years=float(rng.uniform(*(YOUNG_AGES if young else OLD_AGES))),
        origin=rng.dirichlet([0.3, 0.3, 0.3]),
        build=float(np.clip(rng.normal(-0.1, 0.22), -0.6, 0.3)),
    )


def label_identity(identity: Identity) -> dict[str, bool]:
    """The labels that follow from who it is."""
    return {"Male": identity.male, "Young": identity.young}


def macro_weights(pack: Pack, identity: Identity) -> np.ndarray:
    """Weights (t,) of the shape targets that blend sex, age, origin and build."""
    weights = np.zeros(len(pack.target_index), np.float32)
    old = float(np.clip((identity.age_years - 25) / 60, 0, 1))
    build = "maxweight" if identity.build > 0 else "minweight"
    sexes, ages = (identity.masculinity, 1 - identity.masculinity), (1 - old, old)
    shares = np.array([sex * age for sex in sexes for age in ages])
    weights[pack.targets_named(ORIGIN_TARGETS)] = (shares[:, None] * identity.origin).ravel()
    weights[pack.targets_named(BUILD_TARGETS[build])] = shares * min(abs(identity.build), 1.0)
    return weights


def average_weights(pack: Pack) -> np.ndarray:
    """Weights (t,) of the average young adult, on whom shadows and hair are fitted."""
    return macro_weights(
        pack, Identity(male=True, masculinity=0.5, age_years=30.0, origin=np.full(3, 1 / 3), build=0.0)
    )
