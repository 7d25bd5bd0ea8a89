"""What float32 does to the perceptual path length: the same paths in float32 and in float64.

    python -m benchmarks.path_length_rounding [--out benchmarks/results/path_length_rounding.json]

The generator is a DCGAN of 64² with random weights, the features are EfficientNet-Lite0's, and its pixels themselves.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import torch
from torch import Tensor

from limner.metrics.extractors import open_extractor
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.extractors.efficientnet_lite0 import EfficientNetLite0Extractor
from limner.metrics.extractors.lite_network import SIDE
from limner.metrics.path_length import perceptual_path_length
from limner.models.dcgan import DCGAN, DCGANConfig

PAIRS = 24


class Through(Extractor):
    """Features by a function of images."""

    name, sha256, width, resize = "pixels", "0" * 64, 0, "none"

    def __init__(self, function: object = None) -> None:
        self._function = function

    def of_bytes(self, images: Tensor) -> Features:
        raise NotImplementedError("path length takes floats")

    def of_floats(self, images: Tensor) -> Tensor:
        return images.flatten(1) if self._function is None else self._function(images)  # type: ignore[operator]


def random_model() -> DCGAN:
    """Batch norms fitted to what it paints, in eval mode."""
    torch.manual_seed(0)
    model = DCGAN(DCGANConfig(width=32), 64)
    for parameter in model.generator.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.06)
    model.train()
    with torch.no_grad():
        for seed in range(60):
            model.generate(model.latents.sample(64, torch.Generator().manual_seed(seed)))
    return model.eval()


def in_float64(extractor: EfficientNetLite0Extractor) -> Through:
    """The same network, weights and resizing, all in float64."""
    network = copy.deepcopy(extractor._network).double()
    weights = extractor.rule.weights(64, SIDE).double()

    def features(images: Tensor) -> Tensor:
        pixels = torch.einsum("oi,ncij,pj->ncop", weights, (images.double() + 1) * 127.5, weights)
        return network(((pixels.clamp(0, 255) if extractor.rule.clips else pixels) - 127) / 128)

    return Through(features)


def measure(pairs: int = PAIRS) -> list[dict[str, object]]:
    """One row per kind of features and step."""
    model = random_model()
    exact = copy.deepcopy(model).double()
    extractor = open_extractor("efficientnet-lite0")
    assert isinstance(extractor, EfficientNetLite0Extractor)
    rows: list[dict[str, object]] = []
    for epsilon in (1e-3, 1e-4, 1e-5):
        for name, single, double in (
            ("pixels", Through(), Through()),
            ("efficientnet-lite0", extractor, in_float64(extractor)),
        ):
            ours = perceptual_path_length(model.generate, model.latents, single, pairs=pairs, epsilon=epsilon)
            true = perceptual_path_length(
                exact.generate, exact.latents, double, pairs=pairs, epsilon=epsilon, dtype=torch.float64
            )
            rows.append(
                {
                    "features": name,
                    "epsilon": epsilon,
                    "float32": ours.value,
                    "float64": true.value,
                    "too long by": ours.value / true.value - 1,
                    "noise / value": ours.values["noise"] / ours.value,
                }
            )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write JSON there")
    options = parser.parse_args()
    found = measure()
    for row in found:
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items()))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
