"""What an iteration of training costs, ours against the plainest correct PyTorch step of the same networks and losses
(`benchmarks.plain_step`).

    python -m benchmarks.training_step            # all models; about a quarter of an hour; writes its results
    python -m benchmarks.training_step --only progan     # writes the rows of these models
    python -m benchmarks.training_step --quick    # smaller networks, half a minute, writes nothing

Throughput is real images per second of processor time on one thread, the median of interleaved repeats, so that what
else the machine does matters little; one repeat where a step takes long, of both at the same time. GFLOP are those of
convolutions and matrix products that were computed, second derivatives included; with them and with the peak, the best
rate of a few large convolutions on this machine, figures can be carried to another processor.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.plain_step import Plain
from benchmarks.run import as_table, machine
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from limner.data.dataset import Dataset
from limner.data.loader import Loader
from limner.data.writer import DatasetWriter
from limner.models import MODELS
from limner.models.base import Model
from limner.training.distributed import World
from limner.training.settling import fast_bf16
from limner.training.trainer import Recipe, Trainer

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
    kind: str = ""
    """which of the model's networks"""

    @property
    def title(self) -> str:
        if self.kind:
            return f"{self.name} {self.kind}"
        return f"{self.name} {self.resolution}²" if self.name == "progan" else self.name

    def model(self) -> Model:
        """Fully grown, where it grows."""
        torch.manual_seed(0)
        kind = MODELS[self.name]
        model = kind(kind.with_batch_size(kind.Config(**self.settings), self.batch_size), self.resolution)
        model.set_images_seen(LATE)
        return model


LATE = 10**8
"""images seen: every schedule is over"""
SIZES = {"latent_dim": 128, "width": 64}
ONE_EACH = SIZES | {"critic_steps": 1}
"""one critic update per generator update, as the other models have"""
WORKS = (
    Work("dcgan", SIZES),
    Work("lsgan", SIZES),
    Work("wgan", ONE_EACH),
    Work("wgan-gp", ONE_EACH),
    Work("infogan", SIZES),
    Work("began", SIZES),
    Work("vae", SIZES),
    Work("vae-gan", SIZES),
    Work("progan", resolution=32, batch_size=16),
    Work("progan", resolution=64, batch_size=16),
    Work("hologan", {"generator_steps": 1}, batch_size=16),
    Work("hologan", MODELS["hologan"].presets["s0"].model, batch_size=16, kind="s0"),
)
SMALL = {"latent_dim": 16, "width": 8}
SMALL_PROGAN = {"latent_dim": 16, "fmap_base": 128, "fmap_max": 16}
QUICK = (
    *(Work(work.name, {**work.settings, **SMALL}, 16, 8, work.kind) for work in WORKS if work.name != "progan"),
    Work("progan", SMALL_PROGAN, 16, 8),
)


def ours(work: Work, dataset: Dataset, bf16: bool) -> Callable[[], object]:
    """An iteration of the trainer."""
    recipe = Recipe(batch_size=work.batch_size, bf16=bf16)
    trainer = Trainer(work.model(), Loader(dataset, seed=0, device=CPU), recipe, World())
    trainer.images_seen = LATE
    return trainer.iteration


def plain(work: Work, dataset: Dataset, bf16: bool) -> Callable[[], object]:
    loader = Loader(dataset, seed=0, device=CPU)
    return Plain(work.model(), loader, work.resolution, work.batch_size, bf16).iteration


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


def in_processes_of_their_own(work: Work, bf16: bool, quick: bool) -> dict[str, dict[str, float]]:
    """What `child` says of each way: two processes that do nothing else, at the same time."""
    started = {}
    for way in WAYS:
        words = [sys.executable, "-m", "benchmarks.training_step", "--child", work.title, way]
        words += [*(["--bf16"] if bf16 else []), *(["--quick"] if quick else [])]
        settings = os.environ | {"OMP_NUM_THREADS": "1"}
        started[way] = subprocess.Popen(words, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, env=settings)
    return {way: json.loads(process.communicate()[0]) for way, process in started.items()}


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
                    found = in_processes_of_their_own(work, bf16, quick) if memory else {}
                    rows.append(_row(work, dataset, bf16, peaks[bf16], found))
                    rows[-1] |= {f"{way} peak MB": round(said["peak_mb"]) for way, said in found.items()}
                    print(as_table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(threads)
    return rows


SLOW = 8.0
"""processor seconds of an iteration above which one repeat is enough"""


def _row(
    work: Work, dataset: Dataset, bf16: bool, peak: float, found: Mapping[str, Mapping[str, float]]
) -> dict[str, object]:
    images = work.batch_size * max(phase.steps for phase in work.model().phases())
    if found and max(said["cpu_seconds"] for said in found.values()) > SLOW:
        work_gflop = {way: said["gflop"] / images for way, said in found.items()}
        seconds = {way: [said["cpu_seconds"]] for way, said in found.items()}
    else:
        steps = {way: make(work, dataset, bf16) for way, make in WAYS.items()}
        work_gflop = {way: gflop(step) / images for way, step in steps.items()}  # counts, and warms up
        seconds = {way: [] for way in steps}
        for _ in range(3):
            for way, step in steps.items():
                seconds[way].append(cpu_seconds(step))
    rates = {way: images / statistics.median(taken) for way, taken in seconds.items()}
    row: dict[str, object] = {"model": work.title, "precision": "bf16" if bf16 else "fp32"}
    row |= {f"{way} images/cpu-s": round(rate, 1 if rate >= 10 else 3) for way, rate in rates.items()}
    row["ours / plain"] = round(rates["ours"] / rates["plain"], 2)
    row |= {f"{way} GFLOP/image": round(total, 2) for way, total in work_gflop.items()}
    row["peak GFLOP/s"] = round(peak, 1)
    row |= {f"{way} share of peak": round(work_gflop[way] * rates[way] / peak, 2) for way in WAYS}
    return row


def child(title: str, way: str, bf16: bool, quick: bool) -> None:
    """Two iterations: the first counts, the second is timed; the most memory of both."""
    torch.set_num_threads(1)
    work = next(work for work in (QUICK if quick else WORKS) if work.title == title)
    with tempfile.TemporaryDirectory() as folder:
        step = WAYS[way](work, make_dataset(Path(folder) / "data", resolution=work.resolution), bf16)
        counted = gflop(step)
        seconds = cpu_seconds(step)
    print(json.dumps({"peak_mb": own_peak_mb(), "gflop": counted, "cpu_seconds": seconds}))


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


def with_others(rows: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """These rows in the place of those of the same models in the file of results; its other rows stay."""
    kept = json.loads((HERE / "results" / "training_step.json").read_text())["results"]
    found = {(row["model"], row["precision"]): row for row in [*kept, *rows]}
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small networks; nothing is written")
    parser.add_argument(
        "--only", nargs="+", default=(), choices=MODELS, help="some models; only their rows are written"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--child", nargs=2, metavar=("WORK", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--bf16", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        child(*flags.child, flags.bf16, flags.quick)
        return
    rows = measure(flags.quick, not (flags.quick or flags.no_memory), flags.only)
    print(as_table(rows))
    if not (flags.quick or flags.no_memory):
        write("training_step", with_others(rows) if flags.only else rows)


if __name__ == "__main__":
    main()
