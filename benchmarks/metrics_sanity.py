"""Does every metric move the right way when images get worse? Real against real, then `benchmarks.faults` one by one.

    python -m benchmarks.metrics_sanity    # fifteen CPU-minutes; writes benchmarks/results/metrics_sanity.{json,md}
    python -m benchmarks.metrics_sanity --people 80 --kimg 1 --out /tmp/sanity      # to try it

The images are built-in heads at 64². The reference is 1,000 people in two views each, the "fakes" are 1,000 others in
two views, as they are and with each fault, so that whatever moves was moved by the fault. How far a metric moves by
chance is told by four further divisions of all 2,000 people into two halves: a fault counts as seen where the number
leaves the range of these by more than the range's own width.

The probe is trained on other heads (another seed) first. Metrics are measured by `limner.metrics.evaluate`, as for a
model, on 2,000 images of each set, or on fewer where a CPU takes long: `COUNTS`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from benchmarks.faults import FAULTS, SIDE, Fault, Heads, Pictures
from torch import Tensor

from limner import __version__
from limner.data.dataset import Dataset, open_dataset
from limner.heads.make import RENDERER_VERSION, make_heads
from limner.metrics.attribute_accuracy import AttributeAccuracy
from limner.metrics.copies import CopyRate, shrink
from limner.metrics.evaluate import compare_images
from limner.metrics.extractors import open_extractor
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.probe.lessons import open_lessons
from limner.metrics.probe.verb import train_probe
from limner.types import Images

VIEWS = 4
OF_FEATURES = ("fd", "kd", "precision", "recall", "density", "coverage")
COUNTS = {"swd": 1000, "ms_ssim": 2000, "probe": 2000, "efficientnet-lite0": 800, "copy_rate": 2000}
"""images of each set, at most"""
HELD_OUT = 500
"""of the probe's heads, for the copy rate"""
DIVISIONS = 4
Found: TypeAlias = dict[str, Any]
"""of a metric: "clean", the value of real against real; "low" and "high", chance; "faults", by name; "images" """


class Remembered(Extractor):
    """An extractor that looks at no image twice."""

    def __init__(self, network: Extractor) -> None:
        self.name, self.sha256, self.width, self.resize = network.name, network.sha256, network.width, network.resize
        self._network = network
        self._known: dict[bytes, Tensor] = {}

    def of_bytes(self, images: Tensor) -> Features:
        keys = [image.numpy().tobytes() for image in images]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if new:
            found = self._network.of_bytes(images[new]).features
            self._known |= {keys[place]: row.clone() for place, row in zip(new, found, strict=True)}
        return Features(torch.stack([self._known[key] for key in keys]))

    def of_floats(self, images: Images) -> Tensor:
        return self._network.of_floats(images)


class TrainingAndHeldOut:
    """The reference as a training split and other people as a validation split: what the copy rate looks at."""

    def __init__(self, training: Pictures, held_out: Pictures) -> None:
        self._images = torch.cat([training, held_out])
        self._training = len(training)

    def indices(self, split: str) -> np.ndarray:
        spans = {"train": (0, self._training), "valid": (self._training, len(self._images)), "test": (0, 0)}
        return np.arange(*spans[split])

    def read(self, resolution: int, indices: np.ndarray) -> np.ndarray:
        return shrink(self._images[torch.from_numpy(indices)], resolution).numpy()


