"""Where the reals' mean and covariance come from, when a metric needs nothing else of them: a file or the cache.

A file of others does not say of what it is. Its SHA-256 then stands for the dataset on the card and everything else is
"unknown", so that two numbers against the same file compare, and no others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from limner.errors import DataError, LimnerError, ResourceError
from limner.metrics.extractors.base import Extractor
from limner.metrics.features import KnownMoments
from limner.metrics.moments import Moments
from limner.metrics.registry import METRICS
from limner.metrics.statistics import (
    Protocol,
    Statistics,
    cache_path,
    check_agreement,
    read_cached,
    read_statistics,
    write_statistics,
)
from limner.metrics.subject import HasImages

UNKNOWN = "unknown"
ELSEWHERE = KnownMoments(torch.zeros(0).double(), torch.zeros(0, 0).double(), None)
"""known to the first process of a team, which is the only one that needs to know"""


@dataclass(frozen=True)
class Reference:
    """The reals' moments from a file, and what a card says of them."""

    moments: KnownMoments
    about: Mapping[str, str | int | None]


def protocol_of(
    dataset: HasImages, *, split: str, resolution: int, count: int, seed: int, extractor: Extractor
) -> Protocol:
    """Of what the statistics of these reals would be."""
    return Protocol(
        dataset=dataset.name,
        dataset_sha256=dataset.manifest_hash,
        crop=dataset.crop,
        dataset_resize=dataset.resize,
        split=split,
        resolution=resolution,
        count=count,
        seed=seed,
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        resize=extractor.resize,
        code_version=metadata.version("limner"),
    )


def only_moments(metrics: Sequence[str]) -> bool:
    """Whether mean and covariance are all that these metrics need of the reals' features, and some need them."""
    specs = [METRICS[name] for name in metrics if "features" in METRICS[name].takes]
    return bool(specs) and all(spec.moments for spec in specs)


def check_reference(path: Path, metrics: Sequence[str]) -> None:
    """Refuse metrics that need more of the reals than a file of statistics holds."""
    more = [name for name in metrics if not METRICS[name].moments]
    if more:
        raise LimnerError(
            f"{path}: holds the reals' mean and covariance only, and {', '.join(more)} needs more of them; "
            "with a reference ask for --metrics fid (of inception) or fd alone"
        )


def read_reference(path: Path, wanted: Protocol, extractor: Extractor) -> Reference:
    """Moments from a `.npz` file of limner or of others.

    Raises:
        DataError: the file is damaged, of another width, or limner's own of another dataset or extractor.
    """
    found = read_statistics(path)
    check_agreement(found, wanted, str(path))
    protocol = found.protocol
    count = protocol.count if protocol else None
    if len(found.mean) != extractor.width:
        raise DataError(
            f"{path}: statistics of {len(found.mean)} features, and {extractor.name} makes {extractor.width}; "
            "use the extractor that the file was made with"
        )
    moments = KnownMoments(found.mean, found.covariance, count)
    if protocol:
        return Reference(moments, {"split": protocol.split, "count_reals": protocol.count})
    unknown = dict.fromkeys(("split", "crop", "resize"), UNKNOWN)
    about = {"dataset": path.name, "dataset_sha256": found.sha256, "count_reals": None, **unknown}
    return Reference(moments, about)


def cached(protocol: Protocol) -> KnownMoments | None:
    """What was computed before for exactly these reals and this extractor."""
    found = read_cached(protocol)
    return None if found is None else KnownMoments(found.mean, found.covariance, protocol.count)


def keep(moments: Moments, protocol: Protocol) -> None:
    """Put into the cache what was computed now; where it cannot be written, the next evaluation computes it again."""
    with contextlib.suppress(ResourceError):
        write_statistics(cache_path(protocol), Statistics.from_moments(moments, protocol))
