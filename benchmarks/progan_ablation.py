"""What each of ProGAN's ideas is worth: the rows of the paper's table 1, and each idea taken away alone.

    python benchmarks/progan_ablation.py --out DIR    # an hour of one core; say it again to go on
    python benchmarks/progan_ablation.py --out DIR --seeds 3 --kimg 200 --width 128    # a better one

Every row is a run of `limner train progan` on the built-in heads at 32², unconditional, with the same number of images,
measured by `limner evaluate`. The table, its numbers and a picture with the same seeds of every row are written to
`--result`; training's CPU seconds stand beside them, since growing makes equal images cost less.

The paper's table 1 adds one change after another, from (a) to (h). Of these

- (a) the WGAN-GP baseline, (b) progressive growing and (c) a small minibatch are run with the learning rate and β2 of
  WGAN-GP's algorithm 1 (arXiv:1704.00028), and (d) has ProGAN's. The paper's (a) to (c) also normalize batches and
  layers and take them out in (d), where limner's ProGAN has neither at any row: so (c) is not the failure it is there.
- (e*) is minibatch discrimination, which limner does not have: left out.
- (e) minibatch standard deviation, (f) equalized learning rate and (g) pixelwise normalization are the paper's.
- (h) is (g) trained until it converged. Here it is (g) for three times the images: no more is claimed.

`without …` is (g) without one idea alone, which (a) to (g) do not tell. Without an equalized learning rate Adam's steps
are larger in comparison with the weights, by 1 / He's constant (4 to 12 here): hence a row at a third of the rate.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.progan_ablation_table import Measured, write_result

RESULT = Path(__file__).parent / "results" / "progan_ablation"
FACES = "0-15"
METRICS = ("swd", "ms_ssim", "fd", "precision", "recall")


@dataclass(frozen=True)
class Row:
    """A run: its name in the table and what differs from the whole model."""

    key: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    longer: int = 1
    """times the images"""
    rate: float = 1.0
    """times the learning rate"""


NO_GROWTH = {"grow": False}
NO_STD = {"minibatch_std": False}
NO_SCALE = {"equalized": False}
NO_NORM = {"pixel_norm": "none"}
LARGE = {"batch_size": 64}
EARLY = {**NO_STD, **NO_SCALE, **NO_NORM}
WGAN_GP = {"learning_rate": 1e-4, "beta2": 0.9}
ROWS = (
    Row("g", "(g) + pixelwise normalization: all of it"),
    Row("no-equalized", "without equalized learning rate", NO_SCALE),
    Row("no-std", "without minibatch standard deviation", NO_STD),
    Row("f", "(f) + equalized learning rate; without pixelwise normalization", NO_NORM),
    Row("no-growth", "without growing", NO_GROWTH),
    Row("large", "without the small minibatch (64)", LARGE),
    Row("e", "(e) + minibatch standard deviation", {**NO_SCALE, **NO_NORM}),
    Row("d", "(d) + revised training parameters", EARLY),
    Row("c", "(c) + small minibatch (16)", {**EARLY, **WGAN_GP}),
    Row("b", "(b) + progressive growing", {**EARLY, **WGAN_GP, **LARGE}),
    Row("a", "(a) WGAN-GP's loss and rate, batches of 64", {**EARLY, **WGAN_GP, **LARGE, **NO_GROWTH}),
    Row("no-equalized-slow", "without equalized learning rate, a third of the rate", NO_SCALE, rate=1 / 3),
    Row("h", "(h) three times as long", longer=3),
)
"""in the order in which they are run: what the question is about comes first"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; gone on with if it is there")
    parser.add_argument("--data", type=Path, help="a dataset of 32²; without one 10,000 heads are drawn into --out")
    parser.add_argument("--kimg", type=float, default=16.0, help="thousands of images a run (16)")
    parser.add_argument("--seeds", type=int, default=1, help="runs a row (1)")
    parser.add_argument("--width", type=int, default=32, help="channels up to 16², half of it at 32² (32)")
    parser.add_argument("--learning-rate", type=float, default=0.003, help="of the rows from (d) on (0.003)")
    parser.add_argument("--rows", nargs="+", choices=[row.key for row in ROWS], help="only these")
    parser.add_argument("--result", type=Path, default=RESULT, help="path of the .md, .json and .jpg, without a suffix")
    chosen = parser.parse_args()
    data = chosen.data or prepare(chosen.out)
    measured = []
    for row in ROWS:
        if chosen.rows and row.key not in chosen.rows:
            continue
        for seed in range(chosen.seeds):
            folder = chosen.out / f"{row.key}-{seed}"
            train(row, data, folder, seed, chosen)
            measured.append(Measured(row.key, row.title, folder, float((folder / "cpu_seconds").read_text())))
        write_result(chosen.result, measured, command_of(chosen))
    return 0


