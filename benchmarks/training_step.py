"""What an iteration of training costs, ours against the plainest correct PyTorch step of the same networks and losses.

    python benchmarks/training_step.py            # prints a table; about five minutes
    python benchmarks/training_step.py --quick    # smaller networks, a few seconds

Throughput is real images per second of processor time on one thread, the median of interleaved repeats, so that what
else the machine does matters little. GFLOP are those of convolutions and matrix products. The peak is the best rate of
a few large convolutions on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from limner.data.dataset import Dataset
from limner.data.loader import Loader
from limner.data.writer import DatasetWriter
from limner.layers.convolution import Convolution, TransposedConvolution
from limner.models import DCGAN, WGANGP
from limner.models.base import Model
from limner.models.dcgan import DCGANConfig
from limner.models.wgan_gp import WGANGPConfig, gradient_penalty
from limner.training.distributed import World
from limner.training.run import _fast_bf16
from limner.training.trainer import Recipe, Trainer

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """A model, its settings, and how to train on it."""

    name: str
    model: Callable[[], Model]
    resolution: int = 64
    batch_size: int = 64


WORKS = (
    Work("dcgan", lambda: DCGAN(DCGANConfig(latent_dim=128, width=64), 64)),
    Work("wgan-gp 1+1", lambda: WGANGP(WGANGPConfig(critic_steps=1), 64)),
    Work("wgan-gp 5+1", lambda: WGANGP(WGANGPConfig(), 64)),
)
QUICK = (
    Work("dcgan, width 8", lambda: DCGAN(DCGANConfig(latent_dim=16, width=8), 16), 16, 8),
    Work("wgan-gp 1+1, width 8", lambda: WGANGP(WGANGPConfig(critic_steps=1, width=8), 16), 16, 8),
)


def ours(work: Work, dataset: Dataset, bf16: bool) -> Callable[[], object]:
    """An iteration of the trainer."""
    torch.manual_seed(0)
    recipe = Recipe(batch_size=work.batch_size, bf16=bf16)
    trainer = Trainer(work.model(), Loader(dataset, seed=0, device=CPU), recipe, World())
    return trainer.iteration


# --- the plainest correct step ------------------------------------------------------------------------------------


class Plain:
    """One model after another as in a tutorial: no memory format, no fused optimizer, nothing frozen.

    Fakes are made through a graph that is then cut, and every parameter gets gradients in every update.
    """

    def __init__(self, work: Work, dataset: Dataset, bf16: bool) -> None:
        torch.manual_seed(0)
        self.model, self.average = with_torch_layers(work.model()), with_torch_layers(work.model())
        self.batch_size, self.resolution, self.bf16 = work.batch_size, work.resolution, bf16
        self.loader = Loader(dataset, seed=0, device=CPU)
        self.rng = torch.Generator().manual_seed(0)
        self.seen = 0
        self.generator: nn.Module = self.model.get_submodule("generator")
        self.wasserstein = isinstance(self.model, WGANGP)
        self.judge: nn.Module = self.model.get_submodule("critic" if self.wasserstein else "discriminator")
        phase = self.model.phases()[0]
        rates: dict[str, Any] = {
            "lr": phase.optimizer.learning_rate,
            "betas": (float(self.model.config.beta1), float(self.model.config.beta2)),
            "foreach": False,
            "fused": False,
        }
        self.judge_steps = phase.steps
        self.judge_optimizer = torch.optim.Adam(self.judge.parameters(), **rates)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), **rates)

    def iteration(self) -> None:
        for _ in range(self.judge_steps):
            reals = self.loader.batch(self.seen, self.seen + self.batch_size, self.resolution)[0].contiguous()
            self.judge_optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                loss = self.judge_loss(reals, self.generator(self.latents()).detach())
            loss.backward()
            self.judge_optimizer.step()
            self.seen += self.batch_size
        self.generator_optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.judge(self.generator(self.latents()))
            loss = -logits.mean() if self.wasserstein else F.softplus(-logits).mean()
        loss.backward()
        self.generator_optimizer.step()
        with torch.no_grad():
            for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                average.mul_(0.999).add_(value, alpha=0.001)

    def judge_loss(self, reals: Tensor, fakes: Tensor) -> Tensor:
        real, fake = self.judge(reals), self.judge(fakes)
        if not self.wasserstein:
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        epsilon = torch.rand(len(reals), 1, 1, 1, generator=self.rng)
        penalty = gradient_penalty(self.judge, epsilon * reals + (1 - epsilon) * fakes)
        return fake.mean() - real.mean() + 10 * penalty

    def latents(self) -> Tensor:
        return self.model.latents.sample(self.batch_size, self.rng)


def with_torch_layers(model: Model) -> Model:
    """The same networks and weights, convolving with torch's own layers."""
    for module in model.modules():
        if isinstance(module, Convolution):
            module.__class__ = nn.Conv2d
        elif isinstance(module, TransposedConvolution):
            module.__class__ = nn.ConvTranspose2d
    return model


