"""Stopped anywhere and gone on with, a run ends with the same bits as one that was never stopped."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import random
import shutil
import signal
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import kill_harness
from kill_harness import (
    BATCH,
    DATASET_IMAGES,
    DONE,
    KNOWN,
    Tally,
    Trials,
    die,
    digest_of,
    final_digest,
    fork,
    judge,
    kill_at_storage_call,
    kill_in,
    kill_in_loss,
    make_dataset,
    restless_is_known,
    tiny_config,
    wait,
)
from limner import checkpoint
from limner.checkpoint import checkpoint_name, list_checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint
from limner.data.dataset import open_dataset
from limner.errors import CheckpointError, LimnerError, ResourceError
from limner.training import config as config_module
from limner.training import recorder, run, sheets, trainer
from limner.training.config import SAFE_FIELDS, TrainConfig, config_to_json, refuse_changes
from limner.training.distributed import World
from limner.training.lock import RunLock
from limner.training.log import read_events, read_log
from limner.training.randomness import capture_states
from limner.training.trainer import Trainer

NAMES = ("dcgan", "wgan-gp", "restless")
"""for what does not depend on the model's kind"""


@pytest.fixture(autouse=True, scope="module")
def _restless() -> Iterator[None]:
    with restless_is_known():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def dataset(root: Path) -> Path:
    return make_dataset(root / "dataset")


@pytest.fixture(scope="module")
def trials(root: Path, dataset: Path) -> dict[str, Trials]:
    """One run of each model that was never killed, to compare with; made when it is asked for."""

    class Made(dict[str, Trials]):
        def __missing__(self, name: str) -> Trials:
            self[name] = Trials(name, root, iterations=7)
            return self[name]

    return Made()


def assert_clean(tally: Tally) -> None:
    assert (tally.lost, tally.unreadable, tally.not_exact) == (0, 0, 0), tally
    assert tally.runs > 0
    assert tally.most_iterations_redone <= 1, tally


# --- K1, K2, K3, K7: kill -9 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_killed_at_random_times(trials: dict[str, Trials], name: str) -> None:
    tally = Tally()
    trials[name].kill_at_random_times(5, random.Random(name), tally)
    assert_clean(tally)
    assert tally.kills == 5


@pytest.mark.parametrize("name", NAMES)
def test_killed_at_each_kind_of_storage_call(trials: dict[str, Trials], name: str) -> None:
    """All in one run, each in its process's second save."""
    tally, one = Tally(), trials[name]
    folder = one.folder("each-kind")
    for kind in ("write", "flush", "rename", "close", "create", "flush_folder", "remove"):
        place = 80 if kind == "write" else 1 if kind == "remove" else 2
        assert one.kill_at(folder, kind, place, "half" if kind == "write" else "before", tally)
    one.succeed(folder)
    one.compare(folder, tally)
    assert_clean(tally)
    assert tally.temp_open == 4


@pytest.mark.parametrize("kind", ["create", "write", "flush", "close", "rename", "flush_folder"])
def test_killed_in_the_first_save_ever_the_run_begins_again(trials: dict[str, Trials], kind: str) -> None:
    """Three flushes of folders come before the first save: those of the run's own folders."""
    one, tally = trials["restless"], Tally()
    folder = one.folder(f"first-{kind}")
    place = 5 if kind == "flush_folder" else 1
    assert one.kill_at(folder, kind, place, "half" if kind == "write" else "before", tally)
    assert len(list_checkpoints(folder / "checkpoints")) == (kind == "flush_folder")
    one.succeed(folder)
    one.compare(folder, tally)
    assert_clean(tally)


def test_killed_while_resuming_and_while_pruning_and_twice_in_a_row(trials: dict[str, Trials]) -> None:
    one, tally = trials["dcgan"], Tally()
    folder = one.folder("load")
    assert one.kill_at(folder, "remove", 2, "before", tally)
    assert one.killed(folder, lambda: kill_in(Trainer, "load_state"), tally)
    assert one.killed(folder, lambda: kill_in(run, "newest_checkpoint"), tally)
    assert one.killed(folder, lambda: kill_in(run, "_write_config"), tally)
    assert one.kill_at(folder, "create", 1, "after", tally)
    assert one.kill_at(folder, "create", 1, "after", tally)
    one.succeed(folder)
    one.compare(folder, tally)
    assert_clean(tally)


