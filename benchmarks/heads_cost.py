"""What the built-in heads cost: CPU milliseconds per head, one process, one thread.

python -m benchmarks.heads_cost          # prints a table; under two minutes
python -m benchmarks.heads_cost --json   # prints what results/heads_cost.json holds
"""

from __future__ import annotations

import json
import sys
import time

from limner.heads import render_head

HEADS = 200


def measure() -> list[dict[str, object]]:
    """CPU milliseconds per head at each resolution, shadows of every haircut already worked out."""
    for index in range(HEADS):
        render_head(0, index, 16)
    return [
        {"what": "heads", "resolution": side, "value": _milliseconds(side), "unit": "CPU ms per head"}
        for side in (32, 64, 128, 256)
    ]


def _milliseconds(resolution: int) -> float:
    started = time.process_time()
    for index in range(HEADS):
        render_head(0, index, resolution)
    return round((time.process_time() - started) / HEADS * 1000, 1)


if __name__ == "__main__":
    rows = measure()
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['resolution']:>4}²  {row['value']:6} {row['unit']}")
