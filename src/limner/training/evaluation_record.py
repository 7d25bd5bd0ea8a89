"""What an evaluation leaves behind: cards, log lines, the closest pairs as a picture, the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from limner.explore.pictures import save_picture, sheet
from limner.metrics.card import Card
from limner.metrics.copies import Pair
from limner.signals import unbroken
from limner.training.log import RunLog
from limner.training.report import write_report

_PAIR_CELL_PIXELS = 96
_PAIRS_A_ROW = 4


class ClosestPairs:
    """The fakes nearest to a training face, each beside it, once they are known."""

    def __init__(self) -> None:
        self.images: Tensor | None = None
        self.pairs: list[Pair] = []

    def keep(self, fakes: Tensor, faces: Tensor, pairs: list[Pair]) -> None:
        """Take images [k, r, r, 3] of both."""
        self.images, self.pairs = torch.stack([fakes, faces], dim=1).flatten(0, 1), pairs

    def save(self, path: Path, card: Card) -> None:
        """A sheet: fake, face, fake, face …; its record says which and how near."""
        if self.images is None:
            return
        scale = max(-(-_PAIR_CELL_PIXELS // self.images.shape[1]), 1)
        told = [
            {"fake": pair.fake, "row": pair.row, "mirrored": pair.mirrored, "distance": round(pair.distance, 3)}
            for pair in self.pairs
        ]
        origin = {
            "what": "a model's faces, each left of its nearest training face",
            "model": card.model,
            "weights": card.weights,
            "images_seen": card.images_seen,
            "latents_seed": card.latents_seed,
            "pairs": told,
        }
        save_picture(sheet(self.images.numpy(), columns=2 * _PAIRS_A_ROW, scale=scale), path, origin)


def keep(run: Path, cards: Sequence[Card], pairs: ClosestPairs) -> None:
    """The cards in the run's folder, its log and its report; a signal waits until all are there."""
    (run / "metrics").mkdir(exist_ok=True)
    with unbroken(), RunLog(run / "log.jsonl") as log:
        for card in cards:
            path = run / "metrics" / card.file_name
            card.write(path)
            if card.metric == "copy_rate":
                pairs.save(path.with_suffix(".png"), card)
            log.write("metric", card.images_seen or 0, name=card.name, value=card.value, file=f"metrics/{path.name}")
        write_report(run)
