"""From a model and a dataset to metric cards, in batches, by one process or several.

Every image is looked at once, whatever is measured of it: features are computed once per batch for all metrics that
need them. Memory grows with the images only where a metric needs all of them together (SWD's patches, features for
neighbours and kernels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics import reference as references
from limner.metrics.card import Card
from limner.metrics.choosing import check_kinds, check_metrics, check_reads
from limner.metrics.copies import Pair
from limner.metrics.extractors.base import Extractor
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.images import check_pair
from limner.metrics.measuring import Measuring, Progress, make_sets, nothing, silent
from limner.metrics.meters import Plan
from limner.metrics.registry import METRICS
from limner.metrics.rows import Alone, Rows, Team, deal
from limner.metrics.subject import (
    QUANTISATION,
    Asked,
    Generates,
    HasImages,
    ask,
    choose_reals,
    generate_fakes,
    kinds_of,
    read_reals,
    reconstruct,
)
from limner.metrics.turns import AXES, TurnReadings, ask_turns, read_turns, turns_for

__all__ = ["METRICS", "QUANTISATION", "check_metrics", "choose_reals", "compare_images", "evaluate_model"]

ALONE = Alone()


def evaluate_model(
    model: Generates,
    dataset: HasImages,
    *,
    metrics: Sequence[str] = ("swd", "ms_ssim"),
    count: int,
    split: str,
    seed: int = 0,
    weights_name: str,
    images_seen: int | None,
    model_name: str | None = None,
    extractor: Extractor | None = None,
    probe: ProbeExtractor | None = None,
    reference: Path | None = None,
    cache: bool = True,
    show_copies: Callable[[Tensor, Tensor, list[Pair]], None] | None = None,
    batch_size: int = 64,
    poll: Callable[[], None] = nothing,
    progress: Progress = silent,
    team: Team = ALONE,
) -> list[Card]:
    """Compare a model's images with a dataset's: one card per metric, in the order asked.

    Args:
        model: in eval mode; its images are compared as bytes at its own resolution.
        dataset: holds that resolution.
        metrics: names in METRICS.
        count: images of each set; at most as many as the split has, and the card says how many were asked for.
        split: "train", "valid", "test" or "all": the reals are a seeded choice from it, without replacement.
        seed: of latents, reals, patches, directions and subsets.
        weights_name: "ema" or "raw", for the card.
        images_seen: by the model in training, for the card.
        model_name: for the card; the name of the class by default.
        extractor: whose features are compared, for the metrics that need one.
        probe: reads attributes, for the metrics that need it.
        reference: file of reference statistics to compare with, instead of the dataset's images; fid and fd only.
        cache: where fid or fd is all that is asked of the reals' features, keep their mean and covariance for next
            time; the number is the same to the last bit.
        show_copies: given the closest fakes, their nearest training faces (uint8 [k, r, r, 3] both, mirrored where that
            is nearer) and how near, when copy_rate is measured.
        batch_size: images generated at once.
        poll: called between batches and within long sums; may raise, to stop.
        progress: told (what, images done, images in all).
        team: the processes that share the work; the cards are the first one's, the others get none.

    Raises:
        LimnerError: unknown metric, count below 1, model in training mode.
        DataError: the split is empty, or the dataset lacks the model's resolution.
        DivergedError: the model's images are not finite.
        ResourceError: count too large for the memory.
    """
    check_kinds(metrics, kinds_of(model))
    check_metrics(metrics, extractor.name if extractor else None, probe=probe is not None)
    if probe is not None:
        check_reads(metrics, probe.accuracy)
    if count < 1 or batch_size < 1:
        raise LimnerError(f"count {count}, batch_size {batch_size}: must be at least 1")
    if reference is not None:
        references.check_reference(reference, metrics)
    if getattr(model, "training", False):
        raise LimnerError("the model is in training mode, where batches decide what it generates; call model.eval()")
    chosen = choose_reals(dataset, split, count, seed)
    fakes_count = len(chosen) if reference is None else count
    asked = ask(model, dataset, chosen, fakes_count, seed)
    shown = partial(_show, show_copies, model, dataset, asked) if show_copies else None
    sets = make_sets(metrics)
    turns = _ask_turns(model, metrics, fakes_count, seed)
    plan = Plan(model.resolution, fakes_count, seed, sets, extractor, model, dataset, asked, probe, shown, turns)
    about: dict[str, Any] = {
        "count_requested": count,
        "count_reals": len(chosen),
        "count_fakes": fakes_count,
        "resolution": model.resolution,
        "quantisation": QUANTISATION,
        "resize": dataset.resize,
        "crop": dataset.crop,
        "dataset": dataset.name,
        "dataset_sha256": dataset.manifest_hash,
        "split": split,
        "seed": seed,
        "latents_seed": seed,
        "model": model_name or type(model).__name__,
        "weights": weights_name,
        "images_seen": images_seen,
        "attributes": asked.source,
    }
    measuring = Measuring(metrics, plan, first=team.rank == 0)
    with _reals_known(plan, metrics, split, len(chosen), reference, cache, team) as said:
        measuring.feed_reals(_told(_reals(measuring, chosen, batch_size, team, poll), "reals", len(chosen), progress))
    measuring.feed_fakes(_told(_fakes(measuring, asked, batch_size, team, poll), "fakes", fakes_count, progress))
    _read_turns(plan, batch_size, team, poll, progress)
    return measuring.cards(poll, progress, **{**about, **said})


@contextmanager
def _reals_known(
    plan: Plan, metrics: Sequence[str], split: str, count: int, file: Path | None, cache: bool, team: Team
) -> Iterator[Mapping[str, str | int | None]]:
    """Give the plan the reals' moments where they are known, and keep them afterwards where they are not yet.

    Yields what the card says of them instead of the dataset.
    """
    extractor, dataset, reals = plan.extractor, plan.dataset, plan.sets.reals
    if extractor is None or dataset is None or not (file or references.only_moments(metrics)):
        yield {}
        return
    key = references.protocol_of(
        dataset, split=split, resolution=plan.resolution, count=count, seed=plan.seed, extractor=extractor
    )
    if file is not None:
        reference = references.read_reference(file, key, extractor)
        reals.known = reference.moments
        yield reference.about
        return
    found = references.cached(key) if cache and team.rank == 0 else None
    if team.agree(found is not None):
        reals.known = found or references.ELSEWHERE
    yield {}
    if cache and reals.moments is not None and reals.moments.count > 1:
        references.keep(reals.moments, key)


def compare_images(
    reals: Tensor,
    fakes: Tensor,
    *,
    metrics: Sequence[str] = ("swd", "ms_ssim"),
    extractor: Extractor | None = None,
    seed: int = 0,
    batch_size: int = 64,
    poll: Callable[[], None] = nothing,
    **about: str | int | None,
) -> list[Card]:
    """Compare two sets of images from anywhere: one card per metric.

    Each set is put in a seeded random order first, since `ms_ssim` pairs neighbours and files of one person are often
    neighbours. The order is the same for both sets.

    Args:
        reals: uint8 [n, r, r, 3].
        fakes: uint8 [n, r, r, 3], equally many.
        metrics: names in METRICS, but those that need a model or its dataset.
        extractor: whose features are compared, for the metrics that need one.
        seed: of the order, patches, directions and subsets.
        batch_size: images measured at once; does not change the result.
        poll: called between batches; may raise, to stop.
        about: fields of the card that this function cannot know: crop, resize, dataset, dataset_sha256, split, model,
            weights, images_seen, latents_seed, quantisation.

    Raises:
        LimnerError: unknown metric, a wrong type, layout or size, or unequal counts.
    """
    check_metrics(metrics, extractor.name if extractor else None)
    check_pair(reals, fakes)
    plan = Plan(reals.shape[1], len(reals), seed, make_sets(metrics), extractor)
    measuring = Measuring(metrics, plan)
    order = torch.randperm(len(reals), generator=torch.Generator().manual_seed(seed)).split(batch_size)

    def look(images: Tensor, of_reals: bool) -> Iterator[Rows]:
        for some in order:
            poll()
            yield measuring.look(images[some.to(images.device)], measuring.names(of_reals=of_reals))

    measuring.feed_reals(look(reals, True))
    measuring.feed_fakes(look(fakes, False))
    known = {
        "count_requested": len(reals),
        "count_reals": len(reals),
        "count_fakes": len(fakes),
        "resolution": reals.shape[1],
        "quantisation": "bytes as given",
        "seed": seed,
    }
    return measuring.cards(poll, silent, **{**known, **about})


def _reals(
    measuring: Measuring, chosen: np.ndarray, batch_size: int, team: Team, poll: Callable[[], None]
) -> Iterator[Rows]:
    """The reals as the metrics look at them; nothing where none does."""
    model, dataset, names = measuring.plan.model, measuring.plan.dataset, measuring.names(of_reals=True)
    if dataset is None or not names:
        return

    def work(rows: np.ndarray) -> Rows:
        images = read_reals(dataset, measuring.plan.resolution, rows)
        looks = measuring.look(images, names)
        if model is None or "reconstructed" not in names:
            return looks
        return {**looks, "reconstructed": reconstruct(model, dataset, images, rows)}

    batches = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    yield from deal(batches, work, team, poll)


def _fakes(measuring: Measuring, asked: Asked, batch_size: int, team: Team, poll: Callable[[], None]) -> Iterator[Rows]:
    """The model's images likewise, with the attributes that it was asked for and the codes it was given."""
    model, names = measuring.plan.model, measuring.names(of_reals=False)
    if model is None or not names:
        return

    def work(some: slice) -> Rows:
        told = {"wanted": asked.wanted, "codes": asked.codes}
        known = {name: rows[some] for name, rows in told.items() if name in names and rows is not None}
        return {**measuring.look(generate_fakes(model, asked.latents[some]), names), **known}

    batches = [slice(start, start + batch_size) for start in range(0, len(asked.latents), batch_size)]
    yield from deal(batches, work, team, poll)


