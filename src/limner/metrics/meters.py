"""How each metric is fed in an evaluation: from images, from the features of both sets, or from the model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.attribute_accuracy import AttributeAccuracy
from limner.metrics.card import Measurement
from limner.metrics.code_recovery import CodeRecovery
from limner.metrics.codes import HasCodes, codes_of
from limner.metrics.copies import CopyRate, Pair
from limner.metrics.extractors.base import Extractor
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.features import FeatureSets
from limner.metrics.identity_constancy import identity_constancy
from limner.metrics.pose_control import pose_control
from limner.metrics.reconstruction import Reconstruction
from limner.metrics.rows import Rows
from limner.metrics.subject import Asked, Generates, HasImages, device_of
from limner.metrics.turns import TurnReadings

Poll = Callable[[], None]
SHOWN_PAIRS = 8
"""of fakes and their nearest training faces"""
IMAGES_PER_PAIR = 5
"""images of each set in an evaluation for one pair of its path length, which then costs a fifth of the rest"""


@dataclass(frozen=True)
class Plan:
    """What a metric may know before the first image."""

    resolution: int
    """pixels"""
    count: int
    """of fakes, and of reals where both are looked at"""
    seed: int
    sets: FeatureSets
    """of all metrics together, fed for all of them at once"""
    extractor: Extractor | None = None
    model: Generates | None = None
    dataset: HasImages | None = None
    asked: Asked | None = None
    probe: ProbeExtractor | None = None
    show_copies: Callable[[list[Pair]], None] | None = None
    turns: TurnReadings | None = None
    """of all metrics together"""


@runtime_checkable
class Meter(Protocol):
    """A metric in an evaluation: fed all reals, then all fakes, then asked once."""

    def add_reals(self, rows: Rows) -> None: ...
    def add_fakes(self, rows: Rows) -> None: ...
    def result(self, poll: Poll) -> Measurement: ...


@runtime_checkable
class OfImages(Protocol):
    """A metric of uint8 images [n, r, r, 3]."""

    def add_reals(self, images: Tensor) -> None: ...
    def add_fakes(self, images: Tensor) -> None: ...
    def result(self, poll: Poll) -> Measurement: ...


class ImageMeter:
    """A metric of images, fed from rows."""

    def __init__(self, metric: OfImages) -> None:
        self._metric = metric

    def add_reals(self, rows: Rows) -> None:
        self._metric.add_reals(rows["images"])

    def add_fakes(self, rows: Rows) -> None:
        self._metric.add_fakes(rows["images"])

    def result(self, poll: Poll) -> Measurement:
        return self._metric.result(poll)


class AttributeMeter:
    """Whether the fakes have the attributes that they were asked to have."""

    def __init__(self, plan: Plan) -> None:
        if plan.probe is None or plan.asked is None or plan.asked.wanted is None:
            raise LimnerError("metrics: attribute_accuracy is of conditional models; this one takes no attributes")
        self._metric = AttributeAccuracy(plan.probe, plan.asked.names)

    def add_reals(self, rows: Rows) -> None:
        pass

    def add_fakes(self, rows: Rows) -> None:
        self._metric.add(rows["images"], rows["wanted"])

    def result(self, poll: Poll) -> Measurement:
        poll()
        return replace(self._metric.result(), count_reals=0)


class CodeMeter:
    """Whether the codes that fakes were made with mean something, and what they are named."""

    def __init__(self, plan: Plan) -> None:
        if plan.probe is None or not isinstance(plan.model, HasCodes):
            raise LimnerError("metrics: code_recovery needs a model with codes and a probe")
        self._metric: CodeRecovery = CodeRecovery(plan.probe, codes_of(plan.model), plan.seed)

    def add_reals(self, rows: Rows) -> None:
        pass

    def add_fakes(self, rows: Rows) -> None:
        self._metric.add(rows["images"], rows["codes"])

    def result(self, poll: Poll) -> Measurement:
        poll()
        return replace(self._metric.result(), count_reals=0)


class ReconstructionMeter:
    """How much of the reals comes back once the model has encoded them."""

    def __init__(self, plan: Plan) -> None:
        self._metric = Reconstruction()

    def add_reals(self, rows: Rows) -> None:
        self._metric.add(rows["images"], rows["reconstructed"])

    def add_fakes(self, rows: Rows) -> None:
        pass

    def result(self, poll: Poll) -> Measurement:
        poll()
        return self._metric.result()


class CopyMeter:
    """Whether the fakes are training faces; shows the closest pairs to whoever wants to look."""

    def __init__(self, plan: Plan) -> None:
        if plan.dataset is None:
            raise LimnerError("metrics: copy_rate needs the dataset that the model was trained on")
        self._plan = plan
        self._metric = CopyRate(plan.dataset, resolution=plan.resolution, seed=plan.seed)

    def add_reals(self, rows: Rows) -> None:
        pass

    def add_fakes(self, rows: Rows) -> None:
        self._metric.add_fakes(rows["images"])

    def result(self, poll: Poll) -> Measurement:
        found = self._metric.result(poll)
        if self._plan.show_copies is not None:
            self._plan.show_copies(self._metric.closest(SHOWN_PAIRS))
        return found


class Computed:
    """A metric that is computed at the end, from the features of all, or with the model itself."""

    def __init__(self, plan: Plan, compute: Callable[[Plan, Poll], Measurement]) -> None:
        self._plan, self._compute = plan, compute

    def add_reals(self, rows: Rows) -> None:
        pass

    def add_fakes(self, rows: Rows) -> None:
        pass

    def result(self, poll: Poll) -> Measurement:
        poll()
        return self._compute(self._plan, poll)


def of_frechet(plan: Plan, poll: Poll) -> Measurement:
    """Fréchet distance of the two sets' Gaussians."""
    from limner.metrics.frechet import frechet_terms

    reals, fakes = plan.sets.reals.summed_up(), plan.sets.fakes.summed_up()
    means, covariances = frechet_terms(reals.mean, reals.covariance, fakes.mean, fakes.covariance)
    counts = [count for count in (reals.count, fakes.count) if count is not None]
    rank = "deficient" if min(counts) <= len(fakes.mean) else "full" if len(counts) == 2 else "unknown"
    return Measurement(
        value=means + covariances,
        values={"mean_term": means, "covariance_term": covariances},
        settings={"features": len(fakes.mean), "rank": rank, "precision": "float64"},
    )


