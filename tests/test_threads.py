"""How many threads a run computes with: measured at its beginning, kept with it, looked at again when it is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kill_harness import KNOWN, make_dataset, tiny_config
from limner.checkpoint import newest_checkpoint
from limner.training import pace, run, threads
from limner.training.config import read_config
from limner.training.distributed import World
from limner.training.log import read_log
from limner.training.threads import (
    LOOK_AGAIN_TICKS,
    ThreadMonitor,
    candidates,
    fastest,
    thread_monitor,
    threads_of_a_run,
    use_recorded_threads,
)


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tests compute with one thread; these need a choice."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


# --- which numbers, which is best ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "numbers"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 4, 7, 8))])
def test_candidates(most: int, numbers: tuple[int, ...]) -> None:
    assert candidates(most) == numbers


def test_the_fastest_is_taken_and_the_usual_one_where_the_difference_is_small() -> None:
    assert fastest({1: 100.0, 2: 60.0}, usual=2) == 1
    assert fastest({1: 102.0, 2: 100.0}, usual=2) == 2
    assert fastest({1: 60.0, 2: 100.0}, usual=2) == 2


def test_a_program_gets_its_own_number_back() -> None:
    with threads_of_a_run(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


# --- looked at again ----------------------------------------------------------------------------------------------


def after(monitor: ThreadMonitor, *speeds: float, resolution: int = 32) -> list[int]:
    """The number in use after each tick at such a speed."""
    numbers = []
    for speed in speeds:
        monitor.tick(speed, resolution)
        numbers.append(monitor.threads)
    return numbers


def test_a_run_that_becomes_far_slower_tries_the_others_and_keeps_the_fastest() -> None:
    monitor = ThreadMonitor(2, (1, 2))
    assert after(monitor, 50.0, 100.0, 100.0, 30.0) == [2, 2, 2, 2], "one slow tick is none"
    assert after(monitor, 30.0, 90.0) == [1, 1], "two in a row are; 1 thread is tried, and kept"
    assert after(monitor, 90.0, 90.0, 90.0) == [1, 1, 1]


def test_where_no_other_number_is_faster_it_stays() -> None:
    monitor = ThreadMonitor(2, (1, 2))
    assert after(monitor, 50.0, 100.0, 30.0, 30.0) == [2, 2, 2, 1]
    assert after(monitor, 33.0) == [2], "not worth it"
    assert after(monitor, 30.0, 30.0, 30.0, 30.0, 30.0) == [2] * 5, "this is the usual speed now"


def test_of_several_each_is_tried_for_one_tick() -> None:
    monitor = ThreadMonitor(8, (1, 4, 7, 8))
    after(monitor, 100.0, 100.0, 10.0)
    tried = after(monitor, 10.0, 60.0, 40.0, 20.0)
    assert tried[:3] == [7, 4, 1]
    assert tried[3] == 7, "which was fastest"


def test_later_the_first_number_is_tried_again() -> None:
    monitor = ThreadMonitor(2, (1, 2))
    after(monitor, 100.0, 100.0, 30.0, 30.0, 60.0)
    assert monitor.threads == 1
    assert after(monitor, *[60.0] * LOOK_AGAIN_TICKS)[-1] == 2
    assert after(monitor, 100.0) == [2], "the other program has ended"


def test_another_resolution_is_no_slowness() -> None:
    monitor = ThreadMonitor(2, (1, 2))
    after(monitor, 100.0, 100.0, resolution=16)
    assert after(monitor, 20.0, 20.0, 20.0, 20.0, resolution=32) == [2] * 4


def test_ordinary_unevenness_changes_nothing() -> None:
    monitor = ThreadMonitor(2, (1, 2))
    assert set(after(monitor, *[100.0, 60.0, 110.0, 55.1, 70.0] * 20)) == {2}


def test_who_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_monitor(None, World(), 2) is not None
    assert thread_monitor(2, World(), 2) is None, "asked for"
    assert thread_monitor(None, World(size=2), 2) is None
    assert thread_monitor(None, World(), 1) is None, "there is no other"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert thread_monitor(None, World(), 2) is None, "asked for"


# --- measured, kept -----------------------------------------------------------------------------------------------


def measured(speeds: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the numbers of threads come to these speeds."""
    monkeypatch.setattr(pace, "_speed", lambda trainer, rows, resolution, number, too_slow: speeds[number])


