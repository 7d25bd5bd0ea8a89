"""What an iteration of training costs, ours against the plainest correct PyTorch step of the same networks and losses.

    python -m benchmarks.training_step            # all models; about five minutes; writes its results
    python -m benchmarks.training_step --only dcgan vae
    python -m benchmarks.training_step --quick    # smaller networks, half a minute, writes nothing

Throughput is real images per second of processor time on one thread, the median of interleaved repeats, so that what
else the machine does matters little. GFLOP are those of convolutions and matrix products that were computed, second
derivatives included; with them and with the peak, the best rate of a few large convolutions on this machine, figures
can be carried to another processor.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.run import as_table, machine
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from limner.data.dataset import Dataset
from limner.data.loader import Loader
from limner.data.writer import DatasetWriter
from limner.layers.convolution import Convolution, TransposedConvolution
from limner.models import MODELS
from limner.models.base import Model, Phase
from limner.training.distributed import World
from limner.training.settling import fast_bf16
from limner.training.trainer import Recipe, Trainer
from limner.types import Batch, Draws

CPU = torch.device("cpu")
HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Work:
    """A model, its settings, and how to train it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    resolution: int = 64
    batch_size: int = 64

    def model(self) -> Model:
        torch.manual_seed(0)
        kind = MODELS[self.name]
        return kind(kind.Config(**({"latent_dim": 128, "width": 64} | dict(self.settings))), self.resolution)


ONE_EACH = {"critic_steps": 1}
"""one critic update per generator update, as the other models have"""
WORKS = (
    Work("dcgan"),
    Work("lsgan"),
    Work("wgan", ONE_EACH),
    Work("wgan-gp", ONE_EACH),
    Work("infogan"),
    Work("began"),
    Work("vae"),
    Work("vae-gan"),
)
QUICK = tuple(Work(w.name, {**w.settings, "latent_dim": 16, "width": 8}, 16, 8) for w in WORKS)


def ours(work: Work, dataset: Dataset, bf16: bool) -> Callable[[], object]:
    """An iteration of the trainer."""
    recipe = Recipe(batch_size=work.batch_size, bf16=bf16)
    trainer = Trainer(work.model(), Loader(dataset, seed=0, device=CPU), recipe, World())
    return trainer.iteration


# --- the plainest correct step ------------------------------------------------------------------------------------


class Plain:
    """The model's own losses as a tutorial would train them: torch's layers, their default memory format, an optimizer
    that walks from tensor to tensor, nothing frozen, and the average of weights as a loop.

    So every parameter gets its gradient in every update, whether or not its optimizer's turn has come.
    """

    def __init__(self, work: Work, dataset: Dataset, bf16: bool) -> None:
        self.model = with_torch_layers(work.model())
        self.average = copy.deepcopy(self.model)
        self.batch_size, self.resolution, self.bf16 = work.batch_size, work.resolution, bf16
        self.loader = Loader(dataset, seed=0, device=CPU)
        self.rng = torch.Generator().manual_seed(0)
        self.phases = [(phase, plain_optimizer(phase)) for phase in self.model.phases()]
        self.seen = 0

    def iteration(self) -> None:
        for phase, optimizer in self.phases:
            for step in range(phase.steps):
                batch = self.batch(self.seen + step * self.batch_size)
                self.model.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                    loss, logs = phase.loss(batch)
                loss.backward()
                optimizer.step()
                phase.after_step({name: value.detach() for name, value in logs.items()})
        self.seen += self.batch_size * max(phase.steps for phase, _ in self.phases)
        with torch.no_grad():
            for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                average.mul_(0.999).add_(value, alpha=0.001)

    def batch(self, start: int) -> Batch:
        images, _ = self.loader.batch(start, start + self.batch_size, self.resolution)
        latents = self.model.latents.sample(self.batch_size, self.rng)
        return Batch(images.contiguous(), latents, Draws(self.rng, self.batch_size, 0, self.batch_size))


def with_torch_layers(model: Model) -> Model:
    """The same networks and weights, convolving with torch's own layers."""
    for module in model.modules():
        if isinstance(module, Convolution):
            module.__class__ = nn.Conv2d
        elif isinstance(module, TransposedConvolution):
            module.__class__ = nn.ConvTranspose2d
    return model


