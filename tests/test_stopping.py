"""Real processes get real signals in every phase of a run and in every long verb.

A child is forked from here (torch is imported once) and runs the command line's `main`. In it one function tells by a
file that the phase is reached, and then waits for another file (so that the signal comes there), or computes in one
call of C code that takes hours (so that no handler of Python's can run).
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kill_harness import KNOWN, make_dataset, tiny_config, wait, warm_up
from limner import signals
from limner.checkpoint import newest_checkpoint
from limner.cli import main
from limner.data import decoding
from limner.heads import celeba_tree, make
from limner.signals import SAME_REQUEST_SECONDS
from limner.training import evaluate, recorder, rehearsing, run, trainer
from limner.training.log import read_events

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
HELD = "stopping after this iteration and saving; a second one stops at once"
Place = tuple[Any, str, int]
"""the function (owner and name) that a phase is in, and which call of it"""

RUN_PHASES: dict[str, Place] = {
    "in an iteration": (trainer.Trainer, "update_all", 3),
    "in the first save": (recorder, "write_checkpoint", 1),
    "while drawing": (recorder.Recorder, "_draw", 2),
    "while measuring": (recorder, "evaluate_model", 1),
    "in a report": (recorder, "write_report", 1),
}


class Child:
    """A process that runs a command and stops in a phase."""

    def __init__(self, place: Path, words: list[str], at: Place, compute: bool, before: Callable[[], Any]) -> None:
        self.reached, self.go, self._said = place / "reached", place / "go", place / "said"
        for file in (self.reached, self.go, self._said):
            file.unlink(missing_ok=True)
        self.pid = os.fork()
        if not self.pid:
            self._be_it(words, at, compute, before)

    def _be_it(self, words: list[str], at: Place, compute: bool, before: Callable[[], Any]) -> None:
        code = 99
        try:
            os.setsid()
            for descriptor in (1, 2):
                os.dup2(os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
            sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w", buffering=1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            torch.set_num_threads(1)
            stop_in(*at, self._compute if compute else self._wait)
            before()
            code = main(words)
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def _wait(self) -> None:
        self.reached.touch()
        while not self.go.exists():
            time.sleep(0.005)

    def _compute(self) -> None:
        threading.Timer(0.5, self.reached.touch).start()  # when the call below has begun
        torch.ones(1).expand(10**13).sum()  # one call of C code: hours, and no memory

    @property
    def said(self) -> str:
        return self._said.read_text() if self._said.exists() else ""

    def until(self, done: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"it hung; it said: {self.said}")
            assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), f"it ended; it said: {self.said}"
            time.sleep(0.01)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        return wait(self.pid)


def stop_in(owner: Any, name: str, at: int, stop: Callable[[], None]) -> None:
    """From now on this process stops at the `at`-th call of a function."""
    original, count = getattr(owner, name), 0

    @functools.wraps(original)  # pickled by its name
    def stopping(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            stop()
        return original(*arguments, **named)

    setattr(owner, name, stopping)


Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a child and waits until it has reached its phase; ends whatever is left of it."""
    children: list[Child] = []

    def started(
        words: list[Any], at: Place, *, compute: bool = False, before: Callable[[], Any] = lambda: None
    ) -> Child:
        child = Child(tmp_path, [str(word) for word in words], at, compute, before)
        children.append(child)
        child.until(child.reached.exists)
        return child

    yield started
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child.pid, 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of noise, and a run of it."""
    warm_up()
    root = tmp_path_factory.mktemp("stopping")
    make_dataset(root / "dataset")
    assert main(train_words(root, root / "run")) == 0
    assert main([*train_words(root, root / "run2"), "--seed", "1"]) == 0
    return root


def train_words(root: Path, out: Path, model: str = "dcgan") -> list[str]:
    small = ["--width", "4", "--latent-dim", "6", "--batch-size", "4", "--kimg", "0.024", "--device", "cpu"]
    often = ["--checkpoint-kimg", "0.008", "--tick-kimg", "0.004", "--sample-kimg", "0.008", "--metrics-kimg", "0.008"]
    numbers = ["--metrics", "swd", "--metrics-count", "8", "--preflight", "off", "--attributes", "none"]
    return ["train", model, "--data", str(root / "dataset"), "--out", str(out), *small, *often, *numbers]


def finished(folder: Path) -> bool:
    return read_events(folder / "log.jsonl")[-1].get("reason") == "finished"


def saved_images(folder: Path) -> int:
    found = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert found is not None
    return found.images_seen


# --- a run --------------------------------------------------------------------------------------------------------


@SIGNALS
@pytest.mark.parametrize("phase", RUN_PHASES)
def test_the_first_signal_is_answered_at_once_and_the_run_saves(
    root: Path, tmp_path: Path, start: Start, phase: str, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    child = start(train_words(root, folder), RUN_PHASES[phase])
    child.send(number)
    child.until(lambda: f"{number.name}: {HELD}" in child.said)  # while it still is in that phase
    child.go.touch()
    assert child.end() == 128 + number, child.said
    last = read_events(folder / "log.jsonl")[-1]
    assert last["reason"] == f"stopped by signal {number:d}"
    assert saved_images(folder) == last["images"] < 24
    assert f"resume {folder}" in child.said.strip().splitlines()[-1]
    assert (folder / "report.html").exists()
    assert main(["resume", str(folder)]) == 0
    assert finished(folder)


@SIGNALS
@pytest.mark.parametrize("phase", RUN_PHASES)
def test_the_second_signal_ends_a_run_inside_a_long_call(
    root: Path, tmp_path: Path, start: Start, phase: str, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    child = start(train_words(root, folder), RUN_PHASES[phase], compute=True)
    child.send(number)
    child.until(lambda: f"{number.name}: {HELD}" in child.said)
    time.sleep(2 * SAME_REQUEST_SECONDS)
    child.send(number)
    assert child.end() == 128 + number, child.said
    last = child.said.strip().splitlines()[-1]
    assert last.startswith(f"limner: {number.name}: stopped at once; go on from the newest checkpoint with: ")
    assert last.endswith(f"resume {folder}")
    if phase != "in the first save":
        saved_images(folder)
    assert main(["resume", str(folder)]) == 0
    assert finished(folder)
    assert not list((folder / "checkpoints").glob(".*"))


def test_a_signal_of_another_kind_counts_as_the_second(root: Path, tmp_path: Path, start: Start) -> None:
    child = start(train_words(root, tmp_path / "run"), RUN_PHASES["in an iteration"], compute=True)
    child.send(signal.SIGUSR1)
    child.until(lambda: f"SIGUSR1: {HELD}" in child.said)
    time.sleep(2 * SAME_REQUEST_SECONDS)
    child.send(signal.SIGTERM)
    assert child.end() == 128 + signal.SIGTERM


@SIGNALS
def test_a_signal_in_the_last_report_ends_with_its_code_and_loses_nothing(
    root: Path, tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    child = start([*train_words(root, folder), "--checkpoint-kimg", "1"], (recorder, "write_report", 1))
    child.send(number)
    child.until(lambda: HELD in child.said)
    child.go.touch()
    assert child.end() == 128 + number
    assert "all was done and saved at 24 images" in child.said
    assert finished(folder)


def test_a_signal_while_rolling_back_saves_where_it_went_back_to(root: Path, tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "run"

    def spoil() -> None:
        update, count = trainer.Trainer.update_all, 0

        def spoilt(self: trainer.Trainer, *arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == 4:
                raise trainer.NotFiniteError("a loss is not finite")
            return update(self, *arguments)

        trainer.Trainer.update_all = spoilt  # type: ignore[method-assign]

    child = start(train_words(root, folder), (recorder.Recorder, "roll_back", 1), before=spoil)
    child.send(signal.SIGTERM)
    child.until(lambda: HELD in child.said)
    child.go.touch()
    assert child.end() == 143, child.said
    events = read_events(folder / "log.jsonl")
    assert "rollback" in [event["event"] for event in events]
    assert saved_images(folder) == events[-1]["images"]


@SIGNALS
def test_a_resumed_run_that_has_not_gone_on_yet_ends_at_once(
    root: Path, tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(root / "run", folder)
    before = {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
    child = start(["resume", folder, "--kimg", "0.04"], (run, "preflight", 1))
    child.send(number)
    assert child.end() == 128 + number
    assert child.said.strip().splitlines()[-1] == f"limner: stopped by {number.name}"
    assert {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()} == before


@SIGNALS
def test_while_the_data_are_rendered(tmp_path: Path, start: Start, number: signal.Signals) -> None:
    cache = tmp_path / "cache"
    words = ["train", "dcgan", "--heads", "300", "--resolution", "16", "--out", tmp_path / "run", "--device", "cpu"]
    child = start(words, (make.HeadsJob, "draw", 1), before=lambda: os.environ.update(LIMNER_CACHE=str(cache)))
    workers = children_of(child.pid)
    child.send(number)
    assert child.end() == 128 + number, child.said
    assert "stopped by a signal; nothing was kept" in child.said
    assert not [path for path in cache.rglob("*") if path.is_file() or path.name.endswith(".partial")]
    assert not (tmp_path / "run").exists()
    gone(workers)


@pytest.mark.parametrize(("verb", "number"), [("train", signal.SIGINT), ("plan", signal.SIGTERM)])
def test_in_the_pre_flight(root: Path, tmp_path: Path, start: Start, verb: str, number: signal.Signals) -> None:
    words = [*train_words(root, tmp_path / "run"), "--memory", "2GB", "--preflight", "on", "--resolution", "16"]
    child = start([verb, *words[1:]], (rehearsing.Rehearsals, "_figures", 2))
    tried_by = children_of(child.pid)
    assert tried_by
    child.send(number)
    assert child.end() == 128 + number, child.said
    assert not (tmp_path / "run").exists()
    gone(tried_by)


def test_the_second_signal_in_the_pre_flight_leaves_no_process(root: Path, tmp_path: Path, start: Start) -> None:
    words = [*train_words(root, tmp_path / "run"), "--memory", "2GB", "--preflight", "on", "--resolution", "16"]
    child = start(words, (rehearsing.Rehearsals, "_figures", 2), compute=True)
    tried_by = children_of(child.pid)
    assert tried_by
    child.send(signal.SIGTERM)
    child.until(lambda: "SIGTERM: stopping; a second one stops at once" in child.said)
    child.send(signal.SIGTERM)
    assert child.end() == 143
    gone(tried_by)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(processes: list[int]) -> None:
    """Wait until they have ended."""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() and "Z" not in _state(pid) for pid in processes):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


# --- the other verbs ----------------------------------------------------------------------------------------------

WRITING: Place = (os, "fsync", 1)
"""a file has been written, and has not got its name yet"""
VERBS: dict[str, tuple[str, Place]] = {
    "sample": ("sample RUN --out OUT.png --device cpu", WRITING),
    "walk": ("walk RUN --seeds 1,2 --out OUT.gif --device cpu", WRITING),
    "turn": ("turn TURNS --seeds 1 --steps 2 --out OUT.png --device cpu", WRITING),
    "timelapse": ("timelapse RUN --out OUT.gif", WRITING),
    "evaluate": ("evaluate RUN --metrics swd --count 8 --device cpu", (evaluate, "evaluate_model", 1)),
    "compare": ("compare RUN RUN2 --ignore seed latents_seed --out OUT.html --device cpu", WRITING),
    "report": ("report RUN", WRITING),
    "data prepare": ("data prepare PHOTOS OUT --resolution 16 --workers 2", (decoding.Recipe, "make", 1)),
    "data prepare, writing": ("data prepare PHOTOS OUT --resolution 16 --workers 1", WRITING),
    "data check": ("data check PHOTOS --resolution 16 --workers 2", (decoding.Recipe, "make", 1)),
    "data heads": ("data heads OUT --count 300 --resolution 16 --workers 2", (make.HeadsJob, "draw", 1)),
    "data celeba-tree": ("data celeba-tree OUT --count 300 --workers 2", (celeba_tree.TreeJob, "draw", 1)),
    "data celeba-tree, writing": ("data celeba-tree OUT --count 2 --workers 1", WRITING),
    "data probe": ("data probe HEADS --kimg 0.1 --out OUT.probe", WRITING),
    "data statistics": ("data statistics HEADS OUT.npz", WRITING),
}


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    """What the verbs work on, by the words that stand for it."""
    photos = root / "photos"
    photos.mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    run.train(KNOWN["hologan"], tiny_config("hologan", root / "dataset", 1), root / "turns")
    assert main(["data", "heads", str(root / "heads"), "--count", "60", "--resolution", "16", "--workers", "1"]) == 0
    assert main(["data", "probe", str(root / "heads"), "--kimg", "0.1"]) == 0
    names = {"RUN": "run", "RUN2": "run2", "TURNS": "turns", "PHOTOS": "photos", "HEADS": "heads"}
    return {word: str(root / name) for word, name in names.items()}


def listed(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("verb", "number"), [(v, (signal.SIGINT, signal.SIGTERM)[k % 2]) for k, v in enumerate(VERBS)])
def test_the_first_signal_ends_a_verb_and_leaves_nothing_half_written(
    root: Path, sources: dict[str, str], tmp_path: Path, start: Start, verb: str, number: signal.Signals
) -> None:
    line, place = VERBS[verb]
    made = tmp_path / "made"
    made.mkdir()
    words = [sources.get(word, word.replace("OUT", str(made / "out"))) for word in line.split()]
    before = listed(root)
    child = start(words, place)
    workers = children_of(child.pid)
    os.killpg(child.pid, number)  # as Ctrl-C in a terminal: the workers get it too
    code = child.end()
    assert code == 128 + number, child.said
    last = [line for line in child.said.splitlines() if line.startswith("limner: ")][-1]
    assert "stopped by" in last
    assert "Traceback" not in child.said
    assert list(made.iterdir()) == []
    assert listed(root) == before
    gone(workers)


def test_numbers_that_are_measured_are_all_kept(root: Path, tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "run"
    shutil.copytree(root / "run", folder)
    words = ["evaluate", folder, "--metrics", "swd", "ms_ssim", "--count", "8", "--device", "cpu"]
    child = start(words, WRITING)
    child.send(signal.SIGTERM)
    child.until(lambda: "SIGTERM: finishing what is being written" in child.said)
    child.go.touch()
    assert child.end() == 143
    assert len(list((folder / "metrics").glob("*8-*.json"))) >= 2
    assert not list((folder / "metrics").glob("*.partial"))


@SIGNALS
@pytest.mark.parametrize("verb", ["sample", "report", "data check"])
def test_the_second_signal_ends_a_verb_inside_a_long_call(
    sources: dict[str, str], tmp_path: Path, start: Start, verb: str, number: signal.Signals
) -> None:
    line, place = VERBS[verb]
    words = [sources.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in line.split()]
    child = start([word if word != "2" else "1" for word in words], place, compute=True)
    child.send(number)
    child.until(lambda: f"{number.name}: stopping; a second one stops at once" in child.said)
    child.send(number)
    assert child.end() == 128 + number, child.said
    assert child.said.strip().splitlines()[-1] == f"limner: {number.name}: stopped at once"


@pytest.mark.parametrize("verb", ["data prepare", "data heads", "data celeba-tree"])
def test_what_the_second_signal_leaves_the_next_one_clears(
    sources: dict[str, str], tmp_path: Path, start: Start, verb: str
) -> None:
    line, _ = VERBS[verb]
    words = [sources.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in line.split()]
    words = [word if word != "300" else "4" for word in words]
    child = start([word if word != "2" else "1" for word in words], WRITING, compute=True)
    child.send(signal.SIGINT)
    child.until(lambda: "SIGINT: stopping" in child.said)
    child.send(signal.SIGINT)
    assert child.end() == 130
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial").exists()
    assert main(words) == 0
    assert (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


# --- circumstances ------------------------------------------------------------------------------------------------


def test_nobody_reads_standard_error(root: Path, tmp_path: Path, start: Start) -> None:
    """The terminal is gone, or its reader waits: neither stops a run from being stopped."""
    for compute in (False, True):
        folder = tmp_path / f"run-{compute}"

        def unread(full: bool = compute) -> None:
            read, write = os.pipe()
            if full:
                os.set_blocking(write, False)
                with suppress(BlockingIOError):
                    while True:
                        os.write(write, bytes(4096))
                os.set_blocking(write, True)
            else:
                os.close(read)
            for descriptor in (1, 2):
                os.dup2(write, descriptor)
            sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")

        child = start(train_words(root, folder), RUN_PHASES["in an iteration"], compute=compute, before=unread)
        child.send(signal.SIGTERM)
        if compute:
            time.sleep(3 * SAME_REQUEST_SECONDS)
            child.send(signal.SIGTERM)
        else:
            child.go.touch()
        assert child.end() == 143
        saved_images(folder)


def test_sigint_that_a_background_shell_ignores_is_obeyed(root: Path, tmp_path: Path, start: Start) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    child = start(train_words(root, tmp_path / "run"), RUN_PHASES["in an iteration"], before=ignore)
    child.send(signal.SIGINT)
    child.until(lambda: HELD in child.said)
    child.go.touch()
    assert child.end() == 130


def test_another_library_has_the_wakeup_descriptor(root: Path, tmp_path: Path, start: Start) -> None:
    """As asyncio has it: it keeps it, and Python's own handlers count instead."""

    def take() -> None:
        _, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)

    child = start(train_words(root, tmp_path / "run"), RUN_PHASES["in an iteration"], before=take)
    child.send(signal.SIGTERM)
    child.until(lambda: HELD in child.said)
    time.sleep(2 * SAME_REQUEST_SECONDS)
    child.send(signal.SIGTERM)
    assert child.end() == 143
    assert "stopped at once" in child.said


