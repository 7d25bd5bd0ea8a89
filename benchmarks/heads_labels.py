"""Can the labels of the built-in heads be seen? A small CNN learns them at 64² and reads people it has never met.

python -m benchmarks.heads_labels            # 8,000 heads to learn from, 2,000 others to read; about ten CPU-minutes
python -m benchmarks.heads_labels --quick    # 2,000 and 500
python -m benchmarks.heads_labels --write    # also writes results/heads_labels.json and .md

Of each label: the majority's share, the network's accuracy, and how much of the way it got from the one to certainty,
(accuracy - majority) / (1 - majority). A published label must get half-way. Of each angle: the root mean square error
beside the angle's own standard deviation, in degrees.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import limner.heads
from limner.data.dataset import open_dataset
from limner.heads import make_heads

RESOLUTION = 64
YAW_RANGE = 45.0  # degrees
COUNTS = {False: (8_000, 2_000), True: (2_000, 500)}  # heads to learn from and to read, by --quick
EPOCHS = {False: 20, True: 24}
BATCH = 32
LEARNING_RATE = 1.5e-3
LARGEST_SHIFT = 3  # pixels
POSE_WEIGHT = 0.1  # each angle weighs about as much as a label
HALF_WAY = 0.5
RESULTS = Path(__file__).parent / "results" / "heads_labels.json"


@dataclass(frozen=True)
class Heads:
    """images (n, 3, r, r) uint8; labels (n, a) and pose (n, 3) in units of its standard deviation, float32."""

    images: Tensor
    labels: Tensor
    pose: Tensor

    def rows(self, chosen: Tensor | slice) -> Heads:
        return Heads(self.images[chosen], self.labels[chosen], self.pose[chosen])


class Reader(nn.Module):
    """Four convolutions of stride 2, each with batch normalization; then one linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = 3
        for width in (32, 64, 128, 128):
            layers += [nn.Conv2d(width_in, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            width_in = width
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.LazyLinear(outputs))

    def forward(self, images: Tensor) -> Tensor:
        floats = images.to(torch.float32).div(127.5).sub(1)
        return self.layers(floats.contiguous(memory_format=torch.channels_last))


def measure(quick: bool = False, heads: Path | None = None, seed: int = 0) -> list[dict[str, object]]:
    """One row per label and per angle."""
    learn, read = COUNTS[quick]
    with tempfile.TemporaryDirectory() as scratch:
        folder = _draw(heads or Path(scratch), learn + read)
        dataset = open_dataset(folder)
        images = torch.from_numpy(np.array(dataset.images(RESOLUTION))).permute(0, 3, 1, 2).contiguous()
        labels, pose = np.array(dataset.attributes()), np.array(dataset.pose())
    spread = torch.from_numpy(pose[:learn].std(0))
    whole = Heads(images, torch.from_numpy(labels).float(), torch.from_numpy(pose) / spread)
    held_out = whole.rows(slice(learn, None))
    outputs = _read(_train(whole.rows(slice(learn)), EPOCHS[quick], seed), held_out.images)
    rows = _label_rows(dataset.attribute_names, outputs, held_out.labels)
    return rows + _pose_rows(outputs[:, -3:] - held_out.pose, spread)


def _draw(parent: Path, count: int) -> Path:
    """The folder of `count` heads within `parent`; drawn unless they are there, by this very code."""
    digest = hashlib.sha256()
    for path in sorted(Path(limner.heads.__file__).parent.glob("*.*")):
        digest.update(path.read_bytes())
    folder = parent / f"heads-{count}-{digest.hexdigest()[:12]}"
    if not folder.exists():
        parent.mkdir(parents=True, exist_ok=True)
        make_heads(folder, count=count, resolution=RESOLUTION, yaw_range=YAW_RANGE, workers=2)
    return folder


def _train(heads: Heads, epochs: int, seed: int) -> Reader:
    torch.manual_seed(seed)
    network = Reader(heads.labels.shape[1] + 3)
    network(heads.images[:2])  # so that the last layer knows its size
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    steps = epochs * (len(heads.images) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
    network.train()
    for epoch in range(epochs):
        order = torch.randperm(len(heads.images))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            batch = _varied(heads.rows(order[first : first + BATCH]))
            outputs = network(batch.images)
            loss = F.binary_cross_entropy_with_logits(outputs[:, :-3], batch.labels)
            loss = loss + POSE_WEIGHT * F.smooth_l1_loss(outputs[:, -3:], batch.pose)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}", file=sys.stderr)
    return network


def _varied(heads: Heads) -> Heads:
    """The batch shifted by a few pixels, and half of the time mirrored, which turns yaw and roll about."""
    down, right = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (2,)).tolist()
    pad = LARGEST_SHIFT
    padded = F.pad(heads.images.float(), (pad, pad, pad, pad), mode="replicate")
    images = padded[..., pad + down : pad + down + RESOLUTION, pad + right : pad + right + RESOLUTION]
    if torch.rand(()) < 0.5:
        return Heads(images.flip(3), heads.labels, heads.pose * torch.tensor([-1.0, 1.0, -1.0]))
    return Heads(images, heads.labels, heads.pose)


