"""The verb `limner evaluate`: numbers for a trained model, each with its card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from limner.arguments import FilePath, ModelChoice
from limner.data.dataset import Dataset, open_dataset
from limner.errors import LimnerError
from limner.heads import default_heads
from limner.metrics.card import Card
from limner.metrics.choosing import check_names
from limner.metrics.evaluate import choose_reals, evaluate_model
from limner.metrics.extractors.base import Extractor
from limner.metrics.reference import check_reference
from limner.models import Model
from limner.training.config import read_config
from limner.training.distributed import World, join_world
from limner.training.evaluation_forecast import Forecast, announcement, words
from limner.training.evaluation_record import ClosestPairs, keep
from limner.training.evaluation_table import show_cards, shown
from limner.training.instruments import AUTO, TimeLimit, choose_instruments
from limner.training.load import load
from limner.training.run_folder import check_run
from limner.training.team import WorldTeam

_MINUTES_ON_A_CPU = 3.0


def evaluate(
    run: tyro.conf.Positional[FilePath],
    *,
    metrics: Sequence[str] = (AUTO,),
    extractor: Literal["auto", "inception", "efficientnet-lite0", "probe", "torchscript", "none"] = "auto",
    extractor_weights: FilePath | None = None,
    resize: str | None = None,
    count: int = 5000,
    split: Literal["train", "valid", "test", "all"] = "train",
    reference: FilePath | None = None,
    weights: Literal["ema", "raw"] = "ema",
    data: FilePath | None = None,
    seed: int = 0,
    device: str = "auto",
    within: float | None = None,
    model: ModelChoice | None = None,
) -> list[Card]:
    """Measure a trained model against its dataset; every number is kept with its card in RUN/metrics.

    First it says what it will measure, with which network, on how many images, and about how long that takes here.
    Under torchrun the processes share the work and the numbers stay the same.

    Args:
        run: folder of a run.
        metrics: which numbers: auto (all that can be measured here) or some of swd, ms_ssim, fid, fd, kid, kd,
            inception_score, precision, recall, density, coverage, ppl, copy_rate, attribute_accuracy, code_recovery,
            pose_control, identity_constancy, reconstruction; spaces or commas between them.
        extractor: the network whose features are compared. auto takes on a GPU inception where its weights are at hand,
            else the probe in the dataset's folder, else efficientnet-lite0 where it is installed; on a CPU the probe
            first, and the others where metrics that need one are named or the time is enough (--within).
        extractor_weights: the network's file.
        resize: how images come to the network's size (clean, pytorch-fid, torch-fidelity); by default the network's
            own choice.
        count: images of each set; fewer where the split has fewer, and the number's name says how many.
        split: of the dataset, to compare with.
        reference: a file of reference statistics (.npz with mu and sigma) to compare with instead, for fid or fd.
        weights: the moving average of the weights (ema), or the weights as trained (raw).
        data: another dataset to compare with; by default the one the run was trained on.
        seed: of latents, of the choice of reals, and of what the metrics draw.
        device: auto, cpu, cuda, cuda:1 ….
        within: minutes that auto for both --metrics and --extractor may take with inception or efficientnet-lite0;
            above that features are left out, and the line says so. By default 3 on a CPU, unlimited on a GPU.
        model: the class of a run whose model is not part of limner; that file is run, so name only one you trust.
    """
    run, reference = Path(run), None if reference is None else Path(reference)
    given = [metrics] if isinstance(metrics, str) else metrics
    metrics = tuple(name for names in given for name in names.split(",") if name)
    _check(run, metrics, count, within)
    with join_world(device) as world:
        loaded = load(run, weights, str(world.device), model=model)
        dataset = _open_data(run, loaded, data)
        if reference is not None and metrics != (AUTO,):
            check_reference(reference, metrics)
        reals = choose_reals(dataset, split, count, seed)
        forecast = Forecast(loaded, dataset, reals, split, count, seed, reference, world.size)
        found = choose_instruments(
            loaded,
            dataset,
            metrics=metrics,
            extractor=extractor,
            weights=None if extractor_weights is None else Path(extractor_weights),
            resize=resize,
            count=len(reals),
            own_data=data is None,
            reference=reference,
            device=str(world.device),
            limit=_limit(within, world, forecast),
        )
        expected = forecast.steps(found.metrics, found.extractor, found.probe)
        pairs = ClosestPairs()
        with shown(world.is_first) as screen:
            for note in found.notes:
                screen.note(note)
            screen.note(announcement(found, forecast, expected))
            screen.expect(expected, words(found, forecast))
            cards = evaluate_model(
                loaded,
                dataset,
                metrics=found.metrics,
                count=count,
                split=split,
                seed=seed,
                weights_name=weights,
                images_seen=loaded.checkpoint.images_seen,  # type: ignore[union-attr, arg-type]
                model_name=loaded.name,
                extractor=found.extractor,
                probe=found.probe,
                reference=reference,
                show_copies=pairs.keep,
                poll=screen.poll,
                progress=screen.told,
                team=WorldTeam(world),
            )
        if world.is_first:
            keep(run, cards, pairs)
            show_cards(cards)
    return cards


def _check(run: Path, metrics: tuple[str, ...], count: int, within: float | None) -> None:
    """Refuse what can be seen to be wrong before anything is read."""
    if AUTO in metrics and metrics != (AUTO,):
        raise LimnerError("metrics: auto stands for all that can be measured; name it alone, or name others")
    if metrics != (AUTO,):
        check_names(metrics)
    if count < 1:
        raise LimnerError(f"count {count}: must be at least 1")
    if within is not None and not 0 <= within < math.inf:
        raise LimnerError(f"--within {within:g}: minutes, 0 or more; 0 takes no network that nobody asked for")
    check_run(run)


def _limit(within: float | None, world: World, forecast: Forecast) -> TimeLimit | None:
    """The time that `auto` may take; None on a GPU where nobody asked for a limit."""
    if within is None and world.device.type != "cpu":
        return None
    minutes = _MINUTES_ON_A_CPU if within is None else within

    def expected(metrics: tuple[str, ...], network: Extractor) -> float:
        return sum(forecast.steps(metrics, network, None).values())

    return TimeLimit(60 * minutes, expected, WorldTeam(world).agree)


def _open_data(run: Path, model: Model, data: FilePath | None) -> Dataset:
    """What was asked for, or what the run was trained on."""
    _, config = read_config(run / "config.json", type(model))
    return open_dataset(data or config.data or default_heads(config.resolution or model.resolution, config.heads))