def of_kernel(plan: Plan, poll: Poll) -> Measurement:
    """Kernel distance of the two sets."""
    from limner.metrics.kernel import kernel

    return kernel(plan.sets.reals.features, plan.sets.fakes.features, seed=plan.seed, poll=poll)


def of_inception_score(plan: Plan, poll: Poll) -> Measurement:
    """Inception score of the fakes; the same of the reals is the sub-value `reals`."""
    from limner.metrics.inception_score import inception_score, score

    found = score(plan.sets.fakes.logits, seed=plan.seed)
    reals, _ = inception_score(plan.sets.reals.logits, seed=plan.seed)
    rule = (plan.extractor and plan.extractor.logits_rule) or "the extractor's own"
    return replace(found, values={**found.values, "reals": reals}, settings={**found.settings, "logits": rule})


def of_neighbours(name: str) -> Callable[[Plan, Poll], Measurement]:
    """Precision, recall, density or coverage, of one pass for all four."""
    from limner.metrics.neighbours import measurements, prdc

    def compute(plan: Plan, poll: Poll) -> Measurement:
        found = plan.sets.once(
            "neighbours", lambda: prdc(plan.sets.reals.features, plan.sets.fakes.features, poll=poll)
        )
        return measurements(found)[name]

    return compute


def of_path_length(plan: Plan, poll: Poll) -> Measurement:
    """Perceptual path length of the model, a fifth as many pairs as fakes."""
    from limner.metrics.path_length import perceptual_path_length

    model, extractor = plan.model, plan.extractor
    if model is None or extractor is None:
        raise LimnerError("ppl needs a model and an extractor")
    pairs = max(1, plan.count // IMAGES_PER_PAIR)
    found = perceptual_path_length(
        model.generate,
        model.latents,
        extractor,
        pairs=pairs,
        seed=plan.seed,
        device=device_of(model),
        poll=poll,
    )
    return replace(found, count_reals=0, count_fakes=pairs)


def of_pose_control(plan: Plan, poll: Poll) -> Measurement:
    """How closely the pose read in turned fakes follows the pose asked for."""
    probe, turns = _turned(plan)
    return pose_control(turns, probe, plan.seed)


def of_identity_constancy(plan: Plan, poll: Poll) -> Measurement:
    """How alike the frames of a turned fake are as persons."""
    probe, turns = _turned(plan)
    return identity_constancy(turns, probe)


def _turned(plan: Plan) -> tuple[ProbeExtractor, TurnReadings]:
    if plan.probe is None or plan.turns is None:
        raise LimnerError("metrics: pose_control and identity_constancy need a model that turns and a probe")
    return plan.probe, plan.turns
