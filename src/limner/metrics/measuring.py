"""Metrics while they are measured: every image is looked at once, its rows are fed to all metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Card, Measurement
from limner.metrics.features import FeatureSets
from limner.metrics.meters import Meter, Plan
from limner.metrics.registry import METRICS
from limner.metrics.rows import Rows

Progress = Callable[[str, int, int], None]
"""told what is being done, how many images of it are done, and how many there are"""
_OF_THE_REALS = ("dataset", "dataset_sha256", "split", "crop", "resize", "attributes")


def nothing() -> None:
    """The `poll` of a caller who waits."""


def silent(what: str, done: int, of: int) -> None:
    """The `progress` of a caller who does not look."""


def make_sets(metrics: Sequence[str]) -> FeatureSets:
    """Sets that keep what these metrics need, and no more."""
    specs = [METRICS[name] for name in metrics if "features" in METRICS[name].takes]
    return FeatureSets(
        moments=any(spec.moments for spec in specs),
        keep=any(not spec.moments for spec in specs),
        keep_logits=any("logits" in spec.takes for spec in specs),
    )


class Measuring:
    """Some metrics of one evaluation. In a team only the first process has any: the others' share is to look."""

    def __init__(self, metrics: Sequence[str], plan: Plan, *, first: bool = True) -> None:
        self.metrics, self.plan = tuple(metrics), plan
        missing = [name for name in metrics if METRICS[name].model and plan.model is None]
        if missing:
            raise LimnerError(f"metrics: {missing[0]} needs the model; use evaluate_model")
        self._meters: dict[str, Meter] = {name: METRICS[name].make(plan) for name in metrics} if first else {}

    def look(self, images: Tensor, names: frozenset[str]) -> dict[str, Tensor]:
        """The rows of these names, of uint8 images [n, r, r, 3]."""
        rows = {"images": images} if "images" in names else {}
        if self.plan.extractor is not None and names & {"features", "logits"}:
            found = self.plan.extractor.of_bytes(images)
            rows["features"] = found.features
            if found.logits is not None and "logits" in names:
                rows["logits"] = found.logits
        return rows

    def names(self, *, of_reals: bool) -> frozenset[str]:
        """Of the rows that these metrics look at."""
        specs = [METRICS[name] for name in self.metrics]
        specs = [spec for spec in specs if (spec.of_reals if of_reals else spec.of_fakes)]
        names = frozenset(row for spec in specs for row in spec.takes)
        return names - {"features"} if of_reals and self.plan.sets.reals.known else names

    def feed_reals(self, batches: Iterable[Rows]) -> None:
        """All reals, before the fakes."""
        for rows in batches:
            if "features" in rows:
                self.plan.sets.reals.add(rows)
            for meter in self._meters.values():
                meter.add_reals(rows)

    def feed_fakes(self, batches: Iterable[Rows]) -> None:
        """All fakes, after the reals."""
        for rows in batches:
            if "features" in rows:
                self.plan.sets.fakes.add(rows)
            for meter in self._meters.values():
                meter.add_fakes(rows)

    def cards(self, poll: Callable[[], None], progress: Progress, **about: Any) -> list[Card]:
        """One a metric, in their order; none where there are no meters."""
        cards = []
        for done, (name, meter) in enumerate(self._meters.items()):
            progress(name, done, len(self._meters))
            cards.append(self._card(name, meter.result(poll), about))
        return cards

    def _card(self, name: str, found: Measurement, about: dict[str, Any]) -> Card:
        spec, plan = METRICS[name], self.plan
        network = plan.probe if spec.probe else plan.extractor if spec.extractor != "none" else None
        counts = {"count_reals": found.count_reals, "count_fakes": found.count_fakes}
        facts = about | {key: count for key, count in counts.items() if count is not None}
        if not spec.takes:  # of the model alone, whatever the dataset
            facts |= dict.fromkeys(_OF_THE_REALS)
        if spec.split:
            facts |= {"split": spec.split}
        return Card(
            metric=name,
            value=found.value,
            values=found.values,
            settings=found.settings,
            extractor=network.name if network else found.extractor,
            extractor_sha256=network.sha256 if network else found.extractor_sha256,
            extractor_resize=network.resize if network else found.extractor_resize,
            **facts,
        )
