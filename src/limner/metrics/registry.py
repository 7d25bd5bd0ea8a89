"""The list of metrics: what each looks at, which extractors it exists for, and whether low or high is good."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from limner.errors import LimnerError
from limner.metrics import meters
from limner.metrics.card import Measurement
from limner.metrics.meters import AttributeMeter, Computed, CopyMeter, ImageMeter, Meter, Plan, Poll
from limner.metrics.ms_ssim import MSSSIM
from limner.metrics.swd import SWD

Better = Literal["lower", "higher", "as reals"]


@dataclass(frozen=True)
class Spec:
    """A metric, as it is chosen by name."""

    summary: str
    better: Better
    make: Callable[[Plan], Meter]
    takes: tuple[str, ...] = ()
    """of `limner.metrics.rows.Rows`: of the fakes, and of the reals where `of_reals`"""
    of_reals: bool = True
    extractor: Literal["none", "any", "inception", "not inception"] = "none"
    other_name: str | None = None
    """what the same formula is called on the features that `extractor` excludes"""
    moments: bool = False
    """mean and covariance of the features are all it needs"""
    probe: bool = False
    """whether a labelled set's probe reads the fakes, which a conditional model made"""
    model: bool = False
    """whether it needs the model itself"""
    split: str | None = None
    """the one it looks at, where that is not the evaluation's to choose"""
    beside: tuple[str, str] | None = None
    """the sub-value to read the value beside, and what to call that"""
    least: int = 1
    """images of each set below which there is no such number"""


def _computed(compute: Callable[[Plan, Poll], Measurement]) -> Callable[[Plan], Meter]:
    return partial(_make_computed, compute)


def _make_computed(compute: Callable[[Plan, Poll], Measurement], plan: Plan) -> Meter:
    return Computed(plan, compute)


METRICS: Mapping[str, Spec] = {
    "swd": Spec(
        "sliced Wasserstein distance of patches, × 10³",
        "lower",
        lambda plan: ImageMeter(SWD(plan.resolution, plan.count, plan.seed)),
        takes=("images",),
    ),
    "ms_ssim": Spec(
        "likeness of pairs of samples",
        "as reals",
        lambda plan: ImageMeter(MSSSIM(plan.resolution, plan.count, plan.seed)),
        takes=("images",),
        least=2,
        beside=("reals", "reals"),
    ),
    "fid": Spec(
        "Fréchet distance of inception features",
        "lower",
        _computed(meters.of_frechet),
        takes=("features",),
        extractor="inception",
        other_name="fd",
        moments=True,
        least=2,
    ),
    "fd": Spec(
        "Fréchet distance of other features",
        "lower",
        _computed(meters.of_frechet),
        takes=("features",),
        extractor="not inception",
        other_name="fid",
        moments=True,
        least=2,
    ),
    "kid": Spec(
        "kernel distance of inception features",
        "lower",
        _computed(meters.of_kernel),
        takes=("features",),
        extractor="inception",
        other_name="kd",
        least=2,
        beside=("deviation", "±"),
    ),
    "kd": Spec(
        "kernel distance of other features",
        "lower",
        _computed(meters.of_kernel),
        takes=("features",),
        extractor="not inception",
        other_name="kid",
        least=2,
        beside=("deviation", "±"),
    ),
    "inception_score": Spec(
        "sure of a class, and of many: of ImageNet's, which has no faces",
        "higher",
        _computed(meters.of_inception_score),
        takes=("features", "logits"),
        extractor="inception",
        least=10,
        beside=("reals", "reals"),
    ),
    "precision": Spec(
        "share of fakes that lie among the reals",
        "higher",
        _computed(meters.of_neighbours("precision")),
        takes=("features",),
        extractor="any",
        least=6,
    ),
    "recall": Spec(
        "share of reals that lie among the fakes",
        "higher",
        _computed(meters.of_neighbours("recall")),
        takes=("features",),
        extractor="any",
        least=6,
    ),
    "density": Spec(
        "how many reals' neighbourhoods a fake lies in, of those it should",
        "higher",
        _computed(meters.of_neighbours("density")),
        takes=("features",),
        extractor="any",
        least=6,
    ),
    "coverage": Spec(
        "share of reals with a fake in their neighbourhood",
        "higher",
        _computed(meters.of_neighbours("coverage")),
        takes=("features",),
        extractor="any",
        least=6,
    ),
    "ppl": Spec(
        "perceptual path length along the prior's geodesic",
        "lower",
        _computed(meters.of_path_length),
        of_reals=False,
        extractor="any",
        model=True,
        beside=("noise", "of that, rounding"),
    ),
    "copy_rate": Spec(
        "share of fakes nearer to a training face than held-out faces are",
        "lower",
        CopyMeter,
        takes=("images",),
        of_reals=False,
        model=True,
        split="train",
        beside=("expected", "fresh faces"),
    ),
    "attribute_accuracy": Spec(
        "share of attributes asked for that a probe finds in the fakes",
        "higher",
        AttributeMeter,
        takes=("images", "wanted"),
        of_reals=False,
        probe=True,
        model=True,
        beside=("probe", "probe on real images"),
    ),
}
"""name → metric, in the order they are shown"""


