"""The verb `limner data statistics`: mean and covariance of a dataset's features, in the field's `.npz` form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from limner.arguments import FilePath
from limner.data.dataset import Dataset, open_dataset
from limner.errors import LimnerError
from limner.files import refuse_overwriting
from limner.metrics.extractors.base import Extractor
from limner.metrics.moments import Moments
from limner.metrics.reference import protocol_of
from limner.metrics.rows import Rows, deal
from limner.metrics.statistics import Statistics, write_statistics
from limner.metrics.subject import choose_reals, read_reals
from limner.training.distributed import join_world
from limner.training.evaluation_table import Screen, shown
from limner.training.instruments import NO_EXTRACTOR, choose_extractor
from limner.training.team import WorldTeam

_BATCH = 64


def statistics(
    dataset: Annotated[FilePath, tyro.conf.Positional],
    file: Annotated[FilePath, tyro.conf.Positional],
    *,
    extractor: Literal["auto", "inception", "efficientnet-lite0", "probe", "torchscript"] = "auto",
    extractor_weights: FilePath | None = None,
    resize: str | None = None,
    resolution: int | None = None,
    count: int | None = None,
    split: Literal["train", "valid", "test", "all"] = "train",
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write a dataset's reference statistics (mu and sigma) for `limner evaluate --reference`, or for other programs.

    Args:
        dataset: the folder.
        file: the .npz file to write.
        extractor: the network; auto as in `limner evaluate`.
        extractor_weights: the network's file.
        resize: how images come to the network's size (clean, pytorch-fid, torch-fidelity).
        resolution: side of the images, pixels; by default the dataset's largest.
        count: images; by default all of the split.
        split: of the dataset.
        seed: of the choice of images, where not all are taken.
        device: auto, cpu, cuda, cuda:1 ….
        overwrite: replace the file if it is there already.
    """
    file, weights = Path(file), None if extractor_weights is None else Path(extractor_weights)
    if file.suffix != ".npz":
        raise LimnerError(f"{file}: reference statistics are .npz files; name it {file.name}.npz")
    refuse_overwriting([file], overwrite)
    data = open_dataset(dataset)
    side = resolution or data.resolutions[-1]
    with join_world(device) as world:
        notes: list[str] = []
        network, _ = choose_extractor(extractor, (), weights, resize, data, side, str(world.device), notes)
        if network is None:
            raise LimnerError(f"data statistics: {NO_EXTRACTOR}")
        chosen = choose_reals(data, split, len(data.indices(split)) if count is None else count, seed)
        with shown(world.is_first) as screen:
            for note in notes:
                screen.note(note)
            moments = _moments(data, network, chosen, side, WorldTeam(world), screen)
        if not world.is_first:
            return
    protocol = protocol_of(data, split=split, resolution=side, count=len(chosen), seed=seed, extractor=network)
    write_statistics(file, Statistics.from_moments(moments, protocol))
    print(f"statistics    {file} ({network.name}, {len(chosen):,} images of {split} at {side}²)")


def _moments(
    data: Dataset, network: Extractor, chosen: np.ndarray, side: int, team: WorldTeam, screen: Screen
) -> Moments:
    """Of the chosen images' features; only the first process's are of all."""
    if len(chosen) < 2:
        raise LimnerError(f"data statistics: {len(chosen)} images have no covariance; use more")
    moments = Moments(network.width)

    def work(rows: np.ndarray) -> Rows:
        return {"features": network.of_bytes(read_reals(data, side, rows)).features}

    batches = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    for rows in deal(batches, work, team, lambda: None):
        moments.add(rows["features"])
        screen.told("images", moments.count, len(chosen))
    return moments
