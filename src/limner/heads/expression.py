"""What a face does: smile, part its lips, lift its brows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.heads.pack import Pack

# The mesh's own face frowns a little; these weights make it calm.
AT_REST = {"fu/browInnerUp": 0.28, "eyebrows/eyebrows-angle-up": 0.22, "mouth/mouth-angles-up": 0.12}


@dataclass(frozen=True)
class Expression:
    """What the face does: 0 not at all, 1 as far as the mesh goes. upper_lip, lower_lip: drawn back from the teeth."""

    smile: float
    jaw_open: float
    upper_lip: float
    lower_lip: float
    brows: float

    @property
    def parted(self) -> bool:
        """Whether the lips are apart, so that the mouth's inside can be seen."""
        return self.jaw_open > 0 or self.upper_lip > 0


def sample_expression(rng: np.random.Generator) -> Expression:
    """Draw an expression: half smile, plainly; lips are parted in half of the smiles and a third of the others."""
    smiling, parted, amount, lips, jaw = rng.random(5).tolist()
    brows = float(np.clip(rng.normal(0.05, 0.15), -0.15, 0.4))
    if smiling < 0.5:
        smile = 0.65 + 0.35 * amount
        if parted < 0.55:
            return Expression(smile, 0.10 + 0.09 * jaw, 0.20 + 0.20 * lips, 0.20 + 0.15 * lips, brows)
        return Expression(smile, 0.0, 0.0, 0.0, brows)
    smile = 0.12 * amount
    if parted < 0.35:
        return Expression(smile + 0.08, 0.15 + 0.12 * jaw, 0.05 + 0.25 * lips, 0.1 + 0.2 * lips, brows)
    return Expression(smile, 0.0, 0.0, 0.0, brows)


def label_expression(expression: Expression) -> dict[str, bool]:
    """The labels that the expression decides."""
    return {"Mouth_Slightly_Open": expression.parted, "Smiling": expression.smile > 0.5}


def expression_weights(pack: Pack, expression: Expression) -> np.ndarray:
    """Weights (t,) of the shape targets that move the face."""
    units = {
        "mouthSmile": expression.smile,
        "cheekSquint": 0.35 * expression.smile,
        "eyeSquint": 0.08 * expression.smile,
        "mouthUpperUp": expression.upper_lip,
        "mouthLowerDown": expression.lower_lip,
        "browOuterUp": max(expression.brows, 0.0),
        "browDown": max(-expression.brows, 0.0),
    }
    weights = np.zeros(len(pack.target_index), np.float32)
    for side in ("Left", "Right"):
        weights[pack.targets_named(tuple(f"fu/{unit}{side}" for unit in units))] = list(units.values())
    weights[pack.target_index["fu/jawOpen"]] = expression.jaw_open
    for name, amount in AT_REST.items():
        weights[pack.target_index[name]] += amount
    weights[pack.target_index["fu/browInnerUp"]] += max(expression.brows, 0.0)
    return weights
