"""How long the command line takes to answer, against what Python and PyTorch take by themselves.

python benchmarks/start_up.py
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

COMMANDS: dict[str, tuple[str, ...]] = {
    "python -c pass": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
    "limner --help": ("-m", "limner", "--help"),
    "limner data --help": ("-m", "limner", "data", "--help"),
    "import limner": ("-c", "import limner"),
    "limner models": ("-m", "limner", "models"),
}


def measure(repeats: int = 5) -> list[dict[str, object]]:
    """One row per command: "what", "seconds" of wall and "cpu_seconds" of processor time, medians."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, words in COMMANDS.items():
            taken[name].append(_seconds(words))
    rows: list[dict[str, object]] = []
    for name, both in taken.items():
        wall, cpu = (round(statistics.median(column), 3) for column in zip(*both, strict=True))
        rows.append({"what": name, "seconds": wall, "cpu_seconds": cpu})
    return rows


def _seconds(words: Sequence[str]) -> tuple[float, float]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    rows = measure()
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['what']:24}{row['seconds']:>8} s   {row['cpu_seconds']:>8} CPU s")
