"""One trainer per run folder, whoever dies and however."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from limner.errors import ResourceError, RunLockedError
from limner.training import lock
from limner.training.lock import RunLock

WON, LOCKED, OTHER = 0, 6, 99


@pytest.fixture(params=["flock", "no locks"])
def _kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no locks":
        without_locks(monkeypatch)


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock, "_lock", refuse)


def fork(work: Callable[[], int]) -> int:
    """A child that ends with what `work` returns."""
    pid = os.fork()
    if pid == 0:
        code = OTHER
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def contend(folder: Path, contenders: int = 8) -> tuple[dict[int, int], list[str]]:
    """Let so many processes take a lock at the same moment; the winner holds it until all others have tried.

    Returns the exit code of each by its pid, and what the losers were told.
    """
    start, starter = os.pipe()
    release, releaser = os.pipe()
    said = [folder / f"said-{k}" for k in range(contenders)]

    def attempt(path: Path) -> int:
        os.read(start, 1)
        try:
            with RunLock(folder):
                os.read(release, 1)
                return WON
        except RunLockedError as error:
            path.write_text(str(error))
            return LOCKED

    children = [fork(partial(attempt, path)) for path in said]
    os.write(starter, b"x" * contenders)
    deadline = time.monotonic() + 60
    while sum(path.exists() for path in said) < contenders - 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.write(releaser, b"x" * contenders)
    codes = {pid: exit_code(pid) for pid in children}
    for descriptor in (start, starter, release, releaser):
        os.close(descriptor)
    return codes, [path.read_text() for path in said if path.exists()]


@pytest.mark.usefixtures("_kind")
def test_of_eight_contenders_exactly_one_wins_and_the_others_name_it(tmp_path: Path) -> None:
    for round_number in range(20):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        codes, told = contend(folder)
        assert sorted(codes.values()) == [WON, *[LOCKED] * 7], round_number
        winner = next(pid for pid, code in codes.items() if code == WON)
        assert all(f"process {winner} on {socket.gethostname()} (since 2" in message for message in told), told


@pytest.mark.usefixtures("_kind")
def test_the_lock_of_a_killed_holder_is_free_at_once(tmp_path: Path) -> None:
    for _ in range(5):
        ready, tell = os.pipe()

        def hold(tell: int = tell) -> int:
            RunLock(tmp_path).__enter__()
            os.write(tell, b"x")
            time.sleep(60)
            return OTHER

        pid = fork(hold)
        os.read(ready, 1)
        with pytest.raises(RunLockedError, match=f"process {pid} on "):
            RunLock(tmp_path).__enter__()
        os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL
        with RunLock(tmp_path):
            assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        os.close(ready)
        os.close(tell)


@pytest.mark.usefixtures("_kind")
def test_released_when_the_run_ends_or_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        _ = 1 / 0
    with RunLock(tmp_path), pytest.raises(RunLockedError) as caught:
        RunLock(tmp_path).__enter__()
    assert caught.value.exit_code == 6
    with RunLock(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_refused_contender_keeps_no_file_open(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(RunLockedError):
                RunLock(tmp_path).__enter__()
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_copied_lock_file_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        with RunLock(tmp_path / "copy"):
            pass


def test_a_dead_holders_name_is_not_told_as_the_new_ones(tmp_path: Path) -> None:
    """Between taking the lock and writing its name a holder is nameless, and the file still names the last one."""
    gone = fork(lambda: 0)
    exit_code(gone)
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_text(json.dumps({"pid": gone, "host": socket.gethostname(), "since": "2020"}))
        with pytest.raises(RunLockedError, match="another process is training"):
            RunLock(tmp_path).__enter__()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"gone/\.lock: cannot be written \(No such file"):
        RunLock(tmp_path / "gone").__enter__()


# --- where the file system has no locks ---------------------------------------------------------------------------


def claim(folder: Path, pid: int, host: str, age_seconds: float = 0) -> Path:
    path = folder / ".lock-claim"
    path.write_text(json.dumps({"pid": pid, "host": host, "since": "2026-01-01 00:00:00"}))
    os.utime(path, (time.time() - age_seconds,) * 2)
    return path


def test_another_hosts_claim_holds_while_it_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    path = claim(tmp_path, 1, "another-host", age_seconds=lock.STALE_SECONDS - 60)
    with pytest.raises(RunLockedError, match=rf"process 1 on another-host.*no locks.*delete {path}"):
        RunLock(tmp_path).__enter__()
    claim(tmp_path, 1, "another-host", age_seconds=lock.STALE_SECONDS + 60)
    with RunLock(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_the_holder_keeps_its_claim_fresh_without_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.5)
    with RunLock(tmp_path):
        os.utime(tmp_path / ".lock-claim", (0, 0))
        deadline = time.monotonic() + 10
        while lock._untouched(tmp_path / ".lock-claim") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not lock._untouched(tmp_path / ".lock-claim")


def test_a_half_written_claim_is_not_taken_for_an_abandoned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    monkeypatch.setattr(lock, "_NAMING_SECONDS", 0.05)
    (tmp_path / ".lock-claim").write_text('{"pid": 1')
    with pytest.raises(RunLockedError, match="another process is training"):
        RunLock(tmp_path).__enter__()


def test_of_many_who_find_an_abandoned_claim_one_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    monkeypatch.setattr(lock, "_NAMING_SECONDS", 0.05)
    gone = fork(lambda: 0)
    exit_code(gone)
    for round_number in range(20):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        claim(folder, gone, socket.gethostname())
        codes, _ = contend(folder)
        assert sorted(codes.values()) == [WON, *[LOCKED] * 7], round_number