def prepare(out: Path) -> Path:
    """10,000 heads and the probe that compares features; made once."""
    data = out / "heads-32"
    if not (data / "dataset.json").exists():
        limner("data", "heads", data, "--resolution", 32, "--count", 10000)
    if not (data / "probe.safetensors").exists():
        limner("data", "probe", data, "--kimg", 100)
    return data


def train(row: Row, data: Path, folder: Path, seed: int, chosen: argparse.Namespace) -> None:
    """Begin a row's run or go on with it, measure it and draw its faces: each once."""
    if not (folder / "trained").exists():
        words = ["resume", folder] if (folder / "config.json").exists() else flags(row, data, folder, seed, chosen)
        before = children_seconds()
        try:
            limner(*words)
        finally:
            note_seconds(folder, children_seconds() - before)
        (folder / "trained").touch()
    if not (folder / "measured").exists():
        limner("evaluate", folder, "--metrics", *METRICS, "--extractor", "probe", "--device", "cpu")
        (folder / "measured").touch()
    if not (folder / "faces.png").exists():
        limner("sample", folder, "--seeds", FACES, "--columns", 16, "--out", folder / "faces.png", "--device", "cpu")


def flags(row: Row, data: Path, folder: Path, seed: int, chosen: argparse.Namespace) -> list[Any]:
    """The whole model grows over seven eighths of the images, of equal length each: alone and fading in."""
    part = chosen.kimg * row.longer / 8
    settings = {
        "resolution": 32,
        "attributes": "none",
        "kimg": chosen.kimg * row.longer,
        "stable_kimg": part,
        "fade_kimg": part,
        "batch_size": 16,
        "fmap_base": 8 * chosen.width,
        "fmap_max": chosen.width,
        "latent_dim": 64,
        "learning_rate": chosen.learning_rate * row.rate,
        "ema_half_life_kimg": 1.0,
        "sample_kimg": part,
        "checkpoint_kimg": part,
        "tick_kimg": 0.2,
        "seed": seed,
        "device": "cpu",
        **row.settings,
    }
    words = [word for name, value in settings.items() for word in as_flag(name, value)]
    return ["train", "progan", "--data", data, "--out", folder, *words, "--metrics"]


def as_flag(name: str, value: Any) -> list[Any]:
    flag = name.replace("_", "-")
    return [f"--no-{flag}"] if value is False else [f"--{flag}", value]


def limner(*words: Any) -> None:
    """The command in a process of its own; its errors end this one."""
    subprocess.run([sys.executable, "-m", "limner", *map(str, words)], check=True)


def children_seconds() -> float:
    """CPU seconds of all processes started and ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def note_seconds(folder: Path, seconds: float) -> None:
    """Add to what the row's training has taken so far."""
    path = folder / "cpu_seconds"
    before = float(path.read_text()) if path.exists() else 0.0
    path.write_text(f"{before + seconds:.1f}")


def command_of(chosen: argparse.Namespace) -> str:
    words = [f"--kimg {chosen.kimg:g}", f"--seeds {chosen.seeds}", f"--width {chosen.width}"]
    words += ["--rows", *chosen.rows] if chosen.rows else []
    return f"python benchmarks/progan_ablation.py --out DIR {' '.join(words)} --learning-rate {chosen.learning_rate:g}"


if __name__ == "__main__":
    sys.exit(main())
