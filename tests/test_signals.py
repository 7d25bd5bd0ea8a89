"""Asked to stop, a run saves first; asked twice, it ends at once with its last checkpoint intact."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kill_harness
from kill_harness import DONE, Tally, Trials, fork, make_dataset, restless_is_known, wait
from limner import checkpoint
from limner.checkpoint import newest_checkpoint
from limner.errors import StoppedError
from limner.metrics import evaluate
from limner.program import limner_command
from limner.signals import SAME_REQUEST_SECONDS
from limner.training import recorder, run
from limner.training.log import read_events
from limner.training.signals import StopRequested, StopSignals
from limner.training.trainer import Trainer

LIMNER = [str(Path(sys.executable).parent / "limner")]


@pytest.fixture(autouse=True, scope="module")
def _restless() -> Iterator[None]:
    with restless_is_known():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def one(root: Path) -> Trials:
    """A run that measures and draws in every other iteration."""
    make_dataset(root / "dataset")
    often = 2 * kill_harness.steps_of("restless") * kill_harness.BATCH / 1000
    return Trials("restless", root, 7, metrics=("swd",), metrics_count=8, metrics_kimg=often, sample_kimg=often)


def send_in(owner: Any, name: str, number: int, at: int = 1, times: int = 1) -> None:
    """From now on this process gets a signal at the `at`-th call of a function."""
    original, count = getattr(owner, name), 0

    def sending(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return original(*arguments, **named)

    setattr(owner, name, sending)


def stopped(one: Trials, folder: Path, prepare: Callable[[], None]) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of a run in which `prepare` sends a signal, and its log."""
    code = wait(fork(lambda: one.attempt(folder, prepare)))
    return code, read_events(folder / "log.jsonl")


PLACES: dict[str, Callable[[int], None]] = {
    "in a loss": lambda number: send_in(Trainer, "_backward", number, at=8),
    "in the first step": lambda number: send_in(Trainer, "_backward", number),
    "in a save": lambda number: send_in(checkpoint.DISK, "flush", number, at=3),
    "in the first save": lambda number: send_in(checkpoint.DISK, "write", number),
    "in the last save": lambda number: send_in(checkpoint.DISK, "rename", number, at=9),
    "while pruning": lambda number: send_in(checkpoint.DISK, "remove", number, at=2),
    "while sampling": lambda number: send_in(recorder.Recorder, "_draw", number, at=2),
    "while measuring": lambda number: send_in(evaluate, "_fakes", number),
    "before the first step": lambda number: send_in(run, "_make_trainer", number),
    "in the last measurement": lambda number: send_in(recorder.Recorder, "_measure", number, at=4),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_asked_to_stop_a_run_saves_and_loses_no_step(one: Trials, place: str, number: int, code: int) -> None:
    folder, tally = one.folder("stopped"), Tally()
    found, events = stopped(one, folder, lambda: PLACES[place](number))
    assert found == code, events
    assert events[-1]["reason"] == f"stopped by signal {number}"
    saved = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert saved is not None
    assert saved.images_seen == events[-1]["images"]
    assert saved.images_seen == max(event["images"] for event in events if event["event"] in ("tick", "start"))
    one.succeed(folder)
    assert read_events(folder / "log.jsonl")[-1]["reason"] == "finished"
    one.compare(folder, tally)
    assert tally.not_exact == 0


def test_measuring_is_given_up_and_not_waited_for(one: Trials) -> None:
    folder = one.folder("measuring")
    code, events = stopped(one, folder, lambda: PLACES["while measuring"](signal.SIGTERM))
    assert code == 143
    assert not [event for event in events if event["event"] == "metric"]
    shutil.rmtree(folder)


@pytest.mark.parametrize("place", ["in a loss", "in a save", "while measuring", "while sampling", "while pruning"])
def test_asked_twice_it_ends_at_once_and_the_last_checkpoint_is_whole(one: Trials, place: str) -> None:
    folder, tally = one.folder("twice"), Tally()

    def twice() -> None:
        kill, pid = os.kill, os.getpid()

        def two(to: int, number: int) -> None:
            kill(to, number)
            time.sleep(3 * SAME_REQUEST_SECONDS)
            kill(pid, number)

        os.kill = two
        PLACES[place](signal.SIGINT)

    code, events = stopped(one, folder, twice)
    assert code == 130
    assert all(event["event"] != "end" for event in events), "it did not stay to save"
    kill_harness.judge(folder, tally, one.images_an_iteration)
    one.succeed(folder)
    one.compare(folder, tally)
    assert (tally.lost, tally.unreadable, tally.not_exact) == (0, 0, 0)


def test_signals_sent_together_are_one_request(one: Trials) -> None:
    """`timeout` sends to the process and then to its group, so that it comes twice at once."""
    folder, tally = one.folder("again"), Tally()
    code, events = stopped(one, folder, lambda: send_in(checkpoint.DISK, "write", signal.SIGTERM, 200, times=5))
    assert code == 143
    assert events[-1]["event"] == "end"
    one.succeed(folder)
    one.compare(folder, tally)
    assert tally.not_exact == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGPIPE])
