"""limner's models beside the rebuilt ones, as a Markdown table: from two folders of measured runs.

A metric's cards are compared only where their protocols agree in all but the weights: limner's are the moving average,
and the collection has none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limner.errors import DataError, LimnerError
from limner.metrics.card import Card, compare, read_card
from limner.metrics.registry import METRICS

COLUMNS = (
    "fd",
    "swd",
    "ms_ssim",
    "precision",
    "recall",
    "attribute_accuracy",
    "attribute_accuracy.balanced",
    "code_recovery",
    "reconstruction",
)
"""of which those that were measured are shown"""
LIKE = 0.02
"""budgets may differ by this share, since an iteration is never cut"""
Runs = dict[str, list[dict[str, Card]]]
"""model → the last cards of each of its runs, by name"""


@dataclass(frozen=True)
class Column:
    """A metric, or one of its sub-values, and which way is good."""

    key: str

    @property
    def metric(self) -> str:
        return self.key.split(".")[0]

    def value(self, card: Card) -> float:
        return card.values[self.key.split(".")[1]] if "." in self.key else card.value

    def badness(self, cards: Sequence[Card]) -> float:
        """Of the mean over seeds: the lower, the better."""
        mean = sum(map(self.value, cards)) / len(cards)
        better = METRICS[self.metric].better
        if better == "as reals":
            return abs(mean - cards[0].values["reals"])
        return mean if better == "lower" else -mean

    def title(self, cards: Sequence[Card]) -> str:
        """With the direction that is good, or what to be near."""
        spec, name = METRICS[self.metric], self.key.replace(".", ", ")
        if spec.better == "as reals":
            return f"{name} (reals {cards[0].values['reals']:.3g})"
        return f"{name} {'↓' if spec.better == 'lower' else '↑'}"


def table(ours: Path, theirs: Path) -> str:
    """Two lines a model: limner's, and the rebuilt one. Means over seeds, and the range; the better mean is bold.

    Raises:
        DataError: a folder holds no measured run, or the two have no model in common.
        LimnerError: budgets or protocols that differ.
    """
    own, other = find_runs(ours), find_runs(theirs)
    models = [model for model in other if model in own]
    if not models:
        raise DataError(f"{ours} and {theirs}: no model is measured in both; run and measure the same ones")
    columns = [Column(key) for key in COLUMNS if any(_cards(other[model], Column(key)) for model in models)]
    lines, worse = [], []
    for model in models:
        first, second = [f"**{model}**", "limner", f"{len(own[model])}"], ["", "rebuilt", f"{len(other[model])}"]
        for column in columns:
            cards = _cards(other[model], column)
            pair = _named(own[model], {card.name for card in cards}), cards
            if all(pair):
                check_alike(model, *pair)
            cells = _cells(column, *pair)
            first, second = [*first, cells[0]], [*second, cells[1]]
            if all(pair) and column.badness(pair[0]) > column.badness(pair[1]):
                worse.append(f"- {model}, {column.title(pair[1])}: {cells[0]} against {cells[1].strip('*')}")
        lines += [first, second]
    titles = [column.title([c for model in models for c in _cards(other[model], column)]) for column in columns]
    head = ["model", "whose", "seeds", *titles]
    rows = [head, ["---"] * len(head), *lines]
    told = "\n".join(["", "Where limner's mean is the worse one:", *(worse or ["- nowhere"])])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n" + told


def find_runs(folder: Path) -> Runs:
    """The measured runs in a folder, by model; of each run the cards with the most images seen, averages first."""
    found: Runs = defaultdict(list)
    for run in sorted(folder.iterdir()) if folder.is_dir() else []:
        facts = next((run / name for name in ("facts.json", "config.json") if (run / name).is_file()), None)
        if facts is None or not any((run / "metrics").glob("*.json")):
            continue
        content = json.loads(facts.read_text(encoding="utf-8"))
        model = str(content.get("model_name", content.get("model")))
        cards: dict[str, Card] = {}
        for card in sorted(map(read_card, (run / "metrics").glob("*.json")), key=_order):
            cards[card.name] = card
        found[model].append(cards)
    if not found:
        raise DataError(f"{folder}: no measured runs; give the folder whose folders are runs with metrics")
    return found


def _order(card: Card) -> tuple[int, bool]:
    return card.images_seen or 0, card.weights == "ema"


def _cards(runs: Sequence[dict[str, Card]], column: Column) -> list[Card]:
    """One per run: of the metric, with the most images."""
    found = []
    for cards in runs:
        fitting = [card for card in cards.values() if card.metric == column.metric]
        if fitting:
            found.append(max(fitting, key=lambda card: card.count_requested))
    return found


def _named(runs: Sequence[dict[str, Card]], names: set[str]) -> list[Card]:
    """One per run: that of the same metric of as many images; none of a run that is not measured to the end."""
    return [card for cards in runs for name, card in cards.items() if name in names]


def check_alike(model: str, ours: Sequence[Card], theirs: Sequence[Card]) -> None:
    """Refuse to set numbers beside each other that were not measured alike, or not after like budgets."""
    for card in (*ours, *theirs):
        compare(theirs[0], card, ignore=("weights", "code_version"))
        seen, wanted = card.images_seen or 0, theirs[0].images_seen or 0
        if abs(seen - wanted) > LIKE * wanted:
            raise LimnerError(f"{model}: {card.name} after {seen} images, and after {wanted}; train both as long")


def _cells(column: Column, ours: Sequence[Card], theirs: Sequence[Card]) -> tuple[str, str]:
    texts = [_cell([column.value(card) for card in cards]) if cards else "–" for cards in (ours, theirs)]
    if ours and theirs:
        ours_bad, theirs_bad = column.badness(ours), column.badness(theirs)
        if ours_bad != theirs_bad:
            winner = int(theirs_bad < ours_bad)
            texts[winner] = f"**{texts[winner]}**"
    return texts[0], texts[1]


def _cell(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3g}–{max(values):.3g})"
