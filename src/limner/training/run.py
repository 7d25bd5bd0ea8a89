"""A run: a folder, made by `train`, gone on with by `resume`."""

from __future__ import annotations

import contextlib
import json
import math
import platform
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from limner import __version__
from limner.checkpoint import DISK, Checkpoint, newest_checkpoint, remove_leftovers
from limner.data.dataset import Dataset
from limner.data.loader import Loader
from limner.errors import CheckpointError, LimnerError, ResourceError
from limner.explore.pictures import write_whole
from limner.metrics.choosing import check_class
from limner.models import Model
from limner.program import limner_command
from limner.training.batch_limits import refuse_more_than_the_data, refuse_more_than_the_memory
from limner.training.config import (
    TrainConfig,
    config_from_json,
    config_to_json,
    longer_decay,
    read_config,
    refuse_changes,
)
from limner.training.distributed import World, join_world
from limner.training.estimate import Estimate
from limner.training.given import settings_of, settings_to_resume
from limner.training.lock import RunLock
from limner.training.log import RunLog, read_log
from limner.training.memory import is_out_of_memory, peak_bytes, size
from limner.training.pace import pace_of, pace_so_far
from limner.training.planning import preflight
from limner.training.preflight import micro_batches_by_resolution
from limner.training.progress import Progress
from limner.training.randomness import seed_everything
from limner.training.recorder import Recorder
from limner.training.settling import chosen_attributes, labels_of, open_data, outline, settle
from limner.training.signals import StopSignals
from limner.training.threads import thread_monitor, threads_of_a_run, use_recorded_threads
from limner.training.trainer import NotFiniteError, Recipe, Trainer


def train(
    model: str | type[Model],
    config: TrainConfig[Any] | None = None,
    out: str | Path | None = None,
    stop_at: float | None = None,
    **settings: Any,
) -> Path:
    """Train a model from its beginning; returns the run's folder.

    Args:
        model: its name, such as "dcgan", or its class.
        config: its settings and the run's; by default the model's own.
        out: the folder to make; by default the next free number under `runs/`.
        stop_at: kimg at which to stop for now, saved; the run's goal stays `config.kimg`. None: at the goal.
        settings: single settings instead, of the run or of the model: `kimg=100, data="faces", latent_dim=64`.

    Raises:
        LimnerError: the model or a setting is not known or not as it has to be.
    """
    model_class, config = settings_of(model, config, settings)
    out = None if out is None else Path(out)
    config.check()
    check_class(config.metrics, model_class)
    with join_world(config.device) as world, threads_of_a_run(config.threads):
        dataset = open_data(config)
        config = settle(model_class, config, dataset, world.device)
        _last_image(config, stop_at, 0)
        _refuse_impossible_batches(model_class, config, dataset, world)
        pace = pace_of(config, world, partial(_make_trainer, model_class, config, dataset, world))
        plan = preflight(model_class, config, labels_of(config, dataset), world, out or Path("runs"))
        config = plan.settled(config)
        folder = _make_folder(model_class, config, dataset, out, world)
        estimate = Estimate(plan=plan, pace=pace, pictures=len(dataset.indices("train")))
        _train_in(folder, model_class, config, dataset, world, None, estimate, stop_at)
    return folder


def resume(
    run: str | Path,
    model: str | type[Model] | None = None,
    config: TrainConfig[Any] | None = None,
    stop_at: float | None = None,
    **settings: Any,
) -> Path:
    """Go on from a run's newest good checkpoint, exactly as if it had never stopped.

    Args:
        run: its folder.
        model: its class, where it is one outside limner; by default the one that the run names.
        config: its settings; by default the run's. Those that shape the weights must be what they were. `kimg`
            may be higher: the run goes on to there, and a learning rate that decays goes on as in a run of that length.
        stop_at: kimg at which to stop for now, saved; the run's goal stays `config.kimg`. None: at the goal.
        settings: single settings to change, such as `kimg=200`.

    Raises:
        CheckpointError: no checkpoint verifies, or settings or data are not what they were.
        LimnerError: the run has reached its goal, or a lower one is asked for.
    """
    folder = Path(run)
    model_class, config = settings_to_resume(folder, model, config, settings)
    config.check()
    with join_world(config.device) as world, threads_of_a_run(None):
        dataset = open_data(config)
        _train_in(folder, model_class, config, dataset, world, folder / "checkpoints", stop_at=stop_at)
    return folder


