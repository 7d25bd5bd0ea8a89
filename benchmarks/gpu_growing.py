"""What a CUDA GPU makes of ProGAN, in one command: right numbers through the growth, speed and memory of every level, a
kill across growth steps, and a real training with the discriminator's margin.

    python benchmarks/gpu_growing.py OUT                # about 25 minutes; small files in the folder OUT
    python benchmarks/gpu_growing.py OUT --minutes 2    # a shorter training

Exits with 2 where there is no CUDA device, with 1 when a check fails (all others still run).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.gpu import Rows, kill_and_resume, make_trainer, measure, parse_flags, training
from benchmarks.training_step import gflop, make_dataset

from limner.training.trainer import Trainer

TINY: dict[str, Any] = {"fmap_base": 256, "fmap_max": 16, "latent_dim": 16, "stable_kimg": 0.032, "fade_kimg": 0.032}
BATCHES = {4: 512, 8: 512, 16: 512, 32: 256, 64: 128, 128: 64, 256: 32, 512: 16, 1024: 8}
SCHEDULE = "--stable-kimg 150 --fade-kimg 100 --batch-sizes 256 256 256 128 64 32 --learning-rate 0.002"


def correctness(folder: Path) -> Rows:
    """Largest difference between CPU and GPU while 4², 8² and 16² are trained and faded in; and with every game."""
    data = make_dataset(folder / "tiny", 64, 16)
    games: dict[str, dict[str, Any]] = {
        "wgan-gp": {},
        "least-squares": {"target_noise": 0.1},
        "logistic": {"r1_weight": 1.0},
        "relativistic": {"r1_weight": 1.0},
    }
    rows: Rows = []
    for game, settings in games.items():
        states = []
        for device in ("cpu", "cuda"):
            own = {**TINY, **settings, "game": game, "batch_sizes": (16,)}
            trainer = make_trainer("progan", data, device, 16, torch.float64, False, resolution=16, **own)
            trainer.fit(192, lambda logs: None)
            states.append({key: value.cpu().double() for key, value in trainer.state()[0].items()})
        keys = [key for key in states[0] if not key.startswith("random.")]
        worst = max(
            float((states[0][k] - states[1][k]).abs().max() / states[0][k].abs().max().clamp_min(1)) for k in keys
        )
        rows.append({"game": game, "difference": worst, "passed": worst <= 1e-8})
    return rows


def throughput(folder: Path) -> Rows:
    """Real images a second and memory at every level up to 1024², full width, alone and fading in."""
    rows: Rows = []
    for side, batch_size in BATCHES.items():
        data = make_dataset(folder / f"noise-{side}", max(batch_size, 32), max(side, 8))
        for bf16 in (False, True):
            for fading in (False, True) if side > 4 else (False,):
                rows.append(_speed(data, side, batch_size, bf16, fading))
                print(rows[-1], flush=True)
    return rows


def _speed(data: Any, side: int, batch_size: int, bf16: bool, fading: bool) -> dict[str, object]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    forever = {"stable_kimg": 1e6, "fade_kimg": 1e6, "batch_sizes": (batch_size,)}
    trainer = make_trainer("progan", data, "cuda", batch_size, torch.float32, bf16, resolution=max(side, 8), **forever)
    level = (side // 4).bit_length() - 1
    milestones = trainer.model.milestones()
    trainer.images_seen = milestones[max(2 * level - fading, 0)] + (5 * 10**8 if fading else 0)
    work = gflop(trainer.iteration)
    for _ in range(2):
        trainer.iteration()
    rate = _rate(trainer)
    return {
        "side": side,
        "fading": fading,
        "precision": "bf16" if bf16 else "fp32",
        "batch": batch_size,
        "images/s": round(rate, 1),
        "GFLOP/image": round(work / batch_size, 2),
        "TFLOP/s": round(rate * work / batch_size / 1e3, 2),
        "peak MB": round(torch.cuda.max_memory_allocated() / 1e6),
    }


def _rate(trainer: Trainer, seconds: float = 5.0) -> float:
    torch.cuda.synchronize()
    images, start = trainer.images_seen, time.perf_counter()
    while time.perf_counter() - start < seconds:
        trainer.iteration()
        torch.cuda.synchronize()
    return (trainer.images_seen - images) / (time.perf_counter() - start)


def main() -> int:
    flags = parse_flags(__doc__, 12.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = "progan --fmap-base 256 --fmap-max 16 --latent-dim 16 --stable-kimg 3 --fade-kimg 2"
        heads = f"progan --resolution 128 {SCHEDULE} --sample-kimg 50 --checkpoint-kimg 500 --metrics-kimg 500"
        parts = {
            "correctness": lambda: correctness(folder),
            "throughput": lambda: throughput(folder),
            "kill_and_resume": lambda: kill_and_resume(folder, tiny),
            "training": lambda: training(folder, flags.out, flags.minutes, heads),
        }
        return measure(parts, flags.out, "gpu_growing.json")


if __name__ == "__main__":
    sys.exit(main())