def draw(folder: Path, people: int) -> tuple[Heads, Dataset]:
    """The four sets of pictures, and the labelled set that the probe learns from."""
    make_heads(folder / "heads", count=2 * people * VIEWS, resolution=SIDE, views=VIEWS)
    make_heads(folder / "lessons", count=3 * people, resolution=SIDE, views=2, seed=1)
    data = open_dataset(folder / "heads")
    images = torch.from_numpy(np.array(data.images(SIDE))).unflatten(0, (2 * people, VIEWS))
    attributes = data.attributes()
    if attributes is None:
        raise RuntimeError("heads without labels")
    male = torch.from_numpy(attributes[::VIEWS, data.attribute_names.index("Male")].astype(bool))
    others = images[people:]
    heads = Heads(
        reference=images[:people, :2].flatten(0, 1),
        fakes=others[:, :2].flatten(0, 1),
        half=others[: people // 2].flatten(0, 1),
        men=others[male[people:]].flatten(0, 1)[: 2 * people],
    )
    return heads, open_dataset(folder / "lessons")


def measure(name: str, reals: Pictures, fakes: Pictures, network: Extractor | None) -> dict[str, float]:
    """The metrics of one instrument, by name."""
    metrics = OF_FEATURES if network else (name,)
    count = min(COUNTS[name], len(reals), len(fakes))
    cards = compare_images(reals[:count], fakes[:count], metrics=metrics, extractor=network, seed=0)
    return {card.metric: card.value for card in cards}


def divisions(heads: Heads, count: int) -> list[tuple[Pictures, Pictures]]:
    """Reference and fakes, and four random divisions of all their people into two halves."""
    reals, fakes = heads.reference[:count], heads.fakes[:count]
    people = torch.cat([reals, fakes]).unflatten(0, (-1, 2))
    found = [(reals, fakes)]
    for seed in range(DIVISIONS):
        order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))
        first, second = people[order].flatten(0, 1).split(len(reals))
        found.append((first, second))
    return found


def by_instrument(name: str, heads: Heads, network: Extractor | None) -> dict[str, Found]:
    """metric → {"clean": …, "low": …, "high": …, "faults": {fault: value}} of one instrument."""
    count = min(COUNTS[name], len(heads.reference))
    chance = [measure(name, reals, fakes, network) for reals, fakes in divisions(heads, count)]
    faulty = {fault.name: measure(name, heads.reference, fault.make(heads), network) for fault in FAULTS}
    return {
        metric: {
            "images": count,
            "clean": chance[0][metric],
            "low": min(values[metric] for values in chance),
            "high": max(values[metric] for values in chance),
            "faults": {fault: values[metric] for fault, values in faulty.items()},
        }
        for metric in chance[0]
    }


def copies(heads: Heads, held_out: Pictures) -> dict[str, Found]:
    """The copy rate of the fakes in four quarters, which tell chance, and of each fault."""
    data = TrainingAndHeldOut(heads.reference, held_out)

    def rate(images: Pictures) -> float:
        metric = CopyRate(data, resolution=SIDE, seed=0)
        metric.add_fakes(images)
        return metric.result().value

    chance = [rate(part) for part in heads.fakes.chunk(DIVISIONS)]
    faults = {fault.name: rate(fault.make(heads)) for fault in FAULTS}
    clean = rate(heads.fakes)
    found = {"clean": clean, "low": min(chance), "high": max(chance), "images": len(heads.fakes), "faults": faults}
    return {"copy_rate": found}


def moved(value: float, low: float, high: float) -> int:
    """+1 or -1 where a value left the range by more than its width, else 0."""
    width = high - low
    return 1 if value > high + width else -1 if value < low - width else 0


def verdict(fault: Fault, metric: str, found: Found) -> str:
    """ "right", "wrong" or "unseen", and for what nobody expects to move "still" or "moved"."""
    direction = moved(found["faults"][fault.name], found["low"], found["high"])
    expected = 1 if metric in fault.up else -1 if metric in fault.down else 0
    if not expected:
        return "moved" if direction else "still"
    return "right" if direction == expected else "wrong" if direction == -expected else "unseen"


def obedience(probe: ProbeExtractor, data: Dataset) -> dict[str, float]:
    """attribute_accuracy of pictures with their own labels, and with those of the next picture: held-out heads."""
    rows = data.indices("test")
    labels = data.attributes()
    if labels is None:
        raise RuntimeError("heads without labels")
    images = torch.from_numpy(np.array(data.read(SIDE, rows)))
    names = tuple(figure.name for figure in probe.accuracy.attributes if figure.reads_well)
    if not names:
        return {}
    columns = [data.attribute_names.index(name) for name in names]
    own = torch.from_numpy(labels[rows][:, columns].astype(np.float32))
    found = {"attributes": float(len(names)), "images": float(len(rows))}
    for name, asked in (("own labels", own), ("labels of another person", own.roll(2, 0))):
        metric = AttributeAccuracy(probe, names)
        metric.add(images, asked)
        found[name] = metric.result().value
    return found


