"""What a CUDA GPU makes of limner, in one command: right numbers, speed, memory, a kill and a real training.

    python benchmarks/gpu.py OUT                # about 20 minutes; small files in the folder OUT
    python benchmarks/gpu.py OUT --minutes 2    # a shorter training
    python benchmarks/gpu_growing.py OUT        # the same for ProGAN, level by level
    python benchmarks/hologan_turns.py OUT --resolution 64 --full --kimg 3000 --device cuda    # does HoloGAN turn?

Exits with 2 where there is no CUDA device, with 1 when a check fails (all others still run).
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.training_step import gflop, make_dataset

from limner.checkpoint import newest_checkpoint
from limner.data.dataset import Dataset
from limner.data.loader import Loader
from limner.models import MODELS
from limner.training.distributed import World
from limner.training.trainer import Recipe, Trainer

Rows = list[dict[str, object]]
NAMES = [name for name in MODELS if name != "progan"]
"""the models of one side from the start"""


def make_trainer(
    name: str, data: Dataset, device: str, batch_size: int, dtype: torch.dtype, bf16: bool, **settings: Any
) -> Trainer:
    torch.manual_seed(0)
    where = torch.device(device)
    resolution = settings.pop("resolution")
    model = MODELS[name](MODELS[name].Config(**settings), resolution).to(dtype)
    loader = Loader(data, seed=0, device=where, dtype=dtype)
    return Trainer(model, loader, Recipe(batch_size=batch_size, bf16=bf16), World(device=where))


def correctness(folder: Path) -> Rows:
    """Largest difference of weights, averages and moments between CPU and GPU after three iterations."""
    data = make_dataset(folder / "tiny", 64, 16)
    rows: Rows = []
    for name in NAMES:
        for dtype, most in ((torch.float64, 1e-9), (torch.float32, 5e-3)):
            states = []
            for device in ("cpu", "cuda"):
                trainer = make_trainer(name, data, device, 16, dtype, False, width=8, resolution=16)
                trainer.fit(48, lambda logs: None)
                states.append({key: value.cpu().double() for key, value in trainer.state()[0].items()})
            keys = [key for key in states[0] if not key.startswith("random.")]
            scale = {key: states[0][key].abs().max().clamp_min(1) for key in keys}
            worst = max(float(((states[0][key] - states[1][key]).abs() / scale[key]).max()) for key in keys)
            rows.append({"model": name, "dtype": str(dtype), "difference": worst, "passed": worst <= most})
    return rows


def throughput(folder: Path) -> Rows:
    """Real images a second and memory of both models at 64²."""
    data = make_dataset(folder / "noise", 2048, 64)
    rows: Rows = []
    for name in NAMES:
        for bf16 in (False, True):
            for batch_size in (64, 256, 1024):
                rows.append(_speed(name, data, batch_size, bf16))
                print(rows[-1], flush=True)
    return rows


def _speed(name: str, data: Dataset, batch_size: int, bf16: bool) -> dict[str, object]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trainer = make_trainer(name, data, "cuda", batch_size, torch.float32, bf16, width=64, resolution=64)
    work = gflop(trainer.iteration)
    for _ in range(4):
        trainer.iteration()
    torch.cuda.synchronize()
    images, start = trainer.images_seen, time.perf_counter()
    while time.perf_counter() - start < 6:
        trainer.iteration()
        torch.cuda.synchronize()
    rate = (trainer.images_seen - images) / (time.perf_counter() - start)
    per_image = work / batch_size / trainer.steps
    return {
        "model": name,
        "precision": "bf16" if bf16 else "fp32",
        "batch": batch_size,
        "images/s": round(rate),
        "GFLOP/image": round(per_image, 2),
        "TFLOP/s": round(rate * per_image / 1e3, 2),
        "peak MB": round(torch.cuda.max_memory_allocated() / 1e6),
    }


def kill_and_resume(folder: Path, model: str = "dcgan --width 32") -> Rows:
    """A run killed and resumed, against one never stopped."""
    data = make_dataset(folder / "small", 256, 32).folder
    settings = f"{model} --data {data} --batch-size 32 --kimg 20 --checkpoint-kimg 2 --sample-kimg 10"
    words = ["train", *settings.split(), "--metrics-kimg", "1000", "--metrics-count", "64", "--device", "cuda"]
    whole, killed = folder / "whole", folder / "killed"
    _limner(*words, "--out", str(whole))
    process = subprocess.Popen([sys.executable, "-m", "limner", *words, "--out", str(killed)])
    deadline = time.monotonic() + 300
    while process.poll() is None and len(list((killed / "checkpoints").glob("*.safetensors"))) < 2:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    stopped = _newest(killed).images_seen
    _limner("resume", str(killed))
    a, b = _newest(whole), _newest(killed)
    keys = [key for key in a.tensors if key.startswith(("model.", "average."))]
    worst = max(float((a.tensors[key].double() - b.tensors[key].double()).abs().max()) for key in keys)
    passed = a.images_seen == b.images_seen and stopped < a.images_seen and worst <= 1e-2
    return [{"killed at images": stopped, "end": b.images_seen, "difference": worst, "passed": passed}]


def _newest(run: Path) -> Any:
    found = newest_checkpoint(run / "checkpoints", print)
    if found is None:
        raise RuntimeError(f"{run}: no checkpoint")
    return found


def _limner(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "limner", *words], check=True, timeout=900)


DCGAN_64 = "dcgan --resolution 64 --width 64 --kimg 100000 --sample-kimg 500 --metrics-kimg 500"


def training(folder: Path, out: Path, minutes: float, model: str = DCGAN_64) -> Rows:
    """The built-in heads for so long, stopped by SIGTERM, measured."""
    run = folder / "heads"
    words = f"train {model} --device cuda"
    process = subprocess.Popen([sys.executable, "-m", "limner", *words.split(), "--out", str(run)])
    end = time.monotonic() + 900  # rendering the heads is not training
    while process.poll() is None and not (run / "log.jsonl").exists() and time.monotonic() < end:
        time.sleep(1)
    time.sleep(minutes * 60)
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=300)
    _limner("evaluate", str(run))
    for path in (
        run / "config.json",
        run / "log.jsonl",
        run / "report.html",
        *sorted((run / "samples").glob("*"))[-1:],
    ):
        if path.exists():
            shutil.copy(path, out / path.name)
    cards = [json.loads(path.read_text()) for path in sorted((run / "metrics").glob("*.json"))]
    (out / "cards.json").write_text(json.dumps(cards, indent=1))
    return [{"minutes": minutes, "exit code": code, "images": _newest(run).images_seen, "passed": code in (0, 143)}]


def parse_flags(description: str | None, minutes: float) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=minutes, help="of training on the built-in heads")
    return parser.parse_args()


def main() -> int:
    flags = parse_flags(__doc__, 10.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Rows]] = {
            "correctness": lambda: correctness(folder),
            "throughput": lambda: throughput(folder),
            "kill_and_resume": lambda: kill_and_resume(folder),
            "training": lambda: training(folder, flags.out, flags.minutes),
        }
        return measure(parts, flags.out, "gpu.json")


def measure(parts: dict[str, Callable[[], Rows]], out: Path, file: str) -> int:
    """Do every part, write what each found as soon as it is there; returns the exit code."""
    if not torch.cuda.is_available():
        print("this PyTorch sees no CUDA device; nothing was measured", file=sys.stderr)
        return 2
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for part, work in parts.items():
        print(f"{part} …", flush=True)
        try:
            results[part] = work()
        except Exception as error:  # one part that fails does not cost the others
            traceback.print_exc()
            results[part] = [{"passed": False, "error": f"{type(error).__name__}: {error}"}]
        print(json.dumps(results[part], indent=1), flush=True)
        (out / file).write_text(json.dumps(results, indent=1) + "\n")
    rows = [row for part in parts for row in results[part]]
    return 0 if all(row.get("passed", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
