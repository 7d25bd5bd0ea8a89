"""The list of metrics: what each looks at, which extractors it exists for, and whether low or high is good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from limner.metrics import meters
from limner.metrics.card import Measurement
from limner.metrics.meters import (
    AttributeMeter,
    CodeMeter,
    Computed,
    CopyMeter,
    ImageMeter,
    Meter,
    Plan,
    Poll,
    ReconstructionMeter,
)
from limner.metrics.ms_ssim import MSSSIM
from limner.metrics.subject import Kind
from limner.metrics.swd import SWD

Better = Literal["lower", "higher", "as reals"]
Shown = Literal["attributes", "pose", "identity"]
"""what a probe may read of an image"""


@dataclass(frozen=True)
class Spec:
    """A metric, as it is chosen by name."""

    summary: str
    better: Better
    make: Callable[[Plan], Meter]
    takes: tuple[str, ...] = ()
    """of `limner.metrics.rows.Rows`: of the fakes, and of the reals where `of_reals`"""
    of_reals: bool = True
    of_fakes: bool = True
    extractor: Literal["none", "any", "inception", "not inception"] = "none"
    other_name: str | None = None
    """what the same formula is called on the features that `extractor` excludes"""
    moments: bool = False
    """mean and covariance of the features are all it needs"""
    reads: Shown | None = None
    """what a labelled set's probe is to read of the fakes; None: no probe reads them"""
    turns: tuple[str, ...] = ()
    """the axes along which the model's faces are turned for it"""
    model: bool = False
    """whether it needs the model itself"""
    of: Kind | None = None
    """the only kind of model it is a number of; None: of all"""
    split: str | None = None
    """the one it looks at, where that is not the evaluation's to choose"""
    beside: tuple[str, str] | None = None
    """the sub-value to read the value beside, and what to call that"""
    also: tuple[tuple[str, str], ...] = ()
    """more of them, which may be in another unit"""
    least: int = 1
    """images of each set below which there is no such number"""

    @property
    def probe(self) -> bool:
        """Whether a labelled set's probe reads the fakes."""
        return self.reads is not None


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
        reads="attributes",
        model=True,
        of="conditional",
        beside=("probe", "probe on real images"),
        also=(("balanced", "balanced"),),
    ),
    "code_recovery": Spec(
        "how much of an attribute a probe reads in the fakes the code of its name tells, or the one matched with it",
        "higher",
        CodeMeter,
        takes=("images", "codes"),
        of_reals=False,
        reads="attributes",
        model=True,
        of="codes",
        beside=("chance", "chance"),
        also=(("probe", "probe on real images"), ("matched", "best matching"), ("agreement", "agreement by name")),
        least=100,
    ),
    "pose_control": Spec(
        "how closely the yaw a probe reads in the fakes follows the yaw asked for",
        "higher",
        _computed(meters.of_pose_control),
        of_reals=False,
        reads="pose",
        turns=("yaw", "pitch", "roll"),
        model=True,
        of="poses",
        beside=("chance", "chance"),
        also=(
            ("rank_correlation", "rank correlation"),
            ("slope", "slope"),
            ("error_degrees", "degrees off"),
            ("probe_error_degrees", "probe on real images"),
            ("turning_back", "turning back"),
        ),
        least=100,
    ),
    "identity_constancy": Spec(
        "likeness, to a probe, of the frames of a turned face",
        "higher",
        _computed(meters.of_identity_constancy),
        of_reals=False,
        reads="identity",
        turns=("yaw",),
        model=True,
        of="poses",
        beside=("different", "other faces"),
        also=(
            ("probe_same", "one real person"),
            ("same_person", "taken for one person"),
            ("turned_degrees", "degrees turned"),
        ),
        least=100,
    ),
    "reconstruction": Spec(
        "PSNR of photos that the model encoded and made again, dB",
        "higher",
        ReconstructionMeter,
        takes=("images", "reconstructed"),
        of_fakes=False,
        model=True,
        of="encodes",
        beside=("mean_face", "mean face"),
        also=(("ms_ssim", "MS-SSIM"), ("mae", "mean absolute error")),
    ),
}
"""name → metric, in the order they are shown"""
