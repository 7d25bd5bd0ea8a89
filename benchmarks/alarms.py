"""Which alarms the runs in some folders raise, and how near to one they came.

    python benchmarks/alarms.py runs/*                     # a line for each run; the exit code is 1 if any raised one
    python benchmarks/alarms.py runs/* --out alarms.json

Each run's log is heard again from its beginning by `limner.training.alarms` as it is now, whatever was said at the
time, so that bounds can be judged on runs made before them. `nearest` is the watch that came nearest to an alarm: 30 %
is bad readings in a row for 3 of the 10 ticks, or of the 10 kimg, that make one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limner.training.alarms import Alarms
from limner.training.log import read_log


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, or of such folders")
    parser.add_argument("--out", type=Path, help="also write the rows there, as JSON")
    chosen = parser.parse_args(words)
    runs = sorted({log.parent for folder in chosen.runs for log in folder.rglob("log.jsonl")})
    rows = [hear_again(run) for run in runs]
    for row in rows:
        print_row(row)
    raised = sum(len(row["alarms"]) for row in rows)
    print(f"{len(rows)} runs, {sum(row['ticks'] for row in rows)} ticks, {raised} alarms")
    if chosen.out:
        chosen.out.write_text(json.dumps({"runs": rows}, indent=2) + "\n")
    return 1 if raised or not rows else 0


def hear_again(run: Path) -> dict[str, Any]:
    """A run's model, its length, the alarms it raises, and how near to one each watch came."""
    try:
        config = json.loads((run / "config.json").read_text())
    except FileNotFoundError:
        config = {}
    events = [event for event in read_log(run / "log.jsonl") if event["event"] in ("tick", "sample")]
    alarms, said = Alarms(config.get("model", {})), []
    nearest: dict[str, float] = {}
    for event in events:
        said += [{"images": event["images"], **line} for line in alarms.hear(event)]
        for name, share in alarms.nearness().items():
            nearest[name] = max(share, nearest.get(name, 0.0))
    return {
        "run": run.name,
        "model": config.get("model_name", ""),
        "images": events[-1]["images"] if events else 0,
        "ticks": sum(event["event"] == "tick" for event in events),
        "sheets": sum(event["event"] == "sample" and "diversity" in event for event in events),
        "alarms": [line for line in said if line["event"] == "warning"],
        "nearest": {name: round(share, 3) for name, share in nearest.items() if share},
    }


def print_row(row: dict[str, Any]) -> None:
    near = max(row["nearest"].items(), key=lambda item: item[1], default=None)
    nearest = f"nearest: {near[0]} {100 * near[1]:.0f} %" if near else "no two bad readings in a row"
    length = f"{row['images'] / 1000:8.1f} kimg, {row['sheets']:4} sheets"
    print(f"{row['run']:32} {row['model']:8} {length} {len(row['alarms']):3} alarms   {nearest}")
    for line in row["alarms"]:
        print(f"    {line['images'] / 1000:g} kimg: {line['message']}")


if __name__ == "__main__":
    sys.exit(main())
