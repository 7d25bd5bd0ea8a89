"""What the built-in heads cost: CPU milliseconds per head, one process, one thread; and the time of a whole set.

python -m benchmarks.heads_cost          # prints a table; under two minutes
python -m benchmarks.heads_cost --set    # also draws 10,000 heads of 64² with two processes; two minutes more
python -m benchmarks.heads_cost --json   # prints what results/heads_cost.json holds; with --set, all of it

Beside each time stands its ratio to that of a fixed piece of NumPy work, done in turns with the heads: a million
float32 gathered and scaled. The ratio depends little on the machine and on what else runs on it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from limner.heads import make_heads, render_head

HEADS = 200
RESOLUTIONS = (32, 64, 128, 256)
SET_COUNT, SET_RESOLUTION, SET_WORKERS = 10_000, 64, 2
MOST_MILLISECONDS = 15  # of a head of 64², on one core
MOST_SECONDS = 120  # of the set, on two


def measure(whole_set: bool = False) -> list[dict[str, object]]:
    """One row per figure. Heads are drawn once before they are timed: shadows and haircuts are worked out by then."""
    started = time.process_time()
    for index in range(HEADS):
        render_head(0, index, 16)
    first = time.process_time() - started
    rows = [_per_head(side) for side in RESOLUTIONS]
    again = sum(_seconds(index, 16) for index in range(HEADS))
    rows.append(
        {"what": f"worked out once per process, {HEADS} heads", "value": round(first - again, 1), "unit": "CPU s"}
    )
    return [*rows, _whole_set()] if whole_set else rows


def _per_head(resolution: int) -> dict[str, object]:
    work = _Yardstick()
    drawn = gathered = 0.0
    for index in range(HEADS):
        drawn += _seconds(index, resolution)
        gathered += work.seconds()
    return {
        "what": "heads",
        "resolution": resolution,
        "value": round(drawn / HEADS * 1000, 1),
        "unit": "CPU ms per head",
        "million_gathers": round(drawn / gathered, 2),
    }


def _seconds(index: int, resolution: int) -> float:
    started = time.process_time()
    render_head(0, index, resolution)
    return time.process_time() - started


class _Yardstick:
    """A million float32 gathered from 64 kB and scaled, in pieces of 10,000."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.values, self.places = rng.random(16_000).astype(np.float32), rng.integers(0, 16_000, 10_000)

    def seconds(self) -> float:
        started = time.process_time()
        for _ in range(100):
            self.values.take(self.places) * np.float32(0.5)
        return time.process_time() - started


def _whole_set() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        make_heads(Path(folder) / "set", count=SET_COUNT, resolution=SET_RESOLUTION, workers=SET_WORKERS)
        seconds = time.perf_counter() - started
    what = f"set of {SET_COUNT:,}, {SET_WORKERS} processes"
    return {"what": what, "resolution": SET_RESOLUTION, "value": round(seconds), "unit": "s"}


def _show(row: dict[str, object]) -> None:
    side = f"{row['resolution']}²" if "resolution" in row else ""
    ratio = f"  {row['million_gathers']} × a million gathers" if "million_gathers" in row else ""
    print(f"{row['what']:<42} {side:>4} {row['value']:>7} {row['unit']}{ratio}")


if __name__ == "__main__":
    measured = measure("--set" in sys.argv)
    if "--json" in sys.argv:
        print(json.dumps(measured, indent=2, ensure_ascii=False))
    else:
        for row in measured:
            _show(row)
        print(f"asked for: {MOST_MILLISECONDS} CPU ms per head of 64², {MOST_SECONDS} s per set")
