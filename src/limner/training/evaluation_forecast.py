"""What an evaluation prints before it begins: the metrics, the network and why that one, and the expected time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from limner.data.dataset import Dataset
from limner.metrics.cost import Work, expected_seconds
from limner.metrics.extractors.base import Extractor
from limner.metrics.reference import cached, only_moments, protocol_of
from limner.metrics.speeds import Speeds
from limner.models import Model
from limner.training.instruments import Instruments
from limner.training.progress import duration


@dataclass(frozen=True)
class Forecast:
    """An evaluation whose metrics and network are still to be chosen."""

    model: Model
    dataset: Dataset
    reals: np.ndarray
    """rows of the dataset"""
    split: str
    count: int
    seed: int
    reference: Path | None
    processes: int

    @cached_property
    def speeds(self) -> Speeds:
        """Of this machine, measured once for all choices of a network."""
        return Speeds(self.model, self.dataset, self.reals)

    @property
    def fakes(self) -> int:
        """Images that the model will make."""
        return len(self.reals) if self.reference is None else self.count

    def steps(
        self, metrics: tuple[str, ...], extractor: Extractor | None, probe: Extractor | None
    ) -> Mapping[str, float]:
        """Return the expected seconds of each step with these metrics and networks."""
        reals = 0 if self._reals_known(metrics, extractor) else len(self.reals)
        work = Work(metrics, reals, self.fakes, extractor, probe, self.seed, self.processes)
        return expected_seconds(work, self.speeds)

    def _reals_known(self, metrics: tuple[str, ...], extractor: Extractor | None) -> bool:
        """Whether the reals' mean and covariance are all that is needed, and a file or the cache holds them."""
        if self.reference is not None:
            return True
        if extractor is None or not only_moments(metrics):
            return False
        protocol = protocol_of(
            self.dataset,
            split=self.split,
            resolution=self.model.resolution,
            count=len(self.reals),
            seed=self.seed,
            extractor=extractor,
        )
        return cached(protocol) is not None


def announcement(found: Instruments, forecast: Forecast, expected: Mapping[str, float]) -> str:
    """The line before an evaluation.

    Names the metrics, images, network and reason, the expected time, and how to make it shorter or longer.
    """
    against = (
        f"against {len(forecast.reals):,} of {forecast.dataset.name} ({forecast.split})"
        if forecast.reference is None
        else f"against {forecast.reference}"
    )
    network = found.extractor.name if found.extractor is not None else "pixels only"
    return (
        f"evaluate {', '.join(found.metrics)}: {forecast.fakes:,} generated images {against} · "
        f"{network} ({found.why}) · about {duration(max(sum(expected.values()), 1.0))} · "
        "change it with --count, --metrics, --extractor"
    )


def words(found: Instruments, forecast: Forecast) -> dict[str, str]:
    """What to call the steps that are no metric: whose images go through which network."""
    through = f" through {found.extractor.name}" if found.extractor is not None else ""
    return {
        "reals": f"images of {forecast.dataset.name}{through}",
        "fakes": f"generated images{through}",
        "turns": "turned faces",
    }
