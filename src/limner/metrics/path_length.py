"""Perceptual path length: how fast the features change on the way from one face to another.

Karras, Laine, Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, arXiv 1812.04948,
section 4.1:

    PPL = mean ‖ f(G(γ(t + ε))) - f(G(γ(t))) ‖² / ε²,   t ~ U(0, 1),   ε = 10⁻⁴                     (1)

γ runs from one latent of the prior to another along its geodesic: slerp for Gaussian and sphere, lerp for the rest.
Lower is smoother, and a generator that paints one picture has 0: read it beside a distance.

Departures from the paper: f is the features of an extractor (squared Euclidean distance), where the paper has LPIPS of
a VGG network, so the values compare with nobody's published ones. Pictures are not cropped. Both ends of a step have
the attributes of the first. As in the code published with the paper, steps below the 1st and above the 99th percentile
are left out.

Rounding: float32 pictures and features of two so close latents differ by little more than their own rounding, and
rounding can only lengthen. The squared distance at a step s is P s² + N with N of the rounding: a few pairs are
measured at ε/4 as well, and what N makes of the value, N/ε², is the sub-value `noise`, in the unit of the value.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import DivergedError, LimnerError
from limner.latents import AttributeRows, LatentSpace
from limner.metrics.card import Measurement
from limner.metrics.extractors.base import Extractor
from limner.types import Images, Latents

EPSILON = 1e-4
TRIMMED = 0.01
"""of the steps, at each end"""

NOISE_PAIRS = 64
_NOISE_SHARE = 1 / 4
"""of ε: small enough to tell N from P s², large enough for both ends to round independently"""


def perceptual_path_length(
    generate: Callable[[Latents], Images],
    latent_space: LatentSpace,
    extractor: Extractor,
    *,
    pairs: int,
    epsilon: float = EPSILON,
    seed: int = 0,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    poll: Callable[[], None] = lambda: None,
) -> Measurement:
    """Equation (1) without its smallest and largest 1 %.

    Args:
        generate: the model's, in eval mode.
        latent_space: the model's.
        extractor: whose features are compared; its `of_floats` is used, so that nothing is rounded to bytes.
        pairs: of latents, each with one step.
        epsilon: length of the step as a share of the path.
        seed: of latents and places. All are drawn on the CPU at once: the batch size changes no draw.
        batch_size: pairs generated at once.
        device: where `generate` takes its latents.
        dtype: of the latents given to `generate`; float64 for a float64 model.
        poll: called between batches; may raise, to stop.

    Raises:
        LimnerError: pairs below 1, or epsilon not in (0, 1).
        DivergedError: an image or a feature is not finite.
    """
    if pairs < 1 or batch_size < 1 or not 0 < epsilon < 1:
        raise LimnerError(f"ppl: {pairs} pairs, batches of {batch_size}, epsilon {epsilon}; use at least 1 and (0, 1)")
    starts, ends, places = _draw(latent_space, pairs, seed)

    def lengths(count: int, step: float) -> Float[Tensor, "n"]:
        found = []
        for rows in torch.arange(count).split(batch_size):
            poll()
            a, b, t = starts[rows], ends[rows], places[rows]
            here, there = (latent_space.interpolate(a, b, place).to(device, dtype) for place in (t, t + step))
            found.append(_squared_distances(generate, extractor, here, there))
        return torch.cat(found)

    steps = lengths(pairs, epsilon)
    noise = _noise(steps[:NOISE_PAIRS], lengths(min(pairs, NOISE_PAIRS), epsilon * _NOISE_SHARE))
    return Measurement(
        value=_trimmed_mean(steps / epsilon**2),
        values={"median": float((steps / epsilon**2).median()), "noise": noise / epsilon**2},
        settings={
            "pairs": pairs,
            "epsilon": epsilon,
            "path": "the prior's geodesic, full",
            "distance": "squared Euclidean, of features",
            "trimmed": f"lowest and highest {TRIMMED:.0%}",
            "attributes": "those of the path's start",
        },
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        extractor_resize=extractor.resize,
        count_reals=0,
        count_fakes=pairs,
    )


def _draw(latent_space: LatentSpace, pairs: int, seed: int) -> tuple[Latents, Latents, Float[Tensor, "n"]]:
    """Both ends of every path in float64, so that a step is not lost in the latents' own rounding, and t."""
    generator = torch.Generator().manual_seed(seed)
    starts, ends = (latent_space.sample(pairs, generator).double() for _ in range(2))
    held = {part.name for part in latent_space.parts if isinstance(part, AttributeRows)}
    ends = latent_space.replace(ends, **{n: p for n, p in latent_space.split(starts).items() if n in held})
    return starts, ends, torch.rand(pairs, generator=generator, dtype=torch.float64)


@torch.no_grad()
def _squared_distances(
    generate: Callable[[Latents], Images], extractor: Extractor, here: Latents, there: Latents
) -> Float[Tensor, "n"]:
    features = extractor.of_floats(generate(torch.cat([here, there])))
    if not bool(torch.isfinite(features).all()):
        raise DivergedError("ppl: an image or its features are not finite; go back to an earlier checkpoint")
    first, second = features.double().cpu().chunk(2)
    return (first - second).square().sum(dim=1)


def _noise(steps: Float[Tensor, "n"], small: Float[Tensor, "n"]) -> float:
    """The part of the mean squared distance that does not shrink with the step: N in D(s) = P s² + N."""
    share = _NOISE_SHARE**2
    return max(float((small.mean() - share * steps.mean()) / (1 - share)), 0.0)


def _trimmed_mean(values: Float[Tensor, "n"]) -> float:
    """Mean of those between two of the values, which count: so few are never trimmed away."""
    low = torch.quantile(values, TRIMMED, interpolation="lower")
    high = torch.quantile(values, 1 - TRIMMED, interpolation="higher")
    return float(values[(values >= low) & (values <= high)].mean())