def trained(dataset: Path, folder: Path, iterations: int = 50, **settings: Any) -> Path:
    config = tiny_config("dcgan", dataset, iterations, checkpoint_kimg=1.0, sample_kimg=1.0, **settings)
    return run.train(KNOWN["dcgan"], config, folder)


def threads_of(folder: Path) -> int:
    found = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert found is not None
    return int(found.facts["threads"])


@pytest.mark.parametrize(("speeds", "chosen"), [({1: 90.0, 2: 40.0}, 1), ({1: 40.0, 2: 70.0}, 2)])
def test_the_fastest_is_used_logged_and_kept(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float], chosen: int
) -> None:
    measured(speeds, monkeypatch)
    monkeypatch.setattr(run, "thread_monitor", lambda *arguments: None)  # on a busy machine it would change them
    folder = trained(dataset, tmp_path / "run")
    event = next(event for event in read_log(folder / "log.jsonl") if event["event"] == "estimate")
    assert event["threads"] == chosen
    assert event["speeds"] == {str(number): speed for number, speed in speeds.items()}
    assert threads_of(folder) == chosen
    assert read_config(folder / "config.json")[1].threads is None, "nobody asked for a number"


def test_a_number_that_is_far_too_many_is_not_timed_for_long(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a busy process, an iteration with all threads can take many times as long as with one."""
    done: list[tuple[int, int]] = []

    def iteration(trainer: Any, rows: int, resolution: int) -> float:
        done.append((torch.get_num_threads(), rows))
        return rows * (0.01 if torch.get_num_threads() == 1 else 1.0)

    monkeypatch.setattr(pace, "_iteration", iteration)
    folder = trained(dataset, tmp_path / "run")
    assert [rows for number, rows in done if number == 2] == [2], "once, with the fewest images"
    event = next(event for event in read_log(folder / "log.jsonl") if event["event"] == "estimate")
    assert event["speeds"] == {"1": pytest.approx(100.0), "2": pytest.approx(1.0)}


def test_a_number_asked_for_is_not_measured_against_others(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured({1: 10.0}, monkeypatch)  # to time 2 would be a KeyError
    assert threads_of(trained(dataset, tmp_path / "run", threads=1)) == 1


def test_the_environment_is_such_a_wish(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    measured({2: 10.0}, monkeypatch)
    assert threads_of(trained(dataset, tmp_path / "run")) == 2


def test_a_resumed_run_computes_as_before(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured({1: 90.0, 2: 40.0}, monkeypatch)
    config = tiny_config("dcgan", dataset, 50, checkpoint_kimg=1.0, sample_kimg=1.0)
    folder = run.train(KNOWN["dcgan"], config, tmp_path / "run", stop_at=0.1)
    assert torch.get_num_threads() == 2
    used: list[int] = []
    monkeypatch.setattr(run, "_fit", lambda *arguments: used.append(torch.get_num_threads()))
    run.resume(folder, *read_config(folder / "config.json"))
    assert used == [1]


def test_a_machine_with_fewer_is_said() -> None:
    assert use_recorded_threads(None, {"threads": 64}) == [
        "threads: 2, where the run had 64: this process may use no more, so it rounds otherwise"
    ]
    assert torch.get_num_threads() == 2
    assert use_recorded_threads(2, {"threads": 1}) == []
    assert torch.get_num_threads() == 2, "asked for"
    assert use_recorded_threads(None, {}) == [], "an earlier version kept none"
    assert use_recorded_threads(None, {"threads": 1}) == []
    assert torch.get_num_threads() == 1


def test_a_change_while_training_is_logged_and_kept(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(ThreadMonitor):
        def tick(self, images_per_second: float, resolution: int) -> str | None:
            if self.threads == 1:
                return None
            self.threads = 1
            return "threads: 1 from here on; for the test"

    monkeypatch.setattr(threads, "ThreadMonitor", Impatient)
    folder = trained(dataset, tmp_path / "run", iterations=4)
    changes = [event for event in read_log(folder / "log.jsonl") if event["event"] == "threads"]
    assert [(change["threads"], change["message"]) for change in changes] == [
        (1, "threads: 1 from here on; for the test")
    ]
    assert threads_of(folder) == 1