def test_a_run_killed_before_its_settings_were_written_is_begun_again(trials: dict[str, Trials]) -> None:
    one, tally = trials["restless"], Tally()
    folder = one.folder("no-config")
    assert one.killed(folder, lambda: kill_in(run, "_write_config"), tally)
    assert not (folder / "config.json").exists()
    one.succeed(folder)
    one.compare(folder, tally)
    assert_clean(tally)


def test_kills_with_the_report_being_written_each_time(root: Path, trials: dict[str, Trials]) -> None:
    one, tally = trials["dcgan"], Tally()
    folder = one.folder("report")
    one.report = True
    try:
        assert one.killed(folder, lambda: kill_in(recorder, "write_report", 2), tally)
        assert one.killed(folder, lambda: kill_in(sheets, "save_picture", 1), tally)
        one.succeed(folder)
    finally:
        one.report = False
    assert (folder / "report.html").exists()
    one.compare(folder, tally)
    assert_clean(tally)


# --- K6, K7: moments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "phase", "step"),
    [
        ("dcgan", "discriminator", 1),
        ("dcgan", "generator", 1),
        ("lsgan", "generator", 1),
        ("wgan", "critic", 2),
        ("wgan-gp", "critic", 3),
        ("infogan", "generator", 1),
        ("began", "generator", 1),
        ("vae", "autoencoder", 1),
        ("vae-gan", "decoder", 1),
        ("progan", "generator", 1),
        ("hologan", "generator", 2),
        ("restless", "judge", 2),
    ],
)
def test_resumed_at_every_iteration(trials: dict[str, Trials], name: str, phase: str, step: int) -> None:
    """The first, the last, within an epoch three times, at its wrap, in the warm-up of the average and of the learning
    rate, in its decay; for WGAN-GP inside critic step 3 of 5."""
    tally = Tally()
    trials[name].kill_in_every_iteration(phase, step, tally)
    assert_clean(tally)
    assert tally.kills == 7


def test_the_moments_above_are_what_they_are_called() -> None:
    config = tiny_config("dcgan", Path(), iterations=7)
    at = [iteration * BATCH for iteration in range(7)]
    factors = [config.learning_rate_factor(images) for images in at]
    assert 0 < factors[1] < factors[2] < 1, "a warm-up"
    assert 1 > factors[5] > factors[6] > 0.1, "a decay"
    assert any(images < DATASET_IMAGES < images + BATCH for images in at), "an epoch that ends within a batch"
    assert sum(images + BATCH <= DATASET_IMAGES for images in at) >= 4, "several resumes in one epoch"
    assert config.ema_rampup * at[1] < config.ema_half_life_kimg * 1000, "the average's warm-up"


def diverging(at: int) -> None:
    """From now on the batch that begins with image `at` holds a NaN, unless the order was changed by a rollback."""
    batch = trainer.Trainer.batch

    def spoilt(self: Trainer, phase: Any, start: int, *arguments: Any) -> Any:
        found = batch(self, phase, start, *arguments)
        if start == at and self.salt == 0:
            found.images[0, 0, 0, 0] = float("nan")
        return found

    trainer.Trainer.batch = spoilt  # type: ignore[method-assign]


@pytest.mark.parametrize("name", [*NAMES, "began"])
def test_killed_right_after_a_rollback(root: Path, dataset: Path, name: str) -> None:
    place = root / f"rollback-{name}"
    place.mkdir()
    shutil.copytree(dataset, place / "dataset")
    bad = 2 * kill_harness.steps_of(name) * BATCH

    class Spoilt(Trials):
        def attempt(self, folder: Path, prepare: Callable[[], None] = lambda: None) -> None:
            diverging(bad)
            super().attempt(folder, prepare)

    spoilt, tally = Spoilt(name, place, iterations=5), Tally()
    events = read_events(spoilt.folder("reference") / "log.jsonl")
    assert [event["event"] for event in events].count("rollback") == 1
    phase = kill_harness.phases_of(name)[0].name
    before = 3 * kill_harness.steps_of(name)
    kills: dict[str, Callable[[], None]] = {
        "in the first loss after it": lambda: kill_in_loss(phase, before + 1),
        "in its own save": lambda: kill_at_storage_call("rename", 4, kill_harness.Meter()),
        "after its own save": lambda: kill_at_storage_call("rename", 4, kill_harness.Meter(), "after"),
        "before it": lambda: kill_in(recorder.Recorder, "roll_back"),
    }
    for number, kill in enumerate(kills.values()):
        folder = spoilt.folder(f"kill-{number}")
        assert spoilt.killed(folder, kill, tally)
        spoilt.succeed(folder)
        spoilt.compare(folder, tally)
    assert_clean(tally)