@torch.no_grad()
def _read(network: Reader, images: Tensor) -> Tensor:
    """The mean of what the network reads in each image and in its mirror image."""
    network.eval()
    turned = torch.ones(1, 1)
    outputs = []
    for some in images.split(256):
        straight, mirrored = network(some), network(some.flip(3))
        turned = torch.ones(straight.shape[1])
        turned[[-3, -1]] = -1
        outputs.append((straight + mirrored * turned) / 2)
    return torch.cat(outputs)


def _label_rows(names: tuple[str, ...], outputs: Tensor, labels: Tensor) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for column, name in enumerate(names):
        truth = labels[:, column] > 0.5
        share = float(truth.double().mean())
        majority = max(share, 1 - share)
        accuracy = float(((outputs[:, column] > 0) == truth).double().mean())
        way = (accuracy - majority) / max(1 - majority, 1e-9)
        rows.append(
            {
                "what": name,
                "share": round(share, 4),
                "majority": round(majority, 4),
                "accuracy": round(accuracy, 4),
                "way": round(way, 3),
                "seen": way >= HALF_WAY,
            }
        )
    return rows


def _pose_rows(errors: Tensor, spread: Tensor) -> list[dict[str, object]]:
    """Errors are in units of `spread`, which is in radians."""
    rows: list[dict[str, object]] = []
    for angle, error, sd in zip(("yaw", "pitch", "roll"), errors.T, spread, strict=True):
        in_degrees = math.degrees(float(error.square().mean().sqrt() * sd))
        rows.append({"what": angle, "error": round(in_degrees, 2), "sd": round(math.degrees(float(sd)), 2)})
    return rows


def as_table(rows: list[dict[str, object]]) -> str:
    """The rows as two tables in Markdown."""
    lines = ["| label | share | majority | accuracy | of the way | half-way |", "|---|---:|---:|---:|---:|---|"]
    lines += [
        f"| {row['what']} | {row['share']:.3f} | {row['majority']:.3f} | {row['accuracy']:.3f} | {row['way']:.2f} "
        f"| {'yes' if row['seen'] else 'NO'} |"
        for row in rows
        if "way" in row
    ]
    lines += ["", "| angle | error (rms) | standard deviation |", "|---|---:|---:|"]
    lines += [f"| {row['what']} | {row['error']:.1f}° | {row['sd']:.1f}° |" for row in rows if "error" in row]
    return "\n".join(lines) + "\n"


def _write(rows: list[dict[str, object]], quick: bool) -> None:
    learn, read = COUNTS[quick]
    head = (
        f"# What a small CNN reads in the built-in heads\n\n"
        f"Learnt from {learn:,} heads of {RESOLUTION}² pixels, yaw within ±{YAW_RANGE:.0f}°, and read on {read:,} "
        f"other people. `python -m benchmarks.heads_labels --write` prints and writes this.\n\n"
    )
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    RESULTS.with_suffix(".md").write_text(head + as_table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer heads")
    parser.add_argument("--heads", type=Path, help="folder to keep the drawn heads in")
    parser.add_argument("--seed", type=int, default=0, help="of the network and of its batches")
    parser.add_argument("--threads", type=int, default=1, help="that train the network; 1 repeats to the last digit")
    parser.add_argument("--write", action="store_true", help="write the results' files")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    started = time.monotonic()
    rows = measure(arguments.quick, arguments.heads, arguments.seed)
    print(as_table(rows))
    missed = [str(row["what"]) for row in rows if row.get("seen") is False]
    print(f"labels: {sum('way' in row for row in rows)}; short of half-way: {', '.join(missed) or 'none'}")
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    if arguments.write:
        _write(rows, arguments.quick)


if __name__ == "__main__":
    main()