def test_under_torchrun_what_it_passes_on_is_no_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches every process of the terminal, and torchrun then sends it to its own once more."""
    clock = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: clock[0])
    for launched, after, counts in ((False, 1.0, 2), (True, 1.0, 0), (True, 6.0, 2)):
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        if launched:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
        requests = signals._Requests()
        assert requests.add() == 1
        clock[0] += after
        assert requests.add() == counts


def test_a_forked_process_has_signals_of_its_own() -> None:
    with signals.WATCH, signals.WATCH.held("stopping"):
        for _ in range(50):  # some of the signals come before the child has forgotten the parent's handlers
            pid = os.fork()
            if not pid:
                time.sleep(60)
                os._exit(1)
            os.kill(pid, signal.SIGTERM)
            assert wait(pid) == -signal.SIGTERM
        assert signals.WATCH.number == 0
        assert signals.WATCH._requests.count == 0
        assert signal.set_wakeup_fd(-1) != -1, "the parent's is still set"


def test_a_thread_that_is_not_the_main_one_can_train(root: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(train_words(root, tmp_path / "run"))))
    thread.start()
    thread.join(120)
    assert codes == [0]
    assert finished(tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in signals.ASKING]
    with signals.WATCH, signals.WATCH:
        assert signal.getsignal(signal.SIGTERM) not in before
        with pytest.raises(signals.Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in signals.ASKING] == before
    assert signal.set_wakeup_fd(-1) == -1