def test_a_rollback_outlives_its_process(root: Path, dataset: Path) -> None:
    """The fault is gone when the run is gone on with; what was decided after it must not be."""
    place = root / "outlives"
    place.mkdir()
    shutil.copytree(dataset, place / "dataset")
    sound, tally = Trials("restless", place, iterations=5), Tally()
    folder, whole = sound.folder("killed"), sound.folder("whole")
    spoil = functools.partial(diverging, 2 * sound.images_an_iteration)
    sound.succeed(whole, spoil)
    assert final_digest(whole) != sound.reference

    def spoil_and_kill() -> None:
        spoil()
        kill_in_loss("judge", 3 * kill_harness.steps_of("restless"))

    assert sound.killed(folder, spoil_and_kill, tally)
    assert read_events(folder / "log.jsonl")[-2]["event"] == "rollback"
    sound.succeed(folder)
    assert final_digest(folder) == final_digest(whole)


def test_killed_in_its_last_measurement_a_run_can_still_finish(trials: dict[str, Trials]) -> None:
    one, tally = trials["dcgan"], Tally()
    folder = one.folder("end")
    assert one.killed(folder, lambda: kill_in(recorder.Recorder, "_look", 4), tally)
    saved = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert saved is not None
    assert saved.images_seen == one.config.images
    assert read_log(folder / "log.jsonl")[-1]["event"] == "checkpoint"
    one.succeed(folder)
    assert read_log(folder / "log.jsonl")[-1]["reason"] == "finished"
    assert wait(fork(lambda: one.attempt(folder))) == 2, "and then it is done"
    one.compare(folder, tally)
    assert_clean(tally)


# --- K5: the test of the test -------------------------------------------------------------------------------------


HALFWAY = 3
"""iterations after which what is lost is to be missed; no moment at which a model's optimizers forget by themselves"""


def make(name: str, dataset: Path, iterations: int = 6, **settings: Any) -> Trainer:
    config = tiny_config(name, dataset, iterations, **settings)
    return run._make_trainer(KNOWN[name], config, open_dataset(dataset), World())


def train_to(one: Trainer, iterations: int) -> str:
    """Digest of the state after so many iterations in all."""
    while one.images_seen < iterations * one.steps * BATCH:
        one.iteration()
    tensors, facts = one.state()
    return digest_of(tensors, facts)


def resumed(dataset: Path, name: str, path: Path, mutate: Callable[..., None], **settings: Any) -> str:
    """The digest at the end when `mutate` had spoilt what was loaded."""
    found = read_checkpoint(path)
    tensors, facts = dict(found.tensors), dict(found.facts)
    one = make(name, dataset, **settings)
    fresh_tensors, fresh_facts = one.state()
    fresh = {key: tensor.clone() for key, tensor in fresh_tensors.items()}
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    mutate(tensors, facts, fresh)
    one.load_state(tensors, {**fresh_facts, **facts})
    return train_to(one, 6)


def saved_halfway(name: str, dataset: Path, folder: Path) -> tuple[Path, str]:
    """A checkpoint after three iterations, and the digest after six."""
    one = make(name, dataset)
    train_to(one, HALFWAY)
    path = folder / checkpoint_name(one.images_seen)
    tensors, facts = one.state()
    write_checkpoint(path, tensors, facts)
    return path, train_to(one, 6)


MADE_ANEW = {"real", "measure"}
"""BEGAN's buffers that every iteration sets before it reads them: there for the log and the next phase"""


