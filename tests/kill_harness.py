"""Real training of tiny models in forked processes that are killed, resumed and compared bit by bit.

One parent imports torch and forks for every trial, so that a kill costs a fraction of a second. Storage faults come
through the one object that checkpoints are written with; everything else is the run as a user has it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner import checkpoint
from limner.checkpoint import newest_checkpoint
from limner.data.dataset import open_dataset
from limner.data.writer import DatasetWriter
from limner.errors import LimnerError
from limner.latents import Gaussian, Labels, LatentSpace
from limner.layers.batch_norm import BatchNorm
from limner.models import MODELS, Model, Phase
from limner.optim import Adam, RMSprop
from limner.training import recorder, run, sheets, trainer
from limner.training.config import TrainConfig, read_config
from limner.training.distributed import World
from limner.training.log import read_events
from limner.types import Batch
from tiny import tiny_settings

BATCH = 4
DATASET_IMAGES = 22
"""images in the tiny dataset: no multiple of the batch, so that epochs end within a batch"""
DONE, FAILED = 0, 98


# --- what is trained ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RestlessConfig:
    latent_dim: int = 6
    width: int = 8


class Restless(Model):
    """Draws from every global generator, has dropout, batch norm, a state moved after steps, and two optimizers."""

    name = "restless"
    summary = "for tests"
    Config = RestlessConfig
    batch_size = BATCH
    balance: Tensor

    def __init__(self, config: RestlessConfig, resolution: int, labels: Labels) -> None:
        super().__init__(config, resolution, labels)
        width, pixels = config.width, 3 * resolution**2
        self.latents = LatentSpace(Gaussian("z", config.latent_dim))
        self.generator = nn.Sequential(nn.Linear(config.latent_dim, width), BatchNorm(width), nn.Linear(width, pixels))
        self.judge = nn.Sequential(nn.Linear(pixels, width), nn.Dropout(0.3), nn.LeakyReLU(0.2), nn.Linear(width, 1))
        self.register_buffer("balance", torch.tensor(0.5))

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase(name="judge", trains=(self.judge,), loss=self.judge_loss, optimizer=RMSprop(1e-3), steps=2),
            Phase(
                name="generator",
                trains=(self.generator,),
                loss=self.generator_loss,
                optimizer=Adam(1e-3),
                after_step=self.move_balance,
            ),
        )

    def judge_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        noise = 0.1 * torch.randn_like(batch.images) * float(np.random.rand()) * random.gauss(1.0, 0.1)
        real = self.judge((batch.images + noise).flatten(1))
        fake = self.judge(self.generate(batch.latents).detach().flatten(1))
        return F.softplus(-real).mean() + self.balance * F.softplus(fake).mean(), {}

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return F.softplus(-self.judge(self.generate(batch.latents).flatten(1))).mean(), {"balance": self.balance}

    def move_balance(self, logs: Mapping[str, Tensor]) -> None:
        self.balance += 0.01 * random.random()

    def forward(self, latents: Tensor) -> Tensor:
        return self.generator(latents).tanh().view(-1, 3, self.resolution, self.resolution)


KNOWN: dict[str, type[Model]] = {**MODELS, "restless": Restless}


@contextmanager
def restless_is_known() -> Iterator[None]:
    """Inside, the model made for these tests is in the list, and so can be resumed by its name."""
    MODELS["restless"] = Restless
    try:
        yield
    finally:
        del MODELS["restless"]


SMALL = {"latent_dim": 6, "width": 4}
TINY: Mapping[str, dict[str, Any]] = {
    **dict.fromkeys(MODELS, SMALL),
    "wgan": {**SMALL, "critic_steps": 2},
    "wgan-gp": {**SMALL, "beta1": 0.1},  # not the paper's 0, with which first moments play no part
    "infogan": {**SMALL, "categories": 2, "ways": 3, "continuous": 1},
    "began": {**SMALL, "k_rate": 0.5, "stall_kimg": 0.008},  # k moves at once, and the learning rate is halved
    "progan": {
        **tiny_settings("progan", batch_size=BATCH),
        "beta1": 0.1,
        # 4² for two iterations, 8² fades in over three and stands alone for one, 16² fades in over three. Where these
        # begin, after 2, 5, 6 and 9 iterations, optimizers forget; tests spoil the fourth and look after it.
        "first_kimg": 2 * BATCH / 1000,
        "stable_kimg": BATCH / 1000,
        "fade_kimg": 3 * BATCH / 1000,
    },
    # Everything that has a state or is drawn: spectral norm's vectors, angles that are read, sizes and places.
    "hologan": {**SMALL, "discriminator_width": 4, "angle_weight": 1.0, "scale": (0.9, 1.1), "shift": (-0.1, 0.1)},
    "restless": {},
}


def make_dataset(folder: Path, seed: int = 0) -> Path:
    """22 images of noise, 16²."""
    pixels = np.random.default_rng(seed).integers(0, 256, (DATASET_IMAGES, 16, 16, 3), dtype=np.uint8)
    with DatasetWriter(
        folder, name="tiny", count=len(pixels), resolution=16, crop="none", resize="none", source={"made by": "tests"}
    ) as writer:
        writer.write(0, pixels)
        writer.finish(splits=np.zeros(len(pixels), dtype=np.uint8))
    return folder


@functools.cache
def phases_of(name: str) -> tuple[Phase, ...]:
    """Of the tiny model; their losses are not to be called."""
    return KNOWN[name](KNOWN[name].Config(**TINY[name]), 16, Labels()).phases()


def steps_of(name: str) -> int:
    """Batches an iteration shows."""
    return max(phase.steps for phase in phases_of(name))


def tiny_config(name: str, dataset: Path, iterations: int = 8, **settings: Any) -> TrainConfig[Any]:
    """So many iterations with a checkpoint, a tick and a move of every schedule in each."""
    kimg = iterations * steps_of(name) * BATCH / 1000
    base: TrainConfig[Any] = TrainConfig(
        model=KNOWN[name].Config(**TINY[name]),
        data=dataset,
        resolution=16,
        attributes="none",
        kimg=kimg,
        batch_size=BATCH,
        device="cpu",
        precision="fp32",
        ema_half_life_kimg=0.02,
        ema_rampup=0.5,
        warmup_kimg=kimg * 0.4,
        decay="cosine",
        decay_start_kimg=kimg * 0.5,
        final_factor=0.1,
        tick_kimg=0.001,
        checkpoint_kimg=0.001,
        sample_kimg=kimg / 2,
        metrics=(),
        keep_checkpoints=2,
    )
    return replace(base, **settings)


@functools.cache
def warm_up() -> None:
    """Do in the parent, once, what torch imports only when it first trains: two seconds a child otherwise."""
    with tempfile.TemporaryDirectory() as place:
        dataset = open_dataset(make_dataset(Path(place) / "dataset"))
        for name in TINY:
            config = tiny_config(name, dataset.folder)
            run._make_trainer(KNOWN[name], config, dataset, World()).iteration()
            model = KNOWN[name](config.model, 16, Labels()).eval()
            sheets.generate(model, torch.randn(2, model.latents.width), torch.device("cpu"))


# --- children -----------------------------------------------------------------------------------------------------


def fork(work: Callable[[], Any], quiet: bool = True) -> int:
    """A child that does `work` and ends with 0, a LimnerError's own code, or 98 for anything else (told on stderr)."""
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if quiet:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            os.dup2(sys.stdout.fileno(), 1)
            os.dup2(sys.stdout.fileno(), 2)
        work()
        code = DONE
    except LimnerError as error:
        code = error.exit_code
    except BaseException:
        import traceback

        Path(os.environ.get("KILL_HARNESS_ERRORS", "/tmp/kill_harness_errors.txt")).write_text(traceback.format_exc())
    finally:
        os._exit(code)