def _ask_turns(model: Generates, metrics: Sequence[str], count: int, seed: int) -> TurnReadings | None:
    """The turns that some of the metrics look at, along the axes that they need."""
    wanted = {axis for name in metrics for axis in METRICS[name].turns}
    if not wanted:
        return None
    return TurnReadings(ask_turns(model.latents, turns_for(count), seed, [axis for axis in AXES if axis in wanted]))


def _read_turns(plan: Plan, batch_size: int, team: Team, poll: Callable[[], None], progress: Progress) -> None:
    if plan.turns is None or plan.model is None or plan.probe is None:
        return
    turns = plan.turns.turns
    rows = read_turns(plan.model, plan.probe, turns, batch_size, team, poll)
    plan.turns.feed(_told(rows, "turns", len(turns.latents), progress))


def _show(
    show: Callable[[Tensor, Tensor, list[Pair]], None],
    model: Generates,
    dataset: HasImages,
    asked: Asked,
    pairs: list[Pair],
) -> None:
    fakes = generate_fakes(model, asked.latents[[pair.fake for pair in pairs]])
    faces = read_reals(dataset, model.resolution, np.array([pair.row for pair in pairs]))
    mirrored = [face.flip(1) if pair.mirrored else face for face, pair in zip(faces, pairs, strict=True)]
    show(fakes, torch.stack(mirrored), pairs)


def _told(batches: Iterator[Rows], what: str, of: int, progress: Progress) -> Iterator[Rows]:
    """The same batches, with their progress told."""
    done = 0
    for rows in batches:
        yield rows
        done += len(next(iter(rows.values())))
        progress(what, done, of)
