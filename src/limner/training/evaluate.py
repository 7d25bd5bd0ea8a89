"""The verb `limner evaluate`: numbers for a trained model, each with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from limner.data.dataset import open_dataset
from limner.errors import LimnerError
from limner.heads import default_heads
from limner.metrics.card import Card
from limner.metrics.evaluate import evaluate_model
from limner.training.config import read_config
from limner.training.load import load
from limner.training.log import RunLog
from limner.training.report import write_report


def evaluate(
    run: tyro.conf.Positional[Path],
    *,
    metrics: tuple[str, ...] = ("swd", "ms_ssim"),
    count: int = 5000,
    split: Literal["train", "valid", "test", "all"] = "train",
    weights: Literal["ema", "raw"] = "ema",
    data: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> list[Card]:
    """Measure a trained model against its dataset; every number is kept with its card in RUN/metrics.

    Args:
        run: folder of a run.
        metrics: which numbers; swd (sliced Wasserstein distance, lower is better) and ms_ssim (likeness of pairs of
            samples, lower is more diverse).
        count: images of each set; fewer where the split has fewer, and the number's name says how many.
        split: of the dataset, to compare with.
        weights: the moving average of the weights (ema), or the weights as trained (raw).
        data: another dataset to compare with; by default the one the run was trained on.
        seed: of latents, of the choice of reals, and of what the metrics draw.
        device: auto, cpu, cuda, cuda:1 ….
    """
    if not run.is_dir():
        raise LimnerError(f"{run}: not a run's folder; give the folder that `limner train` printed")
    _, config = read_config(run / "config.json")
    model = load(run, weights, device)
    folder = data or config.data or default_heads(config.resolution or model.resolution, config.heads)
    cards = evaluate_model(
        model,
        open_dataset(folder),
        metrics=metrics,
        count=count,
        split=split,
        seed=seed,
        weights_name=weights,
        images_seen=model.checkpoint.images_seen,  # type: ignore[union-attr, arg-type]
        model_name=model.name,
    )
    _keep(run, cards, folder, split)
    return cards


def _keep(run: Path, cards: list[Card], folder: Path, split: str) -> None:
    """The cards in the run's folder, its log and its report, and on the screen."""
    table = Table("metric", "value", "against", "weights", "images seen")
    with RunLog(run / "log.jsonl") as log:
        for card in cards:
            path = run / "metrics" / card.file_name
            card.write(path)
            log.write("metric", card.images_seen or 0, name=card.name, value=card.value, file=f"metrics/{path.name}")
            against = f"{folder.name}, {card.count_reals} of {split}"
            table.add_row(card.name, f"{card.value:.4g}", against, card.weights, f"{card.images_seen:,}")
    write_report(run)
    Console().print(table)