def wait(pid: int, seconds: float = 120) -> int:
    """A child's exit code, minus the signal's number if it was killed; a child that hangs is killed and fails."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"process {pid} hung")


def go(folder: Path, name: str, config: TrainConfig[Any]) -> None:
    """What `limner train`, and after a kill `limner resume`, do: begin the run in this folder or go on with it."""
    sheets.SHEET_FACES = sheets.RECONSTRUCTIONS = 4
    if (folder / "config.json").exists():
        run.resume(folder, *read_config(folder / "config.json"))
    else:
        run.train(KNOWN[name], config, folder)


def without_report() -> None:
    """The page costs more than an iteration of a tiny model; the kills that are about it leave it on."""
    recorder.write_report = lambda folder: folder  # type: ignore[attr-defined]


# --- kills --------------------------------------------------------------------------------------------------------

STORAGE_CALLS = ("create", "write", "flush", "close", "rename", "flush_folder", "remove")


class Meter:
    """Counts storage calls of each kind where a parent can read them, and the one a child died in."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)

    def note(self, counts: Mapping[str, int], died_in: str = "") -> None:
        self._memory[:4096] = json.dumps([counts, died_in]).encode().ljust(4096)

    def read(self) -> tuple[dict[str, int], str]:
        counts, died_in = json.loads(self._memory[:4096].strip(b" \0") or '[{}, ""]')
        return counts, died_in


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def kill_at_storage_call(kind: str, at: int, meter: Meter, when: str = "before") -> None:
    """From now on this process dies at the `at`-th call of a kind: before it, at half of it (a write) or after it."""
    counts = dict.fromkeys(STORAGE_CALLS, 0)

    def dying(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            counts[name] += 1
            now = name == kind and counts[name] == at
            meter.note(counts, f"{name}, {when}" if now else "")
            if now and when == "half":
                os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if now and when != "after":
                die()
            result = original(*arguments)
            if now:
                die()
            return result

        return call

    for name in STORAGE_CALLS:
        setattr(checkpoint.DISK, name, dying(name, getattr(checkpoint.DISK, name)))


def kill_in_loss(phase: str, at: int) -> None:
    """From now on this process dies inside the `at`-th update of a phase, its gradients half made."""
    backward, count = trainer.Trainer._backward, 0

    def dying(self: trainer.Trainer, updated: Phase, *arguments: Any) -> Any:
        nonlocal count
        count += updated.name == phase
        if updated.name == phase and count == at:
            die()
        return backward(self, updated, *arguments)

    trainer.Trainer._backward = dying  # type: ignore[method-assign]


def kill_in(owner: Any, name: str, at: int = 1) -> None:
    """From now on this process dies at the `at`-th call of a function."""
    original, count = getattr(owner, name), 0

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            die()
        return original(*arguments, **named)

    setattr(owner, name, dying)


# --- verdicts -----------------------------------------------------------------------------------------------------


def digest_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256 over everything of `Trainer.state()`: weights, average, moments, random states, clock."""
    sha = hashlib.sha256(json.dumps({key: facts[key] for key in ("images_seen", "salt")}).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def final_digest(folder: Path) -> str:
    found = newest_checkpoint(folder / "checkpoints", lambda reason: None)
    assert found is not None
    return digest_of(found.tensors, found.facts)


@dataclass
class Tally:
    """What happened over many kills."""

    kills: int = 0
    runs: int = 0
    temp_open: int = 0
    lost: int = 0
    unreadable: int = 0
    not_exact: int = 0
    most_iterations_redone: int = 0
    at: dict[str, int] = field(default_factory=dict)


def judge(folder: Path, tally: Tally, images_an_iteration: int) -> None:
    """After a kill: every checkpoint must be whole, and none that was acknowledged may be missing."""
    tally.kills += 1
    checkpoints = folder / "checkpoints"
    tally.temp_open += bool(list(checkpoints.glob(".images-*.tmp-*")))
    events = read_events(folder / "log.jsonl")
    promised = max((event["images"] for event in events if event["event"] == "checkpoint"), default=None)
    unreadable: list[str] = []
    found = None
    with contextlib.suppress(LimnerError):
        found = newest_checkpoint(checkpoints, unreadable.append)
    tally.unreadable += len(unreadable)
    tally.lost += promised is not None and (found is None or found.images_seen < promised)
    reached = max((event["images"] for event in events if event["event"] == "tick"), default=0)
    if found is not None:
        redone = -(-(reached - found.images_seen) // images_an_iteration)
        tally.most_iterations_redone = max(tally.most_iterations_redone, redone)


class Trials:
    """Runs of one model that are killed until they are done, each compared with one that never was."""

    def __init__(self, name: str, root: Path, iterations: int = 8, report: bool = False, **settings: Any) -> None:
        warm_up()
        self.name, self.root, self.report = name, root, report
        self.dataset = root / "dataset"
        if not self.dataset.exists():
            make_dataset(self.dataset)
        self.config = tiny_config(name, self.dataset, iterations, **settings)
        self.images_an_iteration = steps_of(name) * BATCH
        meter = Meter()
        began = time.monotonic()
        reference = self.folder("reference")
        self.succeed(reference, lambda: kill_at_storage_call("", 0, meter))
        self.seconds = time.monotonic() - began
        self.storage_calls = meter.read()[0]
        self.reference = final_digest(reference)

    def folder(self, name: str) -> Path:
        return self.root / f"{self.name}-{name}"

    def attempt(self, folder: Path, prepare: Callable[[], None] = lambda: None) -> None:
        """One process of a run, in a child."""
        if not self.report:
            without_report()
        prepare()
        go(folder, self.name, self.config)

    def succeed(self, folder: Path, prepare: Callable[[], None] = lambda: None) -> None:
        """Let the run come to its end."""
        code = wait(fork(lambda: self.attempt(folder, prepare)))
        assert code == DONE, f"a run ended with {code}"

    def killed(self, folder: Path, prepare: Callable[[], None], tally: Tally) -> bool:
        """Go on with the run in a process that `prepare` made mortal; False if it came to its end instead."""
        code = wait(fork(lambda: self.attempt(folder, prepare)))
        if code == DONE:
            return False
        assert code == -signal.SIGKILL, f"a run ended with {code}"
        judge(folder, tally, self.images_an_iteration)
        return True

    def compare(self, folder: Path, tally: Tally) -> None:
        """The finished run's state with that of the run that was never killed."""
        tally.runs += 1
        tally.not_exact += final_digest(folder) != self.reference
        assert not list((folder / "checkpoints").glob(".*")), "a half-written file was left behind"
        shutil.rmtree(folder)

    def share_left(self, folder: Path) -> float:
        """Of the run's images."""
        names = [path.name for path in checkpoint.list_checkpoints(folder / "checkpoints")]
        seen = int(names[0].removeprefix("images-").removesuffix(".safetensors")) if names else 0
        return 1 - seen / self.config.images

    def kill_at_random_times(self, kills: int, rng: random.Random, tally: Tally, most_a_run: int = 5) -> None:
        """Kill runs at uniformly random times of what is left of them, until so many kills have hit."""

        def attempt(folder: Path) -> bool:
            pid = fork(lambda: self.attempt(folder))
            time.sleep(rng.uniform(0.0, self.seconds * max(0.2, self.share_left(folder))))
            os.kill(pid, signal.SIGKILL)
            code = wait(pid)
            assert code in (DONE, -signal.SIGKILL), f"a run ended with {code}"
            if code == DONE:
                return False
            judge(folder, tally, self.images_an_iteration)
            # It may have been on its way out, with all done and said.
            return not (folder / "log.jsonl").exists() or not run._finished(folder, self.config.images)

        self._many("random", kills, tally, most_a_run, attempt)

    def kill_at_storage_calls(self, kills: int, rng: random.Random, tally: Tally, most_a_run: int = 5) -> None:
        """Kill runs exactly at a storage call, its kind and place chosen at random, until so many kills have hit."""

        def attempt(folder: Path) -> bool:
            kind = rng.choice(STORAGE_CALLS)
            place = rng.randint(1, max(1, round(self.storage_calls[kind] * self.share_left(folder))))
            when = rng.choice(["before", "half", "after"] if kind == "write" else ["before", "after"])
            return self.kill_at(folder, kind, place, when, tally)

        self._many("storage", kills, tally, most_a_run, attempt)

    def kill_at(self, folder: Path, kind: str, place: int, when: str, tally: Tally) -> bool:
        """Go on with the run and kill it at that storage call; False if it ended before."""
        meter = Meter()
        hit = self.killed(folder, lambda: kill_at_storage_call(kind, place, meter, when), tally)
        if hit:
            call = meter.read()[1]
            tally.at[call] = tally.at.get(call, 0) + 1
        return hit

    def kill_in_every_iteration(self, phase: str, step: int, tally: Tally) -> None:
        """One run whose first process dies in its first iteration and every other in its second: each redoes one."""
        folder = self.folder(f"{phase}-{step}")
        steps = next(p.steps for p in phases_of(self.name) if p.name == phase)
        at = step
        while self.killed(folder, functools.partial(kill_in_loss, phase, at), tally):
            at = step + steps
        self.compare(folder, tally)

    def _many(self, kind: str, kills: int, tally: Tally, most_a_run: int, attempt: Callable[[Path], bool]) -> None:
        target, number = tally.kills + kills, 0
        while tally.kills < target:
            folder, number = self.folder(f"{kind}-{number}"), number + 1
            for _ in range(min(most_a_run, target - tally.kills)):
                if not attempt(folder):
                    break
            else:
                self.succeed(folder)
            self.compare(folder, tally)