def _train_in(
    folder: Path,
    model_class: type[Model],
    config: TrainConfig[Any],
    dataset: Dataset,
    world: World,
    checkpoints: Path | None,
    estimate: Estimate | None = None,
    stop_at: float | None = None,
) -> None:
    most_threads = torch.get_num_threads() if estimate is None or estimate.pace is None else max(estimate.pace.speeds)
    with ExitStack() as stack:
        if world.is_first:
            stack.enter_context(RunLock(folder))
            remove_leftovers(folder / "checkpoints")
            if checkpoints is None:
                _refuse_a_run(folder)  # another process may have begun and ended one since this one looked
        world.wait()
        rejected: list[str] = []
        found = newest_checkpoint(checkpoints, rejected.append) if checkpoints else None
        changed = _refuse_another(folder, model_class, config, dataset, found) if checkpoints else []
        start = found.images_seen if found else 0
        last = _last_image(config, stop_at, start)
        if estimate is None:
            fewer = use_recorded_threads(config.threads, found.facts if found else {})
            plan = preflight(model_class, config, labels_of(config, dataset), world, folder, start)
            changed += [*fewer, *plan.smaller_parts(config)]
            config = plan.settled(config)
            estimate = Estimate(plan=plan, pace=pace_so_far(folder, found), pictures=len(dataset.indices("train")))
        signals = stack.enter_context(StopSignals(folder))  # until here there was nothing to save
        if world.is_first:
            _write_config(folder, model_class, config)
        trainer = _make_trainer(model_class, config, dataset, world)
        log = (
            stack.enter_context(RunLog(folder / "log.jsonl", tensorboard=config.tensorboard))
            if world.is_first
            else None
        )
        progress = stack.enter_context(Progress(config.images, start)) if world.is_first else None
        facts = _facts(model_class, config, dataset, trainer)
        if found:
            trainer.load_state(found.tensors, found.facts)
        monitor = thread_monitor(config.threads, world, most_threads)
        recorder = Recorder(folder, config, facts, trainer, dataset, log, progress, signals, monitor)
        recorder.tell([*estimate.plan.lines(), *estimate.lines()])
        if found:
            recorder.resumed(found, [*rejected, *changed])
        else:
            recorder.begin({"dataset": dataset.name, **_machine(world, trainer)})
        recorder.planned(estimate)
        _fit(trainer, recorder, last, config.images)


def _fit(trainer: Trainer, recorder: Recorder, last: int, goal: int) -> None:
    while True:
        try:
            trainer.fit(last, recorder.after_iteration)
            if trainer.images_seen >= goal:
                recorder.end()
            else:
                recorder.pause()
            return
        except NotFiniteError as error:
            recorder.roll_back(error)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            recorder.give_up("out of memory")
            raise ResourceError(_out_of_memory(trainer, recorder.folder)) from error


def _refuse_impossible_batches(
    model_class: type[Model], config: TrainConfig[Any], dataset: Dataset, world: World
) -> None:
    model = outline(model_class, config, labels_of(config, dataset))
    refuse_more_than_the_data(model, config, len(dataset.indices("train")))
    refuse_more_than_the_memory(model_class, config, labels_of(config, dataset), world)


def _last_image(config: TrainConfig[Any], stop_at: float | None, images_seen: int) -> int:
    """Images seen at which to stop: the run's goal, or where `stop_at` asks for less.

    Raises:
        LimnerError: `stop_at` is beyond the goal, or has been passed already.
    """
    if stop_at is None:
        return config.images
    images = round(1000 * stop_at) if math.isfinite(stop_at) else 0
    if images > config.images:
        raise LimnerError(
            f"--stop-at {stop_at:g} is beyond the run's goal of {config.images / 1000:g} kimg; leave it out, or ask "
            f"for a longer run with --kimg {stop_at:g}"
        )
    if images <= images_seen:
        raise LimnerError(
            f"--stop-at {stop_at:g}: must be more than the {images_seen / 1000:g} kimg that the run has seen already"
        )
    return images


def _out_of_memory(trainer: Trainer, folder: Path) -> str:
    stage = trainer.model.stage(trainer.images_seen)
    batch_size = stage.batch_size or trainer.recipe.batch_size
    micro_batch = trainer.recipe.micro_batches.get(stage.resolution, trainer.recipe.micro_batch)
    parts = f" in parts of {micro_batch}" if micro_batch else ""
    taken = peak_bytes(trainer.world.device)
    return (
        f"out of memory at {trainer.images_seen} images, {stage.resolution}²{' fading in' if stage.fading else ''}, "
        f"batches of {batch_size}{parts}: {size(taken)} were taken at most; go on in smaller parts with "
        f"`limner resume {folder} --memory {max(1, round(0.8 * taken / 1e6))}MB`, or on a machine with more"
    )