def pieces(name: str, dataset: Path) -> dict[str, Callable[..., None]]:
    """Every piece of a run's state, and how to lose it."""
    one = make(name, dataset)
    train_to(one, HALFWAY)
    tensors, _ = one.state()

    def forget(chosen: list[str]) -> Callable[..., None]:
        def mutate(tensors: dict[str, Tensor], facts: dict[str, Any], fresh: dict[str, Tensor]) -> None:
            for key in chosen:
                if key.startswith("optimizer."):
                    tensors[key] = torch.zeros_like(tensors[key])
                else:
                    tensors[key] = fresh[key]

        return mutate

    def shift(images: int) -> Callable[..., None]:
        def mutate(tensors: dict[str, Tensor], facts: dict[str, Any], fresh: dict[str, Tensor]) -> None:
            facts["images_seen"] += images

        return mutate

    def salt(tensors: dict[str, Tensor], facts: dict[str, Any], fresh: dict[str, Tensor]) -> None:
        facts["salt"] += 1

    networks = sorted({key.split(".")[1] for key in tensors if key.startswith("model.") and key.count(".") > 1})
    found: dict[str, Callable[..., None]] = {
        "images seen, one iteration early": shift(-one.steps * BATCH),
        "images seen, one iteration late": shift(one.steps * BATCH),
        "salt": salt,
    }
    for network in networks:
        found[f"weights of {network}"] = forget([key for key in tensors if key.startswith(f"model.{network}.")])
        found[f"average of {network}"] = forget([key for key in tensors if key.startswith(f"average.{network}.")])
    for phase in one.phases:
        for kind in ("exp_avg", "exp_avg_sq", "square_avg", "step"):
            chosen = [key for key in tensors if key.startswith(f"optimizer.{phase.name}.") and key.endswith(f".{kind}")]
            if chosen and not (
                kind == "step" and any(key.endswith("square_avg") for key in tensors if phase.name in key)
            ):
                found[f"{kind} of {phase.name}"] = forget(chosen)
    for statistic in ("running_mean", "running_variance", ".left"):  # the last of spectral normalization
        chosen = [key for key in tensors if key.startswith("model.") and key.endswith(statistic)]
        if chosen:
            found[statistic] = forget(chosen)
    own = {name.removeprefix("model.") for name in tensors if name.startswith("model.") and name.count(".") == 1}
    for buffer in own - MADE_ANEW:  # BEGAN's k and what its learning rate is halved by
        found[buffer] = forget([f"model.{buffer}"])
    if name == "restless":
        found |= {f"random state of {kind}": _reseeded(kind) for kind in ("python", "numpy", "torch")}
    return found


def _reseeded(kind: str) -> Callable[..., None]:
    def mutate(tensors: dict[str, Tensor], facts: dict[str, Any], fresh: dict[str, Tensor]) -> None:
        tensors[f"random.0.{kind}"] = capture_states(torch.device("cpu"))[kind]

    return mutate


@pytest.mark.parametrize("name", kill_harness.TINY)
def test_every_piece_of_state_matters_and_is_restored(dataset: Path, tmp_path: Path, name: str) -> None:
    path, expected = saved_halfway(name, dataset, tmp_path)
    assert resumed(dataset, name, path, lambda *state: None) == expected, "the control, nothing lost"
    lost = {piece: resumed(dataset, name, path, mutate) for piece, mutate in pieces(name, dataset).items()}
    unnoticed = [piece for piece, digest in lost.items() if digest == expected]
    assert unnoticed == []
    assert len(lost) >= 11
    assert len(set(lost.values())) == len(lost), "two losses that look the same are one test"


@pytest.mark.parametrize("name", NAMES)
def test_the_place_in_every_schedule_matters(dataset: Path, tmp_path: Path, name: str) -> None:
    """Schedules have no state of their own, so losing one's place is to have another schedule."""
    path, expected = saved_halfway(name, dataset, tmp_path)
    others: dict[str, dict[str, Any]] = {
        "warm-up": {"warmup_kimg": 0.5},
        "decay": {"decay": "none", "warmup_kimg": 0.0},
        "half-life of the average": {"ema_half_life_kimg": 0.001},
        "warm-up of the average": {"ema_rampup": 0.01},
        "order of the data": {"seed": 1},
        "mirroring": {"mirror": False},
    }
    for what, settings in others.items():
        assert resumed(dataset, name, path, lambda *state: None, **settings) != expected, what


def test_losing_the_average_alone_shows_in_no_loss(dataset: Path, tmp_path: Path) -> None:
    """Why a digest of the state is compared and not the curve of the losses."""
    path, expected = saved_halfway("dcgan", dataset, tmp_path)
    found = read_checkpoint(path)
    runs = []
    for spoil in (False, True):
        one = make("dcgan", dataset)
        tensors = {
            key: torch.zeros_like(tensor) if spoil and key.startswith("average.") else tensor
            for key, tensor in found.tensors.items()
        }
        one.load_state(tensors, found.facts)
        runs.append([float(value) for _ in range(3) for value in one.iteration().values()])
        digest = digest_of(*one.state())
    assert runs[0] == runs[1]
    assert digest != expected


