"""Two processes over gloo: the result of one, the same on both, and an end when one of them is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from limner.checkpoint import newest_checkpoint
from limner.cli import main
from limner.data.dataset import Dataset, open_dataset
from limner.data.loader import Loader
from limner.models import MODELS
from limner.training import distributed, run
from limner.training.config import TrainConfig
from limner.training.distributed import World, join_world
from limner.training.trainer import Recipe, Trainer
from tiny import tiny_config

HANG_SECONDS = 60
SIZE = 2
State = dict[str, np.ndarray]

# Processes are copies of one that has imported everything and done nothing: starting them costs nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "torch.distributed", "limner.cli", "limner.training.command"])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


# --- two processes that wait for work -----------------------------------------------------------------------------


class Pair:
    """Two processes; each call runs one function in both, in a new process group."""

    def __init__(self) -> None:
        self.pipes, self.processes = [], []
        for rank in range(SIZE):
            ours, theirs = PROCESSES.Pipe()
            process = PROCESSES.Process(target=serve, args=(rank, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def __call__(self, work: Callable[..., Any], *arguments: Any, timeout: float = HANG_SECONDS) -> list[Any]:
        """`work(world, *arguments)` of every rank, what it returned or the exception's name and text."""
        port = free_port()
        for pipe in self.pipes:
            pipe.send((work, arguments, port, timeout))
        deadline = time.monotonic() + HANG_SECONDS
        for rank, pipe in enumerate(self.pipes):
            if not pipe.poll(max(0.0, deadline - time.monotonic())):
                self.close()
                pytest.fail(f"rank {rank} hangs in {work.__name__}")
        return [pipe.recv() for pipe in self.pipes]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def serve(rank: int, pipe: Any) -> None:
    torch.set_num_threads(1)
    while True:
        work, arguments, port, timeout = pipe.recv()
        os.environ |= environment(rank, port)
        distributed.TIMEOUT_SECONDS = timeout
        try:
            with join_world("cpu") as world:
                answer = work(world, *arguments)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
            if dist.is_initialized():
                dist.destroy_process_group()
        pipe.send(answer)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    two = Pair()
    yield two
    two.close()


# --- training -----------------------------------------------------------------------------------------------------


TWO_STEPS = ("wgan", "wgan-gp", "hologan")
CRITIC_STEPS = {"wgan": {"critic_steps": 2}, "wgan-gp": {"critic_steps": 2}}
SETTINGS: dict[str, dict[str, Any]] = {
    **CRITIC_STEPS,
    # k and the learning rate move at once: both depend on means over all processes
    "began": {"k_rate": 0.5, "stall_kimg": 0.008},
}


TOLERANCE = {"infogan": 1e-11}  # ten codes and large steps make much of rounding


def make_trainer(world: World, folder: Path, name: str, **recipe: Any) -> Trainer:
    loader = Loader(open_dataset(folder), seed=0, device=world.device, dtype=torch.float64, attributes=("bright",))
    model_class = MODELS[name]
    torch.manual_seed(world.rank)  # other weights on every rank, until the first one's are given to all
    settings = SETTINGS.get(name, {})
    model = model_class(tiny_config(name, latent_dim=4, **settings), 16, loader.labels).double()
    return Trainer(model, loader, Recipe(batch_size=8, ema_half_life_kimg=0.1, **recipe), world)


def train_some(world: World, folder: Path, name: str, iterations: int, start: Any = None, **recipe: Any) -> Any:
    """(logs of every iteration, the state at the end, which tensor differs between the ranks)."""
    trainer = make_trainer(world, folder, name, **recipe)
    if start is not None:
        trainer.load_state({key: torch.from_numpy(value) for key, value in start[0].items()}, start[1])
    logs = [{key: float(value) for key, value in trainer.iteration().items()} for _ in range(iterations)]
    tensors, facts = trainer.state()
    own = {key: value.clone().numpy() for key, value in tensors.items()}
    return logs, (own, facts), world.differing(trainer.model.state_dict().items())


