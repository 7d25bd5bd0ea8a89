"""Plans beside what then happened: memory, time and disk of a few short runs on the built-in heads at 32².

    python benchmarks/plan_accuracy.py            # about five minutes on two quiet cores
    python benchmarks/plan_accuracy.py --only dcgan

Every run is `limner train … --preflight on` in a process of its own. From its log: what the `plan` event predicted, and
what the ticks and the folder say. Ratios are predicted / actual: above 1 the plan asked for more than was needed. The
time of a tick that lies in two stages is not compared by stage.
The peak of a process counts the pages of the data set that it has looked at, which are the system's to take back:
`memory_ratio_without_images` leaves them out. On a machine that others use meanwhile, times say as much of them:
`load` is how many processes wanted a core when a run began and when it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from limner import __version__
from limner.heads import default_heads
from limner.training.log import read_log

RESULT = Path(__file__).parent / "results" / "plan_accuracy.json"
_SHORT = ["--sample-kimg=1", "--tick-kimg=0.1", "--metrics", "--preflight=on", "--device=cpu", "--resolution=32"]
_GROWING = ["--stable-kimg=1", "--fade-kimg=0.5", "--fmap-base=512", "--fmap-max=32", "--latent-dim=32", *_SHORT]
RUNS = {
    "progan": ["progan", "--batch-size=16", *_GROWING],
    "progan in parts": ["progan", "--batch-size=64", "--micro-batch=16", *_GROWING],
    "dcgan": ["dcgan", "--width=32", "--kimg=6", "--batch-size=32", *_SHORT],
    "wgan-gp": ["wgan-gp", "--width=32", "--kimg=4", *_SHORT],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=RUNS, nargs="*", default=list(RUNS))
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    default_heads(32, 10000)  # rendered before the first run's clock
    rows = [measure(name) for name in chosen.only]
    for row in rows:
        memory = f"{row['memory_ratio']:.2f} ({row['memory_ratio_without_images']:.2f} without images)"
        rest = f"checkpoint {row['checkpoint_ratio']:.3f}, disk {row['disk_ratio']:.2f}"
        print(f"{row['run']:16} predicted / actual: memory {memory}, time {row['time_ratio']:.2f}, {rest}")
    facts = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "limner": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(name: str) -> dict[str, Any]:
    """One run, and its plan beside it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        before = os.getloadavg()[0]
        words = [sys.executable, "-m", "limner", "train", *RUNS[name], f"--out={folder}"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        events = read_log(folder / "log.jsonl")
        saved = max(path.stat().st_size for path in (folder / "checkpoints").iterdir())
        written = {part: size_of(folder / part) for part in ("", "checkpoints", "samples")}
    plan = next(event for event in events if event["event"] == "plan")
    ticks = [event for event in events if event["event"] == "tick"]
    trained = sum((s["stop"] - s["start"]) / 1000 * s["seconds_per_kimg"] for s in plan["stages"])
    memory = max(tick["memory_mb"] for tick in ticks)
    sides = {stage["resolution"] for stage in plan["stages"]}
    mapped = sum(default_heads(32, 10000).joinpath(f"images-{side:04d}.npy").stat().st_size for side in sides)
    return {
        "run": name,
        "command": " ".join(["limner train", *RUNS[name]]),
        "load": [round(before, 2), round(os.getloadavg()[0], 2)],
        "memory_mb": {"predicted": plan["memory_mb"], "actual": memory},
        "memory_ratio": round(plan["memory_mb"] / memory, 3),
        "mapped_images_mb": round(mapped / 1e6, 1),
        "memory_ratio_without_images": round(plan["memory_mb"] / (memory - mapped / 1e6), 3),
        "training_seconds": {"predicted": round(trained, 1), "actual": ticks[-1]["seconds"]},
        "time_ratio": round(trained / ticks[-1]["seconds"] * ticks[-1]["images"] / plan["stages"][-1]["stop"], 3),
        "checkpoint_ratio": round(plan["checkpoint_mb"] * 1e6 / saved, 4),
        "disk_mb": {"predicted": plan["disk_mb"], "actual": round(written[""] / 1e6, 1)},
        "of_it_mb": {part: round(count / 1e6, 2) for part, count in written.items() if part},
        "disk_ratio": round(plan["disk_mb"] * 1e6 / written[""], 3),
        "stages": [stage_row(stage, ticks) for stage in plan["stages"]],
    }


def size_of(folder: Path) -> int:
    """Bytes of all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def stage_row(stage: dict[str, Any], ticks: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds per kimg and memory of one stage, as planned and from the ticks that lie within it."""
    inside = [t for t in ticks if stage["start"] < t["images"] <= stage["stop"]]
    images = sum(b["images"] - a["images"] for a, b in pairwise(inside))
    seconds = inside[-1]["seconds"] - inside[0]["seconds"] if len(inside) > 1 else 0.0
    return {
        "stage": f"{stage['resolution']}²{' fading in' if stage['fading'] else ''}",
        "scaled": stage["scaled"],
        "micro_batch": stage["micro_batch"],
        "seconds_per_kimg": {
            "predicted": stage["seconds_per_kimg"],
            "actual": round(seconds / images * 1000, 3) if images else None,
        },
        "memory_mb": {"predicted": stage["memory_mb"], "actual": inside[-1]["memory_mb"] if inside else None},
    }


if __name__ == "__main__":
    sys.exit(main())
