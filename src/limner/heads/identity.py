"""The shape of one head as target weights: who it is (sex, age, origin, build, features) and what its face does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.pack import Pack

ORIGINS = ("african", "asian", "caucasian")
FEATURE_SPREAD = 0.16  # standard deviation of a local target's weight; 0.33 looks like caricature
FEATURE_LIMIT = 0.4
FEATURE_SHARE = 0.5  # of the features, that differ from the average in one head
STRONG_TARGETS = ("trans-", "asym", "neck", "head-square", "head-triangular", "head-diamond", "invertedtriangular")
YOUNG_AGES = (18.0, 38.0)
OLD_AGES = (52.0, 85.0)


@dataclass(frozen=True)
class Identity:
    """Who it is. femininity and age_share (0 young … 1 old) in [0, 1]; origin: shares of ORIGINS, summing to 1."""

    male: bool
    masculinity: float
    age_years: float
    origin: np.ndarray
    build: float


@dataclass(frozen=True)
class Expression:
    """What the face does: 0 not at all, 1 as far as the mesh goes. teeth: lips parted in a smile."""

    smile: float
    jaw_open: float
    teeth: float
    brows: float


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a person: half are male, two thirds young; ages keep clear of the line between young and not."""
    male = bool(rng.random() < 0.5)
    masculinity = float(rng.beta(9, 1.2))
    young = rng.random() < 0.68
    age_years = float(rng.uniform(*(YOUNG_AGES if young else OLD_AGES)))
    return Identity(
        male=male,
        masculinity=masculinity if male else 1 - masculinity,
        age_years=age_years,
        origin=rng.dirichlet([0.25, 0.25, 0.45]),
        build=float(rng.normal(0, 0.3)),
    )


def sample_expression(rng: np.random.Generator) -> Expression:
    """Draw an expression: half smile, plainly; a third of the others part their lips."""
    smiling, parted, amount, teeth_amount, jaw_amount = rng.random(5).tolist()
    brows = float(rng.normal(0.25, 0.2))
    if smiling < 0.5:
        teeth = 0.35 + 0.4 * teeth_amount if parted < 0.65 else 0.0
        jaw_open = 0.03 + 0.14 * jaw_amount if teeth else 0.0
        return Expression(smile=0.6 + 0.4 * amount, jaw_open=jaw_open, teeth=teeth, brows=brows)
    jaw_open = 0.18 + 0.25 * jaw_amount if parted < 0.25 else 0.0
    return Expression(smile=0.1 * amount, jaw_open=jaw_open, teeth=0.0, brows=brows)


def shape_weights(pack: Pack, identity: Identity, expression: Expression, rng: np.random.Generator) -> np.ndarray:
    """Weights (t,) of every shape target for this identity and expression; features are drawn from `rng`."""
    weights = np.zeros(len(pack.target_index), np.float32)
    _add_macro_weights(pack, weights, identity)
    _add_features(pack, weights, rng)
    _add_expression(pack, weights, expression)
    return weights


def average_weights(pack: Pack) -> np.ndarray:
    """Weights (t,) of the average young adult, on whom shadows and hair are fitted."""
    weights = np.zeros(len(pack.target_index), np.float32)
    average = Identity(male=True, masculinity=0.5, age_years=30.0, origin=np.full(3, 1 / 3), build=0.0)
    _add_macro_weights(pack, weights, average)
    return weights


def _add_macro_weights(pack: Pack, weights: np.ndarray, identity: Identity) -> None:
    old = float(np.clip((identity.age_years - 25) / 65, 0, 1))
    build = "maxweight" if identity.build > 0 else "minweight"
    for sex, sex_share in (("male", identity.masculinity), ("female", 1 - identity.masculinity)):
        for age, age_share in (("young", 1 - old), ("old", old)):
            share = sex_share * age_share
            for origin, origin_share in zip(ORIGINS, identity.origin, strict=True):
                weights[pack.target_index[f"macro/{origin}-{sex}-{age}"]] += share * origin_share
            build_target = f"macro/universal-{sex}-{age}-averagemuscle-{build}"
            weights[pack.target_index[build_target]] += share * min(abs(identity.build), 1.0)


def _add_features(pack: Pack, weights: np.ndarray, rng: np.random.Generator) -> None:
    """Give each feature a random weight, most of them none."""
    pairs = pack.local_pairs
    amounts = np.clip(rng.normal(0, FEATURE_SPREAD, len(pairs)), -FEATURE_LIMIT, FEATURE_LIMIT)
    shown = rng.random(len(pairs)) < FEATURE_SHARE
    for feature in np.flatnonzero(shown):
        low, high = pairs[feature]
        amount = float(amounts[feature])
        if any(strong in high for strong in STRONG_TARGETS):
            amount *= 0.5
        name = high if amount > 0 else low
        if name is not None:
            weights[pack.target_index[name]] = abs(amount)


def _add_expression(pack: Pack, weights: np.ndarray, expression: Expression) -> None:
    units = {
        "mouthSmile": expression.smile,
        "cheekSquint": 0.5 * expression.smile,
        "eyeSquint": 0.2 * expression.smile,
        "mouthUpperUp": expression.teeth,
        "mouthLowerDown": 0.6 * expression.teeth,
        "browOuterUp": max(expression.brows, 0.0),
        "browDown": max(-expression.brows, 0.0),
    }
    for unit, amount in units.items():
        for side in ("Left", "Right"):
            weights[pack.target_index[f"fu/{unit}{side}"]] = amount
    weights[pack.target_index["fu/jawOpen"]] = expression.jaw_open
    weights[pack.target_index["fu/browInnerUp"]] = max(expression.brows, 0.0)