def test_moments_are_laid_out_as_their_weights(dataset: Path, tmp_path: Path) -> None:
    """Fused Adam pairs a weight with the moment at the same place in memory, whatever the strides say."""
    one = make("dcgan", dataset)
    train_to(one, 1)
    tensors, facts = one.state()
    write_checkpoint(tmp_path / checkpoint_name(4), tensors, facts)
    other = make("dcgan", dataset)
    found = read_checkpoint(tmp_path / checkpoint_name(4))
    other.load_state(found.tensors, found.facts)
    compared = 0
    for phase, optimizer in other.optimizers.items():
        for name, parameter in other.trained[phase].items():
            for key in ("exp_avg", "exp_avg_sq"):
                moment = optimizer.state[parameter][key]
                assert moment.stride() == parameter.stride(), f"{phase}.{name}.{key}"
                assert torch.equal(moment, one.optimizers[phase].state[one.trained[phase][name]][key])
                compared += parameter.ndim == 4 and not parameter.is_contiguous()
    assert compared >= 8, "some weights are channels-last"


# --- K10, K11: damaged checkpoints in a run -----------------------------------------------------------------------


def half_a_run(one: Trials, folder: Path) -> None:
    """A run killed in its sixth iteration: checkpoints of 4 and 5 iterations are there."""
    phase = one_phase(one.name)
    assert one.killed(folder, lambda: kill_in_loss(phase, 5 * kill_harness.steps_of(one.name) + 1), Tally())
    assert len(list_checkpoints(folder / "checkpoints")) == 2


def one_phase(name: str) -> str:
    return kill_harness.phases_of(name)[0].name


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def test_a_damaged_newest_checkpoint_costs_its_iterations_and_nothing_else(trials: dict[str, Trials]) -> None:
    one, tally = trials["wgan-gp"], Tally()
    folder = one.folder("damaged")
    half_a_run(one, folder)
    newest, older = list_checkpoints(folder / "checkpoints")
    flip(newest)
    one.succeed(folder)
    resume = next(event for event in read_events(folder / "log.jsonl") if event["event"] == "resume")
    assert resume["file"] == f"checkpoints/{older.name}"
    assert any(newest.name in note and "SHA-256" in note for note in resume["changed"])
    one.compare(folder, tally)
    assert_clean(tally)


def test_stopped_before_it_is_past_the_damaged_ones_a_run_keeps_the_good_one(trials: dict[str, Trials]) -> None:
    """Two newer checkpoints are damaged, `keep_checkpoints` is 2, and a save comes before they are written over."""
    one = trials["dcgan"]
    folder = one.folder("damaged-two")
    half_a_run(one, folder)
    newest, older = list_checkpoints(folder / "checkpoints")
    checkpoints = newest.parent
    good = checkpoints / checkpoint_name(8)
    assert one.kill_at(one.folder("source"), "rename", 4, "before", Tally())
    shutil.copy(one.folder("source") / "checkpoints" / good.name, good)
    flip(newest)
    flip(older)
    assert one.kill_at(folder, "flush", 2, "before", Tally())
    found = newest_checkpoint(checkpoints, lambda reason: None)
    assert found is not None
    assert found.images_seen == 12
    one.succeed(folder)
    one.compare(folder, tally := Tally())
    shutil.rmtree(one.folder("source"))
    assert_clean(tally)


def test_with_every_checkpoint_damaged_resume_ends_with_code_4_and_touches_nothing(trials: dict[str, Trials]) -> None:
    one = trials["dcgan"]
    folder = one.folder("all-damaged")
    half_a_run(one, folder)
    for path in list_checkpoints(folder / "checkpoints"):
        flip(path)
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    assert wait(fork(lambda: one.attempt(folder))) == 4
    after = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    assert before == after
    shutil.rmtree(folder)


def test_leftovers_of_the_dead_are_removed_once_the_lock_is_held(trials: dict[str, Trials]) -> None:
    one, tally = trials["restless"], Tally()
    folder = one.folder("leftovers")
    half_a_run(one, folder)
    leftover = folder / "checkpoints" / f".{checkpoint_name(99)}.tmp-1"
    leftover.write_bytes(b"half")
    with RunLock(folder):
        assert wait(fork(lambda: one.attempt(folder))) == 6
        assert leftover.exists(), "another process may be writing it"
    one.succeed(folder)
    assert not leftover.exists()
    one.compare(folder, tally)
    assert_clean(tally)


# --- K12, K13: disks that fail while a run goes on ----------------------------------------------------------------