def assert_same(a: State, b: State, tolerance: float) -> None:
    names = {name for name in a if not name.startswith("random.")}
    assert names == {name for name in b if not name.startswith("random.")}
    # A bias before batch norm has no effect: its gradient is rounding, which Adam's division makes visible.
    normalized = [name[6:-14] for name in names if name.startswith("model.") and name.endswith(".1.running_mean")]
    idle = [f"{place}{of}" for place in normalized for of in ("0.bias", "1.running_mean")]
    for name in sorted(names):
        allowed = 1e3 * tolerance if any(part in name for part in idle) else tolerance
        size = max(1.0, float(np.abs(b[name]).max(initial=0.0)))
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=allowed * size, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_compute_what_one_would(pair: Pair, tiny_dataset_folder: Path, name: str) -> None:
    (logs, first, differing), (other_logs, second, _) = pair(train_some, tiny_dataset_folder, name, 4)
    alone_logs, alone, _ = train_some(World(), tiny_dataset_folder, name, 4)
    assert differing is None
    assert_same(first[0], second[0], 0)
    assert any("running_mean" in tensor for tensor in alone[0]) == (name not in ("began", "progan", "hologan"))
    assert any(tensor.startswith("average.") for tensor in alone[0])
    assert_same(alone[0], first[0], TOLERANCE.get(name, 1e-12))
    assert first[1] == alone[1] == {"images_seen": 64 if name in TWO_STEPS else 32, "salt": 0}
    for ours, theirs, single in zip(logs, other_logs, alone_logs, strict=True):
        assert ours == theirs == pytest.approx(single, abs=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_run_may_change_its_number_of_processes(pair: Pair, tiny_dataset_folder: Path, name: str) -> None:
    _, whole, _ = train_some(World(), tiny_dataset_folder, name, 6)
    _, start, _ = train_some(World(), tiny_dataset_folder, name, 2)
    (_, middle, _), _ = pair(train_some, tiny_dataset_folder, name, 2, start)
    _, end, _ = train_some(World(), tiny_dataset_folder, name, 2, middle)
    assert end[1] == whole[1]
    assert_same(whole[0], end[0], TOLERANCE.get(name, 1e-12))


def drift(world: World, folder: Path) -> list[str | None]:
    trainer = make_trainer(world, folder, "dcgan")
    found = [world.differing(trainer.model.state_dict().items())]
    if world.rank == 1:
        with torch.no_grad():
            trainer.model.get_parameter("discriminator.last.weight")[0, 1, 2, 3] += 1e-9
    return [*found, world.differing(trainer.model.state_dict().items())]


def test_a_rank_gone_astray_is_found_by_its_first_tensor(pair: Pair, tiny_dataset_folder: Path) -> None:
    assert pair(drift, tiny_dataset_folder) == [[None, "discriminator.last.weight"]] * 2


# --- the few things done together ---------------------------------------------------------------------------------


def talk(world: World) -> dict[str, Any]:
    flags = [world.any(flag if world.rank == 1 else 0) for flag in (0, 15)]
    gathered = [part.tolist() for part in world.gather(torch.tensor([world.rank, 7]))]
    text = world.share_text("runs/ä-001" if world.is_first else "another")
    means = [torch.full((2, 2), float(world.rank)), torch.tensor(10.0 * world.rank), torch.ones(2, 3).T[:, :1]]
    world.average_(means)
    return {"flags": flags, "gathered": gathered, "text": text, "means": [mean.tolist() for mean in means]}


def test_flags_texts_gathers_and_means(pair: Pair) -> None:
    expected = {
        "flags": [0, 15],
        "gathered": [[0, 7], [1, 7]],
        "text": "runs/ä-001",
        "means": [[[0.5, 0.5], [0.5, 0.5]], 5.0, [[1.0], [1.0], [1.0]]],
    }
    assert pair(talk) == [expected, expected]


def work_long(world: World, seconds: float, speak: bool) -> list[str]:
    done: list[str] = []

    def work(still_here: Callable[[], None]) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
            if speak:
                still_here()
        done.append("worked")

    world.first_only(work)
    world.wait()
    return done


def test_the_others_wait_for_long_work_of_the_first(pair: Pair) -> None:
    assert pair(work_long, 4.0, True, timeout=2) == [["worked"], []]


def test_a_silent_first_process_is_taken_for_lost(pair: Pair) -> None:
    _, waiting = pair(work_long, 4.0, False, timeout=2)
    assert waiting.startswith("PeerLostError: another process of this run stopped")


def fail_at_work(world: World) -> None:
    def work(still_here: Callable[[], None]) -> None:
        raise OSError("no space left")

    world.first_only(work)


def test_a_failure_in_the_work_of_the_first_does_not_keep_the_others(pair: Pair) -> None:
    assert pair(fail_at_work) == ["OSError: no space left", None]


def collectives_of_a_run(world: World, folder: Path, out: Path, name: str) -> list[str]:
    """The names and sizes of everything this rank did together with the other, in a whole run."""
    calls: list[str] = []
    kinds = ("all_reduce", "all_gather", "broadcast", "barrier")
    originals = {kind: getattr(dist, kind) for kind in kinds}

    def recorded(kind: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            sizes = [a.numel() for a in arguments if isinstance(a, torch.Tensor)]
            calls.append(f"{kind} {sizes}")
            return originals[kind](*arguments, **options)

        return call

    for kind in kinds:
        setattr(dist, kind, recorded(kind))
    try:
        config: TrainConfig[Any] = TrainConfig(
            model=tiny_config(name, latent_dim=4),
            data=folder,
            batch_size=8,
            kimg=0.08,
            precision="fp32",
            checkpoint_kimg=0.04,
            sample_kimg=0.04,
            metrics_kimg=0.04,
            metrics_count=16,
        )
        run.train(MODELS[name], config, out)
    finally:
        for kind in kinds:
            setattr(dist, kind, originals[kind])
    return calls


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "began", "vae-gan"])
def test_every_rank_makes_the_same_calls_in_the_same_order(
    pair: Pair, tiny_dataset_folder: Path, tmp_path: Path, name: str
) -> None:
    first, second = pair(collectives_of_a_run, tiny_dataset_folder, tmp_path / "run", name)
    assert first == second
    assert sum(call.startswith("all_reduce") for call in first) >= 10
    assert any(call.startswith("all_gather") for call in first), "a checkpoint holds every rank's random state"


