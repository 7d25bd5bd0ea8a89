"""What stands on the page: runs, and runs that differ by their seed alone as one group."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from limner.checkpoint import newest_checkpoint
from limner.errors import CheckpointError, LimnerError
from limner.latents import Labels
from limner.metrics.card import Card
from limner.metrics.codes import code_parts
from limner.models import Model
from limner.training.config import SAFE_FIELDS
from limner.training.load import load
from limner.training.record import RunRecord, read_run
from limner.training.run_folder import check_run

_logger = logging.getLogger(__name__)
_BESIDE_THE_MODEL = (SAFE_FIELDS - {"kimg"}) | {"model", "model_name", "model_source", "seed"}
"""settings that change nothing about the weights, and those told in another way"""


@dataclass(frozen=True)
class Contender:
    """One run: what its folder tells, and what its newest checkpoint says of it."""

    record: RunRecord
    facts: Mapping[str, Any]
    images_seen: int

    @property
    def folder(self) -> Path:
        return self.record.folder

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings the weights were trained with, as the checkpoint has them."""
        return self.facts["config"]

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @cached_property
    def labels(self) -> Labels:
        return Labels.from_json(self.facts["labels"])

    @property
    def cards(self) -> list[Card]:
        """Numbers of these weights: older ones are not of the model that is shown."""
        return [card for card in self.record.cards if card.images_seen == self.images_seen]

    @cached_property
    def run_settings(self) -> dict[str, Any]:
        """What shapes the weights but the model's own settings and the seed."""
        return {name: value for name, value in self.config.items() if name not in _BESIDE_THE_MODEL}

    @property
    def settings(self) -> dict[str, Any]:
        """The run's and the model's own, by name: runs that have all of these in common belong together."""
        return {**self.run_settings, **self.config["model"]}


@dataclass(frozen=True)
class Group:
    """Runs of one model with the same settings, one a seed, and the model of the first of them."""

    name: str
    """the model's, with the settings that tell it from other groups of that model"""
    runs: tuple[Contender, ...]
    model: Model

    @property
    def conditional(self) -> bool:
        """Whether its generator is told attributes."""
        return "attributes" in self.model.latents

    def images_of(self, run: Contender) -> int:
        """The images a run has seen; at its end those it was asked for, since its last iteration may go beyond them."""
        iteration = int(run.config["batch_size"]) * max(phase.steps for phase in self.model.phases())
        asked = round(run.config["kimg"] * 1000)
        return asked if asked <= run.images_seen < asked + iteration else run.images_seen

    @property
    def code_parts(self) -> tuple[str, ...]:
        """The latent parts that are codes of the model's own (InfoGAN)."""
        return code_parts(self.model)


def read_contender(folder: Path) -> Contender:
    """A run with its newest checkpoint that verifies.

    Raises:
        LimnerError: there is no such run.
        CheckpointError: it has no checkpoint.
    """
    check_run(folder)
    found = newest_checkpoint(folder / "checkpoints", lambda reason: _logger.warning("passed over %s", reason))
    if found is None:
        raise CheckpointError(f"{folder}: no checkpoint in it; has the run begun?")
    return Contender(read_run(folder), found.facts, found.images_seen)


def group_runs(runs: Sequence[Contender], device: str = "cpu", models: Sequence[type[Model]] = ()) -> list[Group]:
    """Runs of a model that differ by their seed alone belong together; in the order given.

    Args:
        runs: to be grouped.
        device: where their models are loaded.
        models: classes of models that are not part of limner, as a person named them.

    Raises:
        LimnerError: one run is named twice, or two of a group have the same seed.
    """
    _refuse_twice(runs)
    found: dict[str, list[Contender]] = {}
    for run in runs:
        found.setdefault(repr((run.config["model_name"], run.settings, run.images_seen)), []).append(run)
    members = list(found.values())
    for group in members:
        _refuse_same_seed(group)
    names = _names([group[0] for group in members])
    named = {model.name: model for model in models}
    loaded = [load(group[0].folder, device=device, model=named.get(group[0].config["model_name"])) for group in members]
    return [
        Group(name, tuple(sorted(group, key=lambda run: run.seed)), model)
        for name, group, model in zip(names, members, loaded, strict=True)
    ]


def _refuse_twice(runs: Sequence[Contender]) -> None:
    places = [run.folder.resolve() for run in runs]
    for place, run in zip(places, runs, strict=True):
        if places.count(place) > 1:
            raise LimnerError(f"{run.folder}: named twice; name each run once")


def _refuse_same_seed(group: Sequence[Contender]) -> None:
    for first, second in zip(ordered := sorted(group, key=lambda run: run.seed), ordered[1:], strict=False):
        if first.seed == second.seed:
            raise LimnerError(
                f"{second.folder}: the same model, settings and seed {second.seed} as {first.folder}; leave one out, "
                "or it would count twice"
            )


def _names(runs: Sequence[Contender]) -> list[str]:
    """A model's name, and where it stands there with several settings those that differ."""
    names = []
    for run in runs:
        model = run.config["model_name"]
        same = [other for other in runs if other.config["model_name"] == model]
        told = [(name, value) for name, value in run.settings.items() if _differs(name, same)]
        if len({other.images_seen for other in same}) > 1 and "kimg" not in dict(told):
            told.append(("images_seen", run.images_seen))
        names.append(" ".join([model, *(f"{name}={_shown(value)}" for name, value in told)]))
    return names


def _differs(name: str, runs: Sequence[Contender]) -> bool:
    return len({repr(run.settings.get(name)) for run in runs}) > 1


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
