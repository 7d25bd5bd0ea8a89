"""How long an evaluation will take: the seconds of each of its steps, from the speeds of this machine.

Every rule says how the work of a metric grows with the images: linearly (SWD, path length), with fakes × training
images (the copy rate), with the square of the count (neighbours) or not at all (Fréchet distance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from limner.metrics import swd
from limner.metrics.extractors.base import Extractor
from limner.metrics.kernel import SUBSET_SIZE, SUBSETS
from limner.metrics.meters import IMAGES_PER_PAIR
from limner.metrics.path_length import NOISE_PAIRS
from limner.metrics.pyramid import levels
from limner.metrics.registry import METRICS
from limner.metrics.speeds import SORTED_IMAGES, Speeds
from limner.metrics.turns import frames_of, turns_for

NEIGHBOURS = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class Work:
    """What an evaluation will do."""

    metrics: tuple[str, ...]
    reals: int
    """images of the dataset; 0 where their mean and covariance are known and nothing else of them is needed"""
    fakes: int
    extractor: Extractor | None
    probe: Extractor | None
    seed: int = 0
    processes: int = 1
    """that share the images; what is computed of all images is the work of one of them"""


def expected_seconds(work: Work, speeds: Speeds) -> dict[str, float]:
    """Return the expected seconds of each step, in the order of `evaluate_model`: reals, fakes, turns, each metric."""
    steps = {
        "reals": work.reals * _per_real(work, speeds) / work.processes,
        "fakes": work.fakes * _per_fake(work, speeds) / work.processes,
        "turns": _turned(work, speeds) / work.processes,
    }
    steps = {name: seconds for name, seconds in steps.items() if seconds > 0}
    first = next((name for name in work.metrics if name in NEIGHBOURS), None)
    for name in work.metrics:
        # The four metrics of neighbours share one pass, which the first of them makes.
        shared = name in NEIGHBOURS and name != first
        steps[name] = 0.0 if shared else RULES[name](work, speeds)
    return steps


def _per_real(work: Work, speeds: Speeds) -> float:
    """Seconds to read one image of the dataset and to show it to every metric."""
    of_reals = [name for name in work.metrics if METRICS[name].of_reals]
    names = {row for name in of_reals for row in METRICS[name].takes}
    if not names:
        return 0.0
    encoded = speeds.reconstructed + 2 * speeds.scored if "reconstructed" in names else 0.0
    return speeds.read + encoded + _shown(of_reals, work, speeds)


def _per_fake(work: Work, speeds: Speeds) -> float:
    """Seconds to generate one image and to show it to every metric."""
    of_fakes = [name for name in work.metrics if METRICS[name].of_fakes and METRICS[name].takes]
    if not of_fakes:
        return 0.0
    return speeds.generated + _shown(of_fakes, work, speeds)


def _shown(metrics: list[str], work: Work, speeds: Speeds) -> float:
    """Seconds that one image takes in the networks and in the metrics that are fed image by image."""
    seconds = 0.0
    if work.extractor is not None and any("features" in METRICS[name].takes for name in metrics):
        seconds += speeds.features(work.extractor)
        if any(METRICS[name].moments for name in metrics):
            seconds += speeds.moments(work.extractor.width)
    if work.probe is not None:
        read = sum(METRICS[name].probe for name in metrics if METRICS[name].takes)
        seconds += read * speeds.features(work.probe)
    seconds += speeds.patches if "swd" in metrics else 0.0
    return seconds + (speeds.scored if "ms_ssim" in metrics else 0.0)


def _turned(work: Work, speeds: Speeds) -> float:
    axes = {axis for name in work.metrics for axis in METRICS[name].turns}
    if not axes or work.probe is None:
        return 0.0
    frames = turns_for(work.fakes) * frames_of(speeds.model.latents, axes)
    return frames * (speeds.generated + speeds.features(work.probe))


Rule = Callable[[Work, Speeds], float]


def _none(work: Work, speeds: Speeds) -> float:
    """All the work is done image by image."""
    return 0.0


def _swd(work: Work, speeds: Speeds) -> float:
    """Projections are sorted along every direction at every level."""
    rows = work.fakes * swd.PATCHES_PER_IMAGE
    longer = max(1.0, math.log(rows) / math.log(SORTED_IMAGES * swd.PATCHES_PER_IMAGE))
    return work.fakes * swd.DIRECTIONS * len(levels(speeds.model.resolution)) * speeds.projected * longer


def _copy_rate(work: Work, speeds: Speeds) -> float:
    return speeds.face_comparisons(work.fakes, work.seed) * speeds.compared_with_faces


def _frechet(work: Work, speeds: Speeds) -> float:
    return speeds.frechet(_width(work))


def _kernel(work: Work, speeds: Speeds) -> float:
    smaller, larger = sorted((work.reals, work.fakes))
    size = min(SUBSET_SIZE, smaller)
    return (1 if size == larger else SUBSETS) * speeds.kernel(_width(work), size)


def _neighbours(work: Work, speeds: Speeds) -> float:
    return speeds.neighbours(_width(work), max(work.reals, work.fakes))


def _path_length(work: Work, speeds: Speeds) -> float:
    """Both ends of a step are generated and looked at; some steps twice, to tell the rounding."""
    if work.extractor is None:
        return 0.0
    pairs = max(1, work.fakes // IMAGES_PER_PAIR)
    return 2 * (pairs + min(pairs, NOISE_PAIRS)) * (speeds.generated + speeds.features(work.extractor))


def _width(work: Work) -> int:
    return work.extractor.width if work.extractor is not None else 1


RULES: Mapping[str, Rule] = {
    "swd": _swd,
    "ms_ssim": _none,
    "fid": _frechet,
    "fd": _frechet,
    "kid": _kernel,
    "kd": _kernel,
    "inception_score": _none,
    "precision": _neighbours,
    "recall": _neighbours,
    "density": _neighbours,
    "coverage": _neighbours,
    "ppl": _path_length,
    "copy_rate": _copy_rate,
    "attribute_accuracy": _none,
    "code_recovery": _none,
    "pose_control": _none,
    "identity_constancy": _none,
    "reconstruction": _none,
}
"""metric → seconds to compute it once all images have been looked at"""