def failing(from_call: int, calls: int, code: int = errno.ENOSPC) -> None:
    """From now on so many attempts to create a checkpoint's file fail."""
    create, count = checkpoint.Disk.create, 0

    def fail(path: Path) -> int:
        nonlocal count
        count += 1
        if from_call <= count < from_call + calls:
            raise OSError(code, os.strerror(code))
        return create(checkpoint.DISK, path)

    checkpoint.DISK.create = fail  # type: ignore[method-assign]
    checkpoint.time.sleep = lambda seconds: None  # type: ignore[attr-defined]


def test_one_save_that_fails_is_a_warning(trials: dict[str, Trials]) -> None:
    """Four attempts are one save."""
    one, tally = trials["restless"], Tally()
    folder = one.folder("full-once")
    one.succeed(folder, lambda: failing(4, 4))
    warnings = [event["message"] for event in read_events(folder / "log.jsonl") if event["event"] == "warning"]
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    assert "training goes on" in warnings[0]
    one.compare(folder, tally)
    assert_clean(tally)


def test_a_fault_that_passes_in_time_is_not_even_that(trials: dict[str, Trials]) -> None:
    one, tally = trials["restless"], Tally()
    folder = one.folder("transient")
    one.succeed(folder, lambda: failing(4, 2, errno.EIO))
    assert not [event for event in read_events(folder / "log.jsonl") if event["event"] == "warning"]
    one.compare(folder, tally)
    assert_clean(tally)


def test_two_saves_that_fail_end_the_run_with_the_old_checkpoint(trials: dict[str, Trials]) -> None:
    one, tally = trials["restless"], Tally()
    folder = one.folder("full")
    assert wait(fork(lambda: one.attempt(folder, lambda: failing(4, 10**6)))) == ResourceError("").exit_code
    found = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert found is not None
    assert found.images_seen == 2 * one.images_an_iteration
    assert not list((folder / "checkpoints").glob(".*"))
    one.succeed(folder)
    one.compare(folder, tally)
    assert_clean(tally)


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning(trials: dict[str, Trials]) -> None:
    one, tally = trials["restless"], Tally()
    folder = one.folder("unremovable")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    one.succeed(folder, lambda: setattr(checkpoint.DISK, "remove", refuse))
    assert any("not removed" in event.get("message", "") for event in read_events(folder / "log.jsonl"))
    assert len(list_checkpoints(folder / "checkpoints")) == 8
    one.compare(folder, tally)
    assert_clean(tally)


def test_pictures_that_cannot_be_written_do_not_cost_the_run(trials: dict[str, Trials]) -> None:
    one, tally = trials["restless"], Tally()
    folder = one.folder("no-pictures")

    def block() -> None:
        begin = recorder.Recorder.begin

        def blocked(self: recorder.Recorder, machine: Any) -> None:
            shutil.rmtree(self.folder / "samples")
            (self.folder / "samples").write_bytes(b"")
            begin(self, machine)

        recorder.Recorder.begin = blocked  # type: ignore[method-assign]

    one.succeed(folder, block)
    warnings = [event["message"] for event in read_events(folder / "log.jsonl") if event["event"] == "warning"]
    assert any("samples" in message for message in warnings)
    one.compare(folder, tally)
    assert_clean(tally)


def test_a_folder_taken_away_is_named_and_ends_the_run(trials: dict[str, Trials]) -> None:
    one = trials["restless"]
    folder = one.folder("gone")

    def take_away() -> None:
        iteration = trainer.Trainer.iteration

        def gone(self: Trainer) -> Any:
            if self.images_seen == 3 * one.images_an_iteration:
                (folder / "checkpoints").rename(folder / "elsewhere")
            return iteration(self)

        trainer.Trainer.iteration = gone  # type: ignore[method-assign]

    assert wait(fork(lambda: one.attempt(folder, take_away))) == 5
    warnings = [event["message"] for event in read_events(folder / "log.jsonl") if event["event"] == "warning"]
    assert any(str(folder / "checkpoints") in message and "No such file" in message for message in warnings)
    saved = [event["images"] for event in read_events(folder / "log.jsonl") if event["event"] == "checkpoint"]
    assert max(saved) == 3 * one.images_an_iteration, "nothing is called saved that was not"
    (folder / "elsewhere").rename(folder / "checkpoints")
    one.succeed(folder)
    one.compare(folder, tally := Tally())
    assert_clean(tally)


# --- K16: other settings, another dataset -------------------------------------------------------------------------