def plain(work: Work, dataset: Dataset, bf16: bool) -> Callable[[], object]:
    return Plain(work, dataset, bf16).iteration


WAYS: Mapping[str, Callable[[Work, Dataset, bool], Callable[[], object]]] = {"plain": plain, "ours": ours}


# --- measuring ----------------------------------------------------------------------------------------------------


class CountFlops(TorchDispatchMode):
    """FLOPs of convolutions and matrix products, second derivatives included."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.total += int(count(*arguments, **(options or {}), out_val=result))
        return result


def gflop(step: Callable[[], object]) -> float:
    with CountFlops() as counter:
        step()
    return counter.total / 1e9


def cpu_seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def peak_gflops(dtype: torch.dtype) -> float:
    """The best rate of a 3x3 convolution of 256 channels, forward or backward, GFLOP a second of processor time."""
    best = 0.0
    weights = torch.randn(256, 256, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    for side, count in ((32, 4), (16, 16)):
        x = torch.randn(count, 256, side, side, dtype=dtype).to(memory_format=torch.channels_last)
        for _ in range(4):
            seconds = cpu_seconds(lambda x=x: F.conv2d(x, weights, padding=1))  # type: ignore[misc]
            best = max(best, 2 * count * side * side * 256 * 256 * 9 / 1e9 / seconds)
    return best


def make_dataset(folder: Path, count: int = 512, resolution: int = 64) -> Dataset:
    rng = np.random.default_rng(0)
    with DatasetWriter(
        folder, name="noise", count=count, resolution=resolution, crop="none", resize="none", source={}
    ) as writer:
        writer.write(0, rng.integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8))
        return writer.finish()


def peak_memory_mb(work: Work, way: str, bf16: bool, quick: bool) -> float:
    """Of a process that does nothing but two such iterations."""
    words = [sys.executable, __file__, "--child", work.name, way, *(["--bf16"] if bf16 else [])]
    words += ["--quick"] if quick else []
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return float(json.loads(done.stdout)["peak_mb"])


def measure(quick: bool = False, memory: bool = True) -> list[dict[str, object]]:
    """One row per work and precision."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peaks = {False: peak_gflops(torch.float32), True: peak_gflops(torch.bfloat16)}
        with tempfile.TemporaryDirectory() as folder:
            dataset = make_dataset(Path(folder) / "data")
            rows = [
                _row(work, dataset, bf16, peaks[bf16], quick, memory)
                for work in (QUICK if quick else WORKS)
                for bf16 in (False, True)
                # Emulated bfloat16 is shown once, not waited for thrice.
                if not bf16 or quick or _fast_bf16(CPU) or work.name == "dcgan"
            ]
    finally:
        torch.set_num_threads(threads)
    return rows


def _row(work: Work, dataset: Dataset, bf16: bool, peak: float, quick: bool, memory: bool) -> dict[str, object]:
    steps = {way: make(work, dataset, bf16) for way, make in WAYS.items()}
    images = work.batch_size * (5 if work.name == "wgan-gp 5+1" else 1)
    work_gflop = {way: gflop(step) for way, step in steps.items()}  # counts, and warms up
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    slow = (bf16 and not _fast_bf16(CPU)) or work.name == "wgan-gp 5+1"
    for _ in range(1 if slow else 3):
        for way, step in steps.items():
            seconds[way].append(cpu_seconds(step))
    rates = {way: images / statistics.median(taken) for way, taken in seconds.items()}
    row: dict[str, object] = {"work": work.name, "precision": "bf16" if bf16 else "fp32"}
    row |= {f"{way} images/cpu-s": round(rate, 2) for way, rate in rates.items()}
    row["ours / plain"] = round(rates["ours"] / rates["plain"], 2)
    row |= {f"{way} GFLOP/image": round(total / images, 2) for way, total in work_gflop.items()}
    row["ours GFLOP/s"] = round(work_gflop["ours"] / images * rates["ours"], 1)
    row["peak GFLOP/s"] = round(peak, 1)
    row["share of peak"] = round(work_gflop["ours"] / images * rates["ours"] / peak, 2)
    if memory and not slow:
        row |= {f"{way} peak MB": round(peak_memory_mb(work, way, bf16, quick)) for way in steps}
    return row


def child(name: str, way: str, bf16: bool) -> None:
    torch.set_num_threads(1)
    work = next(work for work in (*WORKS, *QUICK) if work.name == name)
    with tempfile.TemporaryDirectory() as folder:
        step = WAYS[way](work, make_dataset(Path(folder) / "data"), bf16)
        step()
        step()
    print(json.dumps({"peak_mb": own_peak_mb()}))


def own_peak_mb() -> float:
    """Most memory this process ever held; `ru_maxrss` on Linux would count the parent it was forked from as well."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small networks")
    parser.add_argument("--child", nargs=2, metavar=("WORK", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--bf16", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        child(*flags.child, flags.bf16)
        return
    for row in measure(flags.quick):
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
