"""The verb `limner evaluate`: numbers for a trained model, each with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from limner.data.dataset import Dataset, open_dataset
from limner.errors import LimnerError
from limner.heads import default_heads
from limner.metrics.card import Card
from limner.metrics.choosing import check_names
from limner.metrics.evaluate import evaluate_model
from limner.models import Model
from limner.training.config import read_config
from limner.training.distributed import join_world
from limner.training.evaluation_record import ClosestPairs, keep
from limner.training.evaluation_table import show_cards, shown
from limner.training.instruments import AUTO, choose_instruments
from limner.training.load import load
from limner.training.team import WorldTeam


def evaluate(
    run: tyro.conf.Positional[Path],
    *,
    metrics: tuple[str, ...] = (AUTO,),
    extractor: Literal["auto", "inception", "efficientnet-lite0", "probe", "torchscript", "none"] = "auto",
    extractor_weights: Path | None = None,
    resize: str | None = None,
    count: int = 5000,
    split: Literal["train", "valid", "test", "all"] = "train",
    reference: Path | None = None,
    weights: Literal["ema", "raw"] = "ema",
    data: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> list[Card]:
    """Measure a trained model against its dataset; every number is kept with its card in RUN/metrics.

    Under torchrun the processes share the work and the numbers stay the same.

    Args:
        run: folder of a run.
        metrics: which numbers: auto (all that can be measured here) or some of swd, ms_ssim, fid, fd, kid, kd,
            inception_score, precision, recall, density, coverage, ppl, copy_rate, attribute_accuracy, code_recovery,
            pose_control, identity_constancy, reconstruction; spaces or commas between them.
        extractor: the network whose features are compared; auto takes inception where its weights are at hand, else
            the probe in the dataset's folder, else efficientnet-lite0 where it is installed.
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
    """
    metrics = tuple(name for names in metrics for name in names.split(",") if name)
    _check(run, metrics, count)
    with join_world(device) as world:
        model = load(run, weights, str(world.device))
        dataset = _open_data(run, model, data)
        found = choose_instruments(
            model,
            dataset,
            metrics=metrics,
            extractor=extractor,
            weights=extractor_weights,
            resize=resize,
            count=min(count, len(dataset.indices(split))),
            own_data=data is None,
            reference=reference,
            device=str(world.device),
        )
        pairs = ClosestPairs()
        with shown(world.is_first) as screen:
            for note in found.notes:
                screen.note(note)
            cards = evaluate_model(
                model,
                dataset,
                metrics=found.metrics,
                count=count,
                split=split,
                seed=seed,
                weights_name=weights,
                images_seen=model.checkpoint.images_seen,  # type: ignore[union-attr, arg-type]
                model_name=model.name,
                extractor=found.extractor,
                probe=found.probe,
                reference=reference,
                show_copies=pairs.keep,
                progress=screen.told,
                team=WorldTeam(world),
            )
        if world.is_first:
            keep(run, cards, pairs)
            show_cards(cards)
    return cards


def _check(run: Path, metrics: tuple[str, ...], count: int) -> None:
    """Refuse what can be seen to be wrong before anything is read."""
    if AUTO in metrics and metrics != (AUTO,):
        raise LimnerError("metrics: auto stands for all that can be measured; name it alone, or name others")
    if metrics != (AUTO,):
        check_names(metrics)
    if count < 1:
        raise LimnerError(f"count {count}: must be at least 1")
    if not run.is_dir():
        raise LimnerError(f"{run}: not a run's folder; give the folder that `limner train` printed")


def _open_data(run: Path, model: Model, data: Path | None) -> Dataset:
    """What was asked for, or what the run was trained on."""
    _, config = read_config(run / "config.json")
    return open_dataset(data or config.data or default_heads(config.resolution or model.resolution, config.heads))