def other_value(value: Any, hint: Any) -> Any:
    """Another value that a field of that type may hold."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return next(option for option in options if option != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value * 0.9 if value else 0.001
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return "all"
    if isinstance(value, tuple) and ... not in options:
        return (*value[:-1], value[-1] + 1)
    if isinstance(value, tuple):
        return (*value, *value, options[0](2))
    return options[0](2) if options else 2


def _unsafe_fields() -> list[tuple[str, str]]:
    fields = [(name, f"model.{field.name}") for name in NAMES for field in dataclasses.fields(KNOWN[name].Config)]
    own = [field.name for field in dataclasses.fields(TrainConfig) if field.name not in (*SAFE_FIELDS, "model")]
    return fields + [("dcgan", name) for name in own]


@pytest.fixture(scope="module")
def half(trials: dict[str, Trials]) -> dict[str, Path]:
    """A run of each kind that was stopped halfway; nobody goes on with it."""
    folders = {}
    for name in NAMES:
        folders[name] = trials[name].folder("half")
        half_a_run(trials[name], folders[name])
    return folders


@pytest.mark.parametrize(("name", "field"), _unsafe_fields())
def test_a_setting_that_shapes_the_weights_must_stay(
    trials: dict[str, Trials], half: dict[str, Path], name: str, field: str
) -> None:
    config = trials[name].config
    owner = config.model if field.startswith("model.") else config
    short = field.removeprefix("model.")
    old = getattr(owner, short)
    new = other_value(old, typing.get_type_hints(type(owner))[short])
    assert new != old
    changed = dataclasses.replace(owner, **{short: new})
    if owner is config.model:
        changed = dataclasses.replace(config, model=changed)
    files = {
        path: path.stat().st_mtime_ns for path in half[name].rglob("*") if path.name not in (".lock", "checkpoints")
    }
    with pytest.raises(CheckpointError) as caught:
        run.resume(half[name], KNOWN[name], changed)
    assert f"{field}: {old} → {new}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(path.stat().st_mtime_ns == at for path, at in files.items() if path.is_file())


@pytest.mark.parametrize("name", kill_harness.TINY)
def test_every_setting_of_a_model_shapes_its_weights(name: str) -> None:
    config = tiny_config(name, Path("x"))
    for field in dataclasses.fields(config.model):
        old = getattr(config.model, field.name)
        new = other_value(old, typing.get_type_hints(type(config.model))[field.name])
        changed = dataclasses.replace(config, model=dataclasses.replace(config.model, **{field.name: new}))
        with pytest.raises(CheckpointError, match=f"model.{field.name}: "):
            refuse_changes(config_to_json(name, config), config_to_json(name, changed))


def test_the_list_of_unsafe_settings_is_not_empty() -> None:
    names = [field for _, field in _unsafe_fields()]
    assert {"seed", "batch_size", "model.width", "model.gp_weight", "ema_half_life_kimg"} <= set(names)
    assert len(names) >= 30


def test_settings_that_do_not_are_changed_and_logged(root: Path, dataset: Path) -> None:
    """Every safe field at once, and more images: the state is that of a run that had them so from the beginning."""
    place = root / "safe"
    place.mkdir()
    shutil.copytree(dataset, place / "dataset")
    plain = {"decay": "none", "warmup_kimg": 0.0}
    longer = Trials("restless", place, iterations=8, **plain)
    config = tiny_config("restless", place / "dataset", iterations=4, **plain)
    folder = place / "changed"
    assert wait(fork(lambda: run.train(KNOWN["restless"], config, folder))) == DONE
    shutil.copytree(dataset, place / "moved")
    new: dict[str, Any] = {
        "data": place / "moved",
        "device": "auto" if not torch.cuda.is_available() else "cpu",
        "tick_kimg": 0.5,
        "sample_kimg": 0.01,
        "checkpoint_kimg": 0.02,
        "keep_checkpoints": 5,
        "metrics_kimg": 0.03,
        "metrics_count": 9,
        "tensorboard": False,
        "metrics": ("swd",),
        "memory": "500GB",
        "preflight": "off",
        "enlarge": "pixels",
        "threads": 1,
        "kimg": longer.config.kimg,
    }
    assert {*new} == SAFE_FIELDS - {"micro_batches"}, "which no flag sets"
    changed = dataclasses.replace(config, **new)
    assert wait(fork(lambda: run.resume(folder, KNOWN["restless"], changed))) == DONE
    events = read_events(folder / "log.jsonl")
    notes = next(event for event in events if event["event"] == "resume")["changed"]
    for field in {*new} - {"tensorboard", "device" if new["device"] == "cpu" else ""}:
        assert any(note.startswith(f"{field}: ") and "→" in note for note in notes), field
    assert final_digest(folder) == longer.reference, "looking and measuring draw nothing that training draws"


def test_settings_of_tuples_are_the_same_after_json() -> None:
    """A checkpoint holds them as lists; they must not look changed."""

    @dataclasses.dataclass(frozen=True)
    class Settings:
        channels: tuple[int, ...] = (4, 8)

    facts = config_to_json("some", TrainConfig(model=Settings()))
    assert refuse_changes(json.loads(json.dumps(facts)), facts) == []


def test_another_dataset_is_refused(trials: dict[str, Trials], half: dict[str, Path], tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", seed=1)
    changed = dataclasses.replace(trials["dcgan"].config, data=other)
    with pytest.raises(CheckpointError, match=rf"{other}: not the dataset .*SHA-256.*--data"):
        run.resume(half["dcgan"], KNOWN["dcgan"], changed)


def test_another_model_is_refused(trials: dict[str, Trials], half: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="the run's model is 'dcgan', not 'wgan-gp'"):
        run.resume(half["dcgan"], KNOWN["wgan-gp"], trials["wgan-gp"].config)


def test_training_over_a_run_is_refused(trials: dict[str, Trials], half: dict[str, Path]) -> None:
    with pytest.raises(LimnerError, match="there is a run already"):
        run.train(KNOWN["dcgan"], trials["dcgan"].config, half["dcgan"])


def test_of_two_that_begin_one_run_the_later_sees_it_even_when_the_first_is_done(
    trials: dict[str, Trials], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked while there was none; the first then trained and ended before the second took the lock."""
    one = trials["restless"]
    make_folder = run._make_folder

    def slow(*arguments: Any) -> Path:
        folder = make_folder(*arguments)
        one.succeed(folder, lambda: setattr(run, "_make_folder", make_folder))
        return folder

    monkeypatch.setattr(run, "_make_folder", slow)
    with pytest.raises(LimnerError, match="there is a run already"):
        run.train(KNOWN["restless"], one.config, tmp_path / "both")
    assert final_digest(tmp_path / "both") == one.reference


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["kimg", "checkpoint_kimg", "ema_half_life_kimg", "model.gp_weight"])
def test_numbers_that_no_checkpoint_could_hold_are_refused(field: str, value: float) -> None:
    config = tiny_config("wgan-gp", Path("x"))
    if field.startswith("model."):
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, gp_weight=value))
    else:
        config = dataclasses.replace(config, **{field: value})
    with pytest.raises(LimnerError, match=field.removeprefix("model.")):
        config.check()