def check_names(names: Sequence[str]) -> None:
    """Refuse metrics that do not exist, with the nearest one that does.

    Raises:
        LimnerError: none is named, or one is unknown.
    """
    if not names:
        raise LimnerError(f"metrics: none named; choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), METRICS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise LimnerError(f"metrics: {name!r} is not a metric; {hint}there are {', '.join(METRICS)}")


def check_metrics(names: Sequence[str], extractor: str | None = None, *, probe: bool = False) -> None:
    """Refuse metrics that do not exist, or do not with what is at hand, in one line that says what to do.

    Args:
        names: as asked for.
        extractor: the name of the one at hand, if any.
        probe: whether the dataset's probe is at hand.

    Raises:
        LimnerError: none is named, or one is unknown, or it exists for another extractor, or for none at hand.
    """
    check_names(names)
    for name in names:
        _check_extractor(name, extractor)
        if METRICS[name].probe and not probe:
            raise LimnerError(
                f"metrics: {name} needs the dataset's probe; make it with `limner data probe DATASET`, "
                "then measure with `limner evaluate RUN`"
            )


def _check_extractor(name: str, extractor: str | None) -> None:
    spec = METRICS[name]
    if spec.extractor == "none":
        return
    if extractor is None:
        raise LimnerError(
            f"metrics: {name} compares features, and no extractor is at hand; measure it with `limner evaluate RUN "
            f"--metrics {name} --extractor {'inception' if spec.extractor == 'inception' else 'NAME'}`"
        )
    if exists_for(name, extractor):
        return
    instead = f"ask for {spec.other_name}, or " if spec.other_name else ""
    if spec.extractor == "inception":
        why = f"{name} is a number of inception's features, not of {extractor}'s; {instead}use --extractor inception"
    else:
        why = f"of inception's features {name} is called {spec.other_name}; ask for {spec.other_name}"
    raise LimnerError(f"metrics: {why}")


def exists_for(name: str, extractor: str | None) -> bool:
    """Whether a metric has a meaning on this extractor's features (None: without any)."""
    wanted = METRICS[name].extractor
    if wanted in ("none", "any"):
        return wanted == "none" or extractor is not None
    return extractor is not None and (extractor == "inception") == (wanted == "inception")


def applicable(extractor: str | None, *, count: int, probe: bool = False, model: bool = True) -> tuple[str, ...]:
    """All metrics that can be measured with what is at hand.

    Args:
        extractor: its name, if any.
        count: images of each set.
        probe: whether a probe is at hand that reads what a conditional model is asked for.
        model: whether there is a model, not only its images.
    """
    return tuple(
        name
        for name, spec in METRICS.items()
        if exists_for(name, extractor)
        and count >= spec.least
        and (probe or not spec.probe)
        and (model or not spec.model)
    )
