"""The verb `limner plan`: what a run would take, without training anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from limner.data.dataset import Dataset, open_dataset
from limner.errors import ResourceError
from limner.training import command
from limner.training.batch_limits import refuse_more_than_the_data
from limner.training.distributed import join_world
from limner.training.forecast import Plan
from limner.training.memory import size
from limner.training.planning import make_plan
from limner.training.preflight import PATIENCE_SECONDS, StageFigures
from limner.training.progress import duration, kimg, short
from limner.training.settling import labels_of, outline, settle


def plan(words: Sequence[str]) -> int:
    """`limner plan [MODEL] [flags of train]`."""
    model_class, flags = command.chosen(words, "plan", command.PlanFlags)
    config = flags.config
    config.check()
    with join_world(config.device) as world:
        dataset = None if config.data is None else open_dataset(config.data)
        config = settle(model_class, config, dataset, world.device)
        labels = labels_of(config, dataset)
        if dataset is not None:
            refuse_more_than_the_data(outline(model_class, config, labels), config, len(dataset.indices("train")))
        found = make_plan(
            model_class,
            config,
            labels,
            world,
            flags.out or Path("runs"),
            for_another_machine=True,
            tell=_tell if world.is_first else lambda stage: None,
        )
        if world.is_first:
            _print(found, dataset)
        problems = found.problems()
        if problems:
            raise ResourceError("; ".join(problems))
    return 0


def _tell(stage: StageFigures) -> None:
    fits = f"{_about(stage)}{size(stage.peak_bytes)}" if stage.micro_batch else "does not fit"
    print(f"tried {stage.named}: {fits}", file=sys.stderr, flush=True)


def _print(plan: Plan, dataset: Dataset | None) -> None:
    """The plan on standard output."""
    config = plan.config
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    images = len(dataset.indices("train")) if dataset else None
    console.print(_table(plan, images))
    if images:
        console.print(f"data       {config.data}: {images} images to train on, every side that is needed")
    else:
        console.print("data       none given: no attributes are counted")
    if plan.stages[-1].micro_batch:
        for line in _totals(plan):
            console.print(line, soft_wrap=True)
    if any(stage.scaled for stage in plan.stages):
        console.print(
            f"≈          scaled from smaller batches: an iteration would take longer than {PATIENCE_SECONDS:g} s, or "
            "more memory than is free",
            soft_wrap=True,
        )
    for warning in plan.warnings():
        console.print(f"warning    {warning}", soft_wrap=True)


def _table(plan: Plan, images: int | None) -> Table:
    """A row for each stage."""
    title = f"{plan.model.name} {plan.model.resolution}², {plan.config.precision}"
    processes = f", {plan.processes} processes" if plan.processes > 1 else ""
    table = Table(title=title + processes, title_justify="left")
    table.add_column("stage")
    columns = ("kimg", "batch", "in parts of", "memory", "s / kimg", "time")
    for column in (*columns, "epochs") if images else columns:
        table.add_column(column, justify="right")
    for stage in plan.stages:
        row = [stage.named, kimg(stage.images), str(stage.batch_size), *_figures(plan, stage)]
        table.add_row(*row, *([f"{stage.images / images:.1f}"] if images else []))
    return table


def _figures(plan: Plan, stage: StageFigures) -> list[str]:
    if not stage.micro_batch:
        needs = f"{size(stage.peak_bytes)}: too much" if stage.peak_bytes < float("inf") else "too much"
        return ["", needs, "", ""]
    own, about = stage.batch_size // plan.processes, _about(stage)
    parts = str(stage.micro_batch) if stage.micro_batch < own else ""
    pace = short(float(f"{stage.seconds_per_image * 1000:.3g}"))
    return [parts, f"{about}{size(stage.peak_bytes)}", about + pace, about + duration(stage.seconds)]


def _about(stage: StageFigures) -> str:
    return "≈ " if stage.scaled else ""


def _totals(plan: Plan) -> list[str]:
    config, end = plan.config, datetime.now().astimezone() + timedelta(seconds=plan.seconds)
    where = plan.largest.named if plan.largest.peak_bytes >= plan.peak_bytes else "drawing a sheet"
    granted = plan.budget.said if plan.budget else ""
    sheets = f", {duration(plan.sheets * plan.sheet.seconds)} of it for {plan.sheets} sheets" if plan.sheet else ""
    return [
        f"memory     at most {size(plan.peak_bytes)} ({where}) of {granted}, for each process",
        f"time       {duration(plan.seconds)} for {kimg(config.images)} kimg{sheets}; metrics are not counted",
        f"end        {end:%a %d %b %Y %H:%M}, were it begun now",
        f"disk       {size(plan.disk_bytes)} of {size(plan.free_disk_bytes)} free: {config.keep_checkpoints} + 1 "
        f"checkpoints of {size(plan.checkpoint_bytes)}, sheets, log",
    ]
