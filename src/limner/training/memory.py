"""How much memory there is, how much of it a process has taken at most, and sizes as text."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from limner.errors import LimnerError

_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
SHARE_OF_FREE = 0.9
"""of the memory that is free now; the rest is left to what else happens on a machine"""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CGROUP_FILES = (("memory.max", "memory.current", "inactive_file"),)
_CGROUP_ONE_FILES = (("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),)


@dataclass(frozen=True)
class Budget:
    """Memory that a process may take."""

    bytes: int | float
    free: int | float
    """what there is: nothing is tried that would take more"""
    said: str
    """in words, where it comes from"""


def find_budget(memory: str | None, device: torch.device, processes: int, *, exactly: bool) -> Budget:
    """Memory for this process.

    Args:
        memory: what the user grants; None: what is free now.
        device: where it trains.
        processes: of the run, on this machine.
        exactly: the user's word is taken even where less is free: to plan for another machine.
    """
    found = available_bytes(device, processes)
    held = resident_bytes() if device.type == "cpu" else 0
    free = float("inf") if found is None else SHARE_OF_FREE * (found + held)
    if memory is None:
        return Budget(free, free, f"{size(free)} ({SHARE_OF_FREE:.0%} of what is free now)")
    granted = parse_size(memory)
    if exactly or granted <= free:
        return Budget(granted, free, f"{size(granted)} (--memory)")
    return Budget(free, free, f"{size(free)} ({SHARE_OF_FREE:.0%} of what is free now, less than --memory {memory})")


def parse_size(text: str) -> int:
    """Bytes of a size like 8GB, 500 MB or 7.5GiB (a GB is 10⁹ bytes, a GiB 2³⁰).

    Raises:
        LimnerError: it is not one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?B)\s*", text.upper())
    if found is None or float(found[1]) == 0:
        raise LimnerError(f"memory is {text!r}, expected a size with its unit, like 8GB, 500MB or 7.5GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def size(count: int | float) -> str:
    """Bytes in the unit that suits them: "950 MB", "8.3 GB"."""
    for unit, least in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.3g} {unit}" if count < 999.5 * least else f"{count / least:.0f} {unit}"
    return f"{count:.0f} bytes"


def available_bytes(device: torch.device, processes: int = 1) -> int | None:
    """What this process may still take, beside what it holds already; None where the system does not say.

    Args:
        device: where it trains.
        processes: that share this machine's memory evenly (not a GPU's, of which each has its own).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [count for count in (_machine_free(), _cgroup_free()) if count is not None]
    return min(free) // processes if free else None


def _machine_free() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return _all_memory()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else _all_memory()


def _all_memory() -> int | None:
    """Of the machine: where nothing says how much of it is free."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_free(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Room below the tightest limit on this process's control groups; None where there is none."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    rooms = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, names = (root / "memory", _CGROUP_ONE_FILES) if controllers else (root, _CGROUP_FILES)
        folder = top / path.lstrip("/")
        folders = [folder, *folder.parents]
        for one in folders[: folders.index(top) + 1] if top in folders else [top]:
            rooms += [room for files in names if (room := _room(one, *files)) is not None]
    return min(rooms, default=None)


def _room(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    """Below one group's limit; pages of files that nobody has used lately make room when it is needed."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if most == "max" or int(most) >= 2**60:
        return None
    return max(0, int(most) - used + int(stat.get(cache, 0)))


def peak_bytes(device: torch.device) -> int:
    """Most memory at once since `restart_peak`: of the process on a CPU, of its tensors on a GPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    found = _status("VmHWM")
    return largest_ever_bytes() if found is None else found


def hand_back() -> None:
    """Give the system the pages that have become free again, where its C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def restart_peak(device: torch.device) -> None:
    """Forget the peak so far. Where the system cannot, peaks go on being those of the process's whole life."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def resident_bytes() -> int:
    """Memory of this process now; 0 where the system does not say."""
    return _status("VmRSS") or 0


def largest_ever_bytes() -> int:
    """Most memory this process had at once in its life."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _status(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")]
    return found[0] if found else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is one of the ways to say that memory is out."""
    names = ("OutOfMemoryError", "MemoryError")
    signs = ("can't allocate memory", "not enough memory", "out of memory")
    return type(error).__name__ in names or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    )