def test_a_closed_terminal_or_pipe_does_not_stop_a_run(one: Trials, number: int) -> None:
    folder, tally = one.folder("hangup"), Tally()
    code, _ = stopped(one, folder, lambda: send_in(Trainer, "_backward", number, at=5, times=3))
    assert code == DONE
    one.compare(folder, tally)
    assert tally.not_exact == 0


def test_sigusr1_stops_as_well(one: Trials) -> None:
    """SLURM's warning before the time is up."""
    folder, tally = one.folder("usr1"), Tally()
    code, _ = stopped(one, folder, lambda: PLACES["in a loss"](signal.SIGUSR1))
    assert code == 128 + signal.SIGUSR1
    one.succeed(folder)
    one.compare(folder, tally)
    assert tally.not_exact == 0


def test_stopped_at_random_moments(one: Trials) -> None:
    rng, tally, codes = random.Random(0), Tally(), []
    while len(codes) < 8:
        folder = one.folder(f"random-{len(codes)}")
        for _ in range(4):
            pid = fork(lambda folder=folder: one.attempt(folder))  # type: ignore[misc]
            while not (folder / "config.json").exists():  # before it the signals are not ours yet
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, one.seconds * max(0.2, one.share_left(folder))))
            os.kill(pid, signal.SIGTERM)
            code = wait(pid)
            if code == DONE:
                break
            codes.append(code)
        if code != DONE:
            one.succeed(folder)
        one.compare(folder, tally)
    assert set(codes) <= {
        143,
        -signal.SIGTERM,
    }  # the second: it came in the import of config.json's resume, or at the end
    assert codes.count(143) >= 4
    assert tally.not_exact == 0


def test_signals_are_put_back_after_a_run() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

    def stopped_run() -> None:
        with StopSignals() as signals:
            assert signal.getsignal(signal.SIGTERM) != before[0]
            signals.poll()
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.number == signal.SIGTERM
            with pytest.raises(StopRequested):
                signals.poll()
            raise StoppedError("saved", signals.number)

    with pytest.raises(StoppedError):
        stopped_run()
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)  # too late for the run to be stopped, and not lost
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


# --- the command itself -------------------------------------------------------------------------------------------


def words(root: Path, out: Path, kimg: float) -> list[str]:
    numbers = ["--batch-size", "4", "--kimg", str(kimg), "--checkpoint-kimg", "0.004", "--tick-kimg", "0.004"]
    places = ["--data", str(root / "dataset"), "--out", str(out), "--device", "cpu", "--resolution", "16"]
    return [*LIMNER, "train", "dcgan", "--width", "4", "--latent-dim", "6", "--metrics", *numbers, *places]


def begun(process: subprocess.Popen[Any], out: Path, checkpoints: int) -> None:
    """Wait until the run has saved so many times."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if sum(event["event"] == "checkpoint" for event in read_events(out / "log.jsonl")) >= checkpoints:
            return
        time.sleep(0.02)
    raise AssertionError(f"the run did not begin: {process.communicate()}")


def test_sigterm_to_the_command_and_the_way_on_that_it_names(root: Path, one: Trials, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(words(root, out, 1000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun(process, out, 3)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    last = errors.strip().splitlines()[-1]
    assert last.startswith("limner: stopped by signal 15 at ")
    assert last.endswith(f"saved; go on with: {limner_command()} resume {out}")
    assert "Traceback" not in errors
    images = newest_checkpoint(out / "checkpoints", pytest.fail).images_seen  # type: ignore[union-attr]
    command = [*LIMNER, "resume", str(out), "--stop-at", str((images + 8) / 1000)]
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert newest_checkpoint(out / "checkpoints", pytest.fail).images_seen == images + 8  # type: ignore[union-attr]


def test_standard_output_and_error_closed_do_not_kill_a_run(root: Path, one: Trials, tmp_path: Path) -> None:
    """As under `limner train | head`, and when the terminal's other end is gone."""
    out = tmp_path / "run"
    read, write = os.pipe()
    process = subprocess.Popen(words(root, out, 0.04), stdout=write, stderr=write)
    os.close(write)
    begun(process, out, 1)
    os.close(read)
    process.wait(timeout=120)
    assert newest_checkpoint(out / "checkpoints", pytest.fail).images_seen == 40  # type: ignore[union-attr]
    assert read_events(out / "log.jsonl")[-1]["reason"] == "finished"
    assert process.returncode == 0
