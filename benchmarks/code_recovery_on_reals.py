"""What code recovery says where the answer is known: real images of the test split, with labels for codes.

    limner data heads heads32 --count 10000 --resolution 32
    limner data probe heads32
    python -m benchmarks.code_recovery_on_reals heads32 [--out benchmarks/results/code_recovery_on_reals.json]

A perfect model would show what its codes say, as real images show their labels. So the labels are the codes: as they
are, one in five wrong, all turned round, under each other's names, and of other people.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.data.dataset import open_dataset
from limner.metrics.code_recovery import CodeRecovery
from limner.metrics.codes import Code
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.probe.file import FILE_NAME

SHOWN = ("chance", "probe", "others", "agreement", "own_name", "matched", "chance_matched")


def rigged(labels: Tensor) -> dict[str, Tensor]:
    """What the codes are → codes [n, a], of labels [n, a]."""
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(labels.shape, generator=generator) < 0.2
    shift = 1 + int(torch.randint(labels.shape[1] - 1, (), generator=generator))
    return {
        "the labels": labels,
        "one in five wrong": torch.where(wrong, 1 - labels, labels),
        "turned round": 1 - labels,
        "under each other's names": labels.roll(shift, dims=1),
        "of other people": labels[torch.randperm(len(labels), generator=generator)],
    }


def measure(folder: Path) -> dict[str, object]:
    """The figures of every way, and the largest difference of one code's share from what its probe's figures say."""
    data = open_dataset(folder)
    probe = ProbeExtractor(folder / FILE_NAME)
    rows = data.indices("test")
    labels = torch.from_numpy(np.asarray(data.attributes())[rows].astype(np.int64))
    read = probe.read(torch.from_numpy(np.array(data.read(probe.record.resolution, rows)))).attributes
    codes = [Code(name, "named", 2) for name in data.attribute_names]
    found: dict[str, dict[str, float]] = {}
    apart = 0.0
    for name, values in rigged(labels).items():
        meter = CodeRecovery(probe, codes)
        meter.add_readings(read, values)
        result = meter.result()
        found[name] = {"value": result.value} | {key: result.values[key] for key in SHOWN}
        if values is labels:
            apart = max(abs(result.values[figure.name] - figure.told_share) for figure in meter.figures)
    return {
        "dataset": data.name,
        "images": len(rows),
        "codes": found,
        "largest_difference_from_the_probes_figures": apart,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a labelled dataset with a probe")
    parser.add_argument("--out", type=Path, help="write JSON there")
    options = parser.parse_args()
    measured = measure(options.dataset)
    text = json.dumps(measured, indent=1, ensure_ascii=False) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