def _make_folder(
    model_class: type[Model], config: TrainConfig[Any], dataset: Dataset, out: Path | None, world: World
) -> Path:
    folder = out or next_free(Path("runs"), _stem(model_class, dataset, config.resolution))
    folder = Path(world.share_text(str(folder)))
    if not world.is_first:
        return folder
    _refuse_a_run(folder)
    try:
        for name in ("checkpoints", "samples", "metrics"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    _flush_folders(folder, *folder.absolute().parents[:2])
    return folder


def _refuse_a_run(folder: Path) -> None:
    if (folder / "config.json").exists():
        raise LimnerError(
            f"{folder}: there is a run already; go on with `limner resume {folder}`, or use another --out"
        )


def _flush_folders(*folders: Path) -> None:
    """So that a power cut does not take what was made in them."""
    for folder in folders:
        with contextlib.suppress(OSError):  # one we may not read was not made here, and some disks cannot
            DISK.flush_folder(folder)


def _stem(model_class: type[Model], dataset: Dataset, resolution: int | None) -> str:
    side = f"-{resolution}"
    return f"{model_class.name}-{dataset.name.removesuffix(side)}{side}"


def next_free(parent: Path, stem: str) -> Path:
    """`parent/stem-001`, or the first number after it that is not taken."""
    number = 1
    while (parent / f"{stem}-{number:03d}").exists():
        number += 1
    return parent / f"{stem}-{number:03d}"


def _make_trainer(model_class: type[Model], config: TrainConfig[Any], dataset: Dataset, world: World) -> Trainer:
    if config.resolution is None or config.batch_size is None:
        raise LimnerError("resolution and batch_size must be settled before training")
    names = chosen_attributes(config.attributes, dataset)
    loader = Loader(dataset, seed=config.seed, device=world.device, mirror=config.mirror, attributes=names)
    seed_everything(config.seed, 0)  # every process builds the same weights …
    model = model_class(config.model, config.resolution, loader.labels)
    seed_everything(config.seed, world.rank)  # … and draws its own noise
    recipe = Recipe(
        seed=config.seed,
        batch_size=config.batch_size,
        micro_batch=config.micro_batch,
        micro_batches=micro_batches_by_resolution(model, config.micro_batches),
        bf16=config.precision == "bf16",
        ema_half_life_kimg=config.ema_half_life_kimg,
        ema_rampup=config.ema_rampup,
        learning_rate_factor=config.learning_rate_factor,
    )
    return Trainer(model, loader, recipe, world)


def _facts(model_class: type[Model], config: TrainConfig[Any], dataset: Dataset, trainer: Trainer) -> dict[str, Any]:
    """What every checkpoint of this run says besides its clock and its number of threads."""
    return {
        "config": config_to_json(model_class, config),
        "resolution": trainer.model.resolution,
        "labels": trainer.loader.labels.to_json(),
        "dataset": {
            "name": dataset.name,
            "manifest_sha256": dataset.manifest_hash,
            "count": dataset.count,
            "crop": dataset.crop,
        },
        "versions": {"limner": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def _refuse_another(
    folder: Path, model_class: type[Model], config: TrainConfig[Any], dataset: Dataset, found: Checkpoint | None
) -> list[str]:
    """What changed since the checkpoint and may; anything else is refused."""
    _refuse_a_lower_goal(folder, model_class, config)
    if found is None:
        return []
    changed = refuse_changes(found.facts["config"], config_to_json(model_class, config))
    _, made_with = config_from_json(found.facts["config"], found.path, model_class)
    changed += [line for line in [longer_decay(made_with, config, found.images_seen)] if line]
    before = found.facts["dataset"]["manifest_sha256"]
    if before != dataset.manifest_hash:
        raise CheckpointError(
            f"{dataset.folder}: not the dataset {folder} was trained on (its SHA-256 is {dataset.manifest_hash[:12]}…, "
            f"was {before[:12]}…); give the right one with --data"
        )
    if found.images_seen >= config.images and _finished(folder, found.images_seen):
        more = 1.5 * config.images / 1000
        raise LimnerError(
            f"{folder}: the run reached its goal of {config.images / 1000:g} kimg; to train it further, ask for more: "
            f"{limner_command()} resume {folder} --kimg {more:.3g}"
        )
    return changed


def _refuse_a_lower_goal(folder: Path, model_class: type[Model], config: TrainConfig[Any]) -> None:
    if not (folder / "config.json").exists():  # killed before it was written: the run begins again
        return
    goal, asked = read_config(folder / "config.json", model_class)[1].images / 1000, config.images / 1000
    if asked < goal:
        raise LimnerError(
            f"{folder}: the run's goal is {goal:g} kimg, and --kimg {asked:g} is less; to stop earlier and keep the "
            f"goal, use --stop-at {asked:g}"
        )


def _finished(folder: Path, images_seen: int) -> bool:
    """Whether the run came to its end there; one stopped while it measured at the end still has that to do."""
    ends = [event for event in read_log(folder / "log.jsonl") if event["event"] == "end"]
    return any(event["images"] >= images_seen and event.get("reason") == "finished" for event in ends)


def _write_config(folder: Path, model_class: type[Model], config: TrainConfig[Any]) -> None:
    text = json.dumps(config_to_json(model_class, config), indent=2)
    write_whole(folder / "config.json", (text + "\n").encode())
    _flush_folders(folder)


def _machine(world: World, trainer: Trainer) -> Mapping[str, Any]:
    device = (
        torch.cuda.get_device_name(world.device)
        if world.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "device": f"{world.device.type}: {device}",
        "processes": world.size,
        "torch": torch.__version__,
        "limner": __version__,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
    }