# --- commands -----------------------------------------------------------------------------------------------------


def words_of_a_run(folder: Path, out: Path, kimg: float) -> list[str]:
    words = f"train wgan-gp --data {folder} --out {out} --width 4 --latent-dim 4 --critic-steps 1 --batch-size 8"
    return [*words.split(), "--kimg", str(kimg), "--device", "cpu", "--precision", "fp32", "--metrics-count", "16"]


def events(out: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    except (FileNotFoundError, json.JSONDecodeError):  # not there yet, or a line half written
        return []


def test_torchrun_makes_a_whole_run_and_one_process_goes_on_with_it(
    tiny_dataset_folder: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(SIZE), "-m"]
    words = ["limner", *words_of_a_run(tiny_dataset_folder, out, 0.08)]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, env=variables, timeout=2 * HANG_SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sample sheet") == 1, "only the first process speaks"
    assert (out / "samples" / "images-000000000080.png").exists()
    assert (out / "config.json").exists()
    assert (out / "report.html").exists()
    assert list((out / "metrics").glob("*.json"))
    found = newest_checkpoint(out / "checkpoints", lambda message: None)
    assert found is not None
    assert found.images_seen == 80
    assert any(name.startswith("random.1.") for name in found.tensors)
    log = events(out)
    assert [log[0]["event"], log[-1]["event"]] == ["start", "end"]
    assert log[0]["processes"] == SIZE

    assert main(["resume", str(out), "--kimg", "0.12"]) == 0
    found = newest_checkpoint(out / "checkpoints", lambda message: None)
    assert found is not None
    assert found.images_seen == 120
    assert [event["event"] for event in events(out)].count("resume") == 1


@pytest.mark.parametrize(("sign", "victim"), [("SIGKILL", 1), ("SIGKILL", 0), ("SIGSTOP", 1)])
def test_the_survivor_of_a_lost_process_ends_with_code_8(
    tiny_dataset_folder: Path, tmp_path: Path, sign: str, victim: int
) -> None:
    out, port = tmp_path / "run", free_port()
    words = [*words_of_a_run(tiny_dataset_folder, out, 1000), "--tick-kimg", "0.008"]
    errors = [tmp_path / f"stderr-{rank}" for rank in range(SIZE)]
    both = [PROCESSES.Process(target=command, args=(words, rank, port, errors[rank])) for rank in range(SIZE)]
    for process in both:
        process.start()
    try:
        wait_for(lambda: any(event["event"] == "tick" for event in events(out)), both)
        os.kill(both[victim].pid or 0, getattr(signal, sign))
        survivor = both[1 - victim]
        survivor.join(HANG_SECONDS)
        message = errors[1 - victim].read_text()
        assert survivor.exitcode == 8, message
        assert "another process of this run stopped" in message
        assert "limner resume" in message
        assert "Traceback" not in message
    finally:
        for process in both:
            process.kill()
            process.join()


def command(words: list[str], rank: int, port: int, errors: Path) -> None:
    os.environ |= environment(rank, port)
    torch.set_num_threads(1)
    distributed.TIMEOUT_SECONDS = 10
    sys.stderr = errors.open("w", buffering=1)
    sys.exit(main(words))


def wait_for(done: Callable[[], bool], processes: Sequence[Any]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not done():
        assert all(process.is_alive() for process in processes)
        assert time.monotonic() < deadline, "training did not start"
        time.sleep(0.1)