def plain_optimizer(phase: Phase) -> torch.optim.Optimizer:
    """The phase's, of the same numbers, neither fused nor over all tensors at once."""
    parameters = [parameter for module in phase.trains for parameter in module.parameters()]
    built = phase.optimizer.build(parameters)
    one_by_one = {name: False for name in ("fused", "foreach") if name in built.defaults}
    return type(built)(parameters, **(built.defaults | one_by_one))


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
        name = function._overloadpacket.__name__
        count = flop_registry.get(getattr(torch.ops.aten, name.removesuffix("_"), None))  # baddbmm_ is baddbmm
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


def peak_memory_mb(work: Work, bf16: bool, quick: bool) -> dict[str, int]:
    """Of two processes that do nothing but two such iterations each, one plain and one ours."""
    started = {}
    for way in WAYS:
        words = [sys.executable, "-m", "benchmarks.training_step", "--child", work.name, way]
        words += [*(["--bf16"] if bf16 else []), *(["--quick"] if quick else [])]
        settings = os.environ | {"OMP_NUM_THREADS": "1"}
        started[way] = subprocess.Popen(words, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, env=settings)
    said = {way: process.communicate()[0] for way, process in started.items()}
    return {way: round(json.loads(text)["peak_mb"]) for way, text in said.items()}


def measure(quick: bool = False, memory: bool = True, only: Sequence[str] = ()) -> list[dict[str, object]]:
    """One row per model and precision."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    works = [work for work in (QUICK if quick else WORKS) if not only or work.name in only]
    # Bfloat16 that is emulated teaches nothing about a processor that has it.
    precisions = (False, True) if fast_bf16(CPU) else (False,)
    try:
        peaks = {False: peak_gflops(torch.float32), True: peak_gflops(torch.bfloat16) if True in precisions else 0.0}
        with tempfile.TemporaryDirectory() as folder:
            dataset = make_dataset(Path(folder) / "data")
            rows = []
            for work in works:
                for bf16 in precisions:
                    rows.append(_row(work, dataset, bf16, peaks[bf16]))
                    if memory:
                        found = peak_memory_mb(work, bf16, quick)
                        rows[-1] |= {f"{way} peak MB": found[way] for way in WAYS}
                    print(as_table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(threads)
    return rows


SLOW = 8.0
"""processor seconds of an iteration above which one repeat is enough"""


def _row(work: Work, dataset: Dataset, bf16: bool, peak: float) -> dict[str, object]:
    steps = {way: make(work, dataset, bf16) for way, make in WAYS.items()}
    images = work.batch_size * max(phase.steps for phase in work.model().phases())
    work_gflop = {way: gflop(step) / images for way, step in steps.items()}  # counts, and warms up
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    for repeat in range(3):
        if repeat > 0 and max(map(max, seconds.values())) > SLOW:
            break
        for way, step in steps.items():
            seconds[way].append(cpu_seconds(step))
    rates = {way: images / statistics.median(taken) for way, taken in seconds.items()}
    row: dict[str, object] = {"model": work.name, "precision": "bf16" if bf16 else "fp32"}
    row |= {f"{way} images/cpu-s": round(rate, 1) for way, rate in rates.items()}
    row["ours / plain"] = round(rates["ours"] / rates["plain"], 2)
    row |= {f"{way} GFLOP/image": round(total, 2) for way, total in work_gflop.items()}
    row["peak GFLOP/s"] = round(peak, 1)
    row |= {f"{way} share of peak": round(work_gflop[way] * rates[way] / peak, 2) for way in steps}
    return row


def child(name: str, way: str, bf16: bool, quick: bool) -> None:
    torch.set_num_threads(1)
    work = next(work for work in (QUICK if quick else WORKS) if work.name == name)
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


def write(name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """To a file of results, and the table to its place on the page about them."""
    path = HERE / "results" / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "results": rows}, indent=2) + "\n")
    start, end = f"<!-- {name}: written by its command -->\n", f"<!-- {name}: end -->\n"
    before, rest = PAGE.read_text().split(start)
    PAGE.write_text(f"{before}{start}\n{as_table(rows)}\n\n{end}{rest.split(end)[1]}")
    print(f"written: {path}, {PAGE}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small networks; nothing is written")
    parser.add_argument("--only", nargs="+", default=(), choices=MODELS, help="some models; nothing is written")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--child", nargs=2, metavar=("WORK", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--bf16", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        child(*flags.child, flags.bf16, flags.quick)
        return
    rows = measure(flags.quick, not (flags.quick or flags.no_memory), flags.only)
    print(as_table(rows))
    if not (flags.quick or flags.only or flags.no_memory):
        write("training_step", rows)


if __name__ == "__main__":
    main()