MARKS = {"right": "✓", "wrong": "✗", "unseen": "·", "still": "", "moved": "~"}


def as_markdown(result: dict[str, Any]) -> str:
    """The tables, one an instrument, with a mark for every fault."""
    about, tables = result["about"], result["metrics"]
    lines = [
        "# Does every metric move the right way?",
        "",
        f"`python -m benchmarks.metrics_sanity`, {about['date']}, {about['cpu']}, {about['cpu_seconds']} CPU seconds, "
        f"limner {about['limner']}, renderer {about['renderer']}.",
        "",
        "✓ moved as it should · `·` should have moved and did not · ✗ moved the other way · ~ moved where nothing was",
        "expected · no mark: did not move, and need not. Chance: the range over five divisions of reals into halves.",
        "",
    ]
    for title, metrics in tables.items():
        lines += _table(title, metrics)
    if found := result["attribute_accuracy"]:
        lines += [
            f"`attribute_accuracy` of {found['images']:.0f} held-out heads and {found['attributes']:.0f} attributes: "
            f"{found['own labels']:.3f} with their own labels, {found['labels of another person']:.3f} with those of "
            "another person.",
            "",
        ]
    return "\n".join(lines)


def _table(title: str, metrics: dict[str, Found]) -> list[str]:
    lines = [f"## {title}", "", "| | " + " | ".join(metrics) + " |", "|---|" + "---|" * len(metrics)]
    lines.append("| images of each set | " + " | ".join(f"{found['images']:,}" for found in metrics.values()) + " |")
    lines.append("| real against real | " + " | ".join(f"{found['clean']:.4g}" for found in metrics.values()) + " |")
    chance = " | ".join(f"{found['low']:.4g} to {found['high']:.4g}" for found in metrics.values())
    lines.append(f"| chance | {chance} |")
    for fault in FAULTS:
        cells = [
            f"{found['faults'][fault.name]:.4g} {MARKS[verdict(fault, metric, found)]}".strip()
            for metric, found in metrics.items()
        ]
        lines.append(f"| {fault.name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def cpu_seconds() -> float:
    """Of this process and of those it waited for, which draw the heads."""
    return sum(os.times()[:4])


def run(people: int, kimg: float) -> dict[str, Any]:
    """Everything, drawn and trained afresh."""
    torch.set_num_threads(1)
    began = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        heads, lessons = draw(Path(folder), people)
        path = Path(folder) / "probe.safetensors"
        train_probe(open_lessons(lessons, SIDE, 0), path, kimg=kimg, mirror=True, seed=0, device=torch.device("cpu"))
        probe = ProbeExtractor(path)
        held_out = torch.from_numpy(np.array(lessons.images(SIDE)[:HELD_OUT]))
        metrics = {
            "pixels": by_instrument("swd", heads, None)
            | by_instrument("ms_ssim", heads, None)
            | copies(heads, held_out),
            "probe": by_instrument("probe", heads, Remembered(probe)),
            "efficientnet-lite0": by_instrument(
                "efficientnet-lite0", heads, Remembered(open_extractor("efficientnet-lite0"))
            ),
        }
        obeys = obedience(probe, lessons)
    about = {
        "people": people,
        "probe_kimg": kimg,
        "limner": __version__,
        "renderer": RENDERER_VERSION,
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "cpu_seconds": round(cpu_seconds() - began),
    }
    verdicts = {
        title: {m: {f.name: verdict(f, m, found) for f in FAULTS} for m, found in some.items()}
        for title, some in metrics.items()
    }
    return {"about": about, "metrics": metrics, "verdicts": verdicts, "attribute_accuracy": obeys}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write both files, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--kimg", type=float, default=40.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "metrics_sanity")
    chosen = parser.parse_args(arguments)
    result = run(chosen.people, chosen.kimg)
    chosen.out.with_suffix(".json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    chosen.out.with_suffix(".md").write_text(as_markdown(result))
    print(as_markdown(result))


if __name__ == "__main__":
    main()