# --- the harness itself -------------------------------------------------------------------------------------------


def test_the_harness_notices_what_it_should(trials: dict[str, Trials]) -> None:
    """A run whose newest checkpoint is gone has lost work; one spoilt after its end is not the same."""
    one, tally = trials["restless"], Tally()
    folder = one.folder("noticed")
    half_a_run(one, folder)
    newest, _ = list_checkpoints(folder / "checkpoints")
    kept = newest.read_bytes()
    newest.unlink()
    judge(folder, tally, one.images_an_iteration)
    assert tally.lost == 1
    newest.write_bytes(kept[:-1])
    judge(folder, tally, one.images_an_iteration)
    assert tally.unreadable == 1
    newest.write_bytes(kept)
    found = read_checkpoint(newest)
    key = next(key for key in found.tensors if key.startswith("average.") and found.tensors[key].is_floating_point())
    changed = found.tensors[key].clone()
    changed.view(-1)[0] += 1e-6
    write_checkpoint(newest, {**found.tensors, key: changed}, found.facts)
    one.succeed(folder)
    one.compare(folder, tally)
    assert tally.not_exact == 1


def test_a_killed_child_is_known_as_one() -> None:
    assert wait(fork(die)) == -signal.SIGKILL


def test_checking_types_in_tests_draws_no_random_numbers() -> None:
    """Or the states of Python's generator would differ between two runs of these tests, and for no fault of limner."""
    before = random.getstate()
    assert config_module.refuse_changes({"a": [1, 2, 3]}, {"a": [1, 2, 3]}) == []
    checkpoint._once([("a", 1), ("b", 2)])
    assert random.getstate() == before
