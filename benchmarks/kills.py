"""Kills training in bulk and counts what is lost: nothing, or the exit code is 1.

    python benchmarks/kills.py                 # 100 kills -9 of each kind for each model
    python benchmarks/kills.py --kills 20      # a look; half an hour on two cores busy with five other jobs
    python benchmarks/kills.py --kills 20 --models progan --out kills_progan.json    # and the controls

Real runs of tiny models (tests/kill_harness.py) with a checkpoint in every iteration are killed

- at random times, uniformly over what is left of the run,
- exactly at a storage call of a save, its kind and place chosen at random, a write half done,
- inside an update of every phase and step, in every iteration: so they resume at the first and last iteration, at an
  epoch's wrap, within the warm-ups, within a decay, after each critic step,

and gone on with until they are done. Then a SHA-256 of their whole state (weights, average, moments, random states,
clock) must be that of a run that was never killed. `lost` counts kills after which a checkpoint that the log had called
saved could not be had; `unreadable`, files with a checkpoint's name that did not verify; `temp open`, kills within a
write. The last lines are controls: systems with a known fault, which must show.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from kill_harness import KNOWN, TINY, Tally, Trials, restless_is_known
from limner import __version__, checkpoint
from limner.latents import Labels
from limner.training.trainer import Trainer

RESULT = Path(__file__).parent / "results" / "kills.json"
COLUMNS = ("kills", "runs", "temp_open", "lost", "unreadable", "not_exact", "most_iterations_redone")
ITERATIONS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each kind for each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", choices=tuple(TINY), default=tuple(TINY), help="which; all by default")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    titles = [column.replace("_", " ").removeprefix("most iterations ") for column in COLUMNS]
    print(f"{'model':10} {'killed at':20} " + " ".join(f"{title:>10}" for title in [*titles, "seconds"]))
    began = time.monotonic()
    memory = Path("/dev/shm")
    with restless_is_known(), tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        rows = [row for name in chosen.models for row in kill_model(name, Path(place), chosen.kills, chosen.seed)]
        controls = kill_faulty_writers(Path(place), chosen.seed)
    minutes = (time.monotonic() - began) / 60
    print_calls(rows)
    write_result(chosen.out, rows, controls, minutes, chosen)
    bad = sum(row["lost"] + row["unreadable"] + row["not_exact"] for row in rows)
    blind = [row["kind"] for row in controls if row["lost"] + row["unreadable"] + row["not_exact"] == 0]
    print(f"\n{sum(row['kills'] for row in rows)} kills, {bad} faults, {minutes:.1f} minutes", *blind)
    return 1 if bad or blind else 0


def kill_model(name: str, root: Path, kills: int, seed: int) -> list[dict[str, Any]]:
    """The three kinds of kills for one model."""
    one, rng = Trials(name, root, ITERATIONS), random.Random(f"{name} {seed}")
    phases = KNOWN[name](one.config.model, 16, Labels()).phases()

    def everywhere(tally: Tally) -> None:
        for phase in phases:
            for step in range(1, phase.steps + 1):
                one.kill_in_every_iteration(phase.name, step, tally)

    kinds: dict[str, Callable[[Tally], None]] = {
        "random time": lambda tally: one.kill_at_random_times(kills, rng, tally),
        "storage call": lambda tally: one.kill_at_storage_calls(kills, rng, tally),
        "every iteration": everywhere,
    }
    return [measure(name, kind, work) for kind, work in kinds.items()]


def kill_faulty_writers(root: Path, seed: int) -> list[dict[str, Any]]:
    """The same kills with a fault built in, which the same counts must show."""

    def in_place(path: Path, temporary: Path, pieces: list[memoryview], disk: checkpoint.Disk) -> None:
        """As `torch.save` does: straight into the final file."""
        write = checkpoint.Disk()
        descriptor = write.create(path)
        for piece in pieces:
            disk.write(descriptor, piece)
        disk.close(descriptor)

    def without_average(self: Trainer, tensors: Any, facts: Any) -> None:
        average = {f"average.{name}": tensor for name, tensor in self.average.model.state_dict().items()}
        load_state(self, {**tensors, **average}, facts)

    write_durably, load_state = checkpoint._write_durably, Trainer.load_state
    (root / "controls").mkdir()
    one = Trials("dcgan", root / "controls", ITERATIONS)

    def storage(tally: Tally) -> None:
        with contextlib.suppress(AssertionError):  # a run that cannot go on at all
            one.kill_at_storage_calls(20, random.Random(seed), tally)

    checkpoint._write_durably = in_place
    rows = [measure("control", "written in place", storage)]
    checkpoint._write_durably = write_durably
    Trainer.load_state = without_average  # type: ignore[method-assign]
    rows.append(
        measure(
            "control", "average not resumed", lambda tally: one.kill_at_random_times(10, random.Random(seed), tally)
        )
    )
    Trainer.load_state = load_state  # type: ignore[method-assign]
    return rows


def measure(name: str, kind: str, work: Callable[[Tally], None]) -> dict[str, Any]:
    tally, began = Tally(), time.monotonic()
    work(tally)
    row = {"model": name, "kind": kind, **asdict(tally), "seconds": round(time.monotonic() - began, 1)}
    print(f"{name:10} {kind:20} " + " ".join(f"{row[column]:10}" for column in (*COLUMNS, "seconds")), flush=True)
    return row


def print_calls(rows: list[dict[str, Any]]) -> None:
    calls: dict[str, int] = {}
    for row in rows:
        for call, count in row["at"].items():
            calls[call] = calls.get(call, 0) + count
    print("\nkills by storage call: " + ", ".join(f"{call} {count}" for call, count in sorted(calls.items())))


def write_result(
    path: Path, rows: list[dict[str, Any]], controls: list[dict[str, Any]], minutes: float, chosen: argparse.Namespace
) -> None:
    total = {column: sum(row[column] for row in rows) for column in COLUMNS[:-1]}
    total[COLUMNS[-1]] = max(row[COLUMNS[-1]] for row in rows)
    models = f" --models {' '.join(chosen.models)}" if set(chosen.models) != set(TINY) else ""
    result = {
        "command": f"python benchmarks/kills.py --kills {chosen.kills} --seed {chosen.seed}{models}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "limner": __version__,
        },
        "minutes": round(minutes, 1),
        "total": total,
        "rows": rows,
        "controls": controls,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
