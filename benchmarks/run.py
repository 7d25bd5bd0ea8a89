"""Every benchmark that runs on a CPU, in one command.

python benchmarks/run.py             # about six minutes; writes benchmarks/results/cpu-DATE.json and .md
python benchmarks/run.py --quick     # tiny, writes nothing unless --out says where; for continuous integration
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import inspect
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
BENCHMARKS = ("training_step", "convolutions", "start_up", "data_path", "metrics_cost", "heads_cost")
QUICK: dict[str, Mapping[str, Any]] = {
    "training_step": {"quick": True, "memory": False},
    "start_up": {"repeats": 1},
    "data_path": {"packed": 2000, "files": 40, "repeats": 1},
}
"""settings of the benchmarks small enough for `--quick`"""


def measure(quick: bool, names: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    """Rows of every benchmark that is there."""
    sys.path.insert(0, str(HERE.parent))
    found = {}
    for name in names:
        if (quick and name not in QUICK) or not (HERE / f"{name}.py").exists():
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        function = importlib.import_module(f"benchmarks.{name}").measure
        possible = inspect.signature(function).parameters
        settings = {key: value for key, value in QUICK.get(name, {}).items() if quick and key in possible}
        found[name] = function(**settings)
    return found


def machine() -> dict[str, object]:
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load average": [round(value, 1) for value in load],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return platform.processor()
    return f"{names[0] if names else platform.processor()}, {'with' if 'bf16' in flags else 'without'} bfloat16"


def as_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def as_text(facts: Mapping[str, object], results: Mapping[str, Sequence[Mapping[str, object]]]) -> str:
    parts = ["`python benchmarks/run.py`: " + ", ".join(f"{name} {value}" for name, value in facts.items())]
    parts += [f"## {name}\n\n{as_table(rows)}" for name, rows in results.items()]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny, and nothing is written without --out")
    parser.add_argument("--only", nargs="+", default=BENCHMARKS, choices=BENCHMARKS, help="some of them")
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    flags = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    facts = machine()
    results = measure(flags.quick, flags.only)
    text = as_text(facts, results)
    print(text)
    folder = flags.out or (None if flags.quick else HERE / "results")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"cpu-{facts['date']}"
        stem.with_suffix(".md").write_text(text)
        stem.with_suffix(".json").write_text(json.dumps({"machine": facts, "results": results}, indent=2) + "\n")
        print(f"written: {stem}.md, {stem}.json", file=sys.stderr)


if __name__ == "__main__":
    main()
