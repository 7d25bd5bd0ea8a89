"""The processes of one run: who they are, and the few things they do together.

One process per GPU (or several on a CPU) under any launcher that sets torchrun's environment variables. Gradients are
averaged by hand, once per update, as StyleGAN2, EDM and R3GAN do: the losses keep plain modules, a penalty may have a
backward of its own, and unused layers need no flag.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limner.errors import LimnerError, PeerLostError

TIMEOUT_SECONDS = 120


def nothing() -> None:
    """What a lone process has to tell the others."""


@dataclass(frozen=True)
class World:
    """This process among the run's processes."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def size_here(self) -> int:
        """How many of them are on this machine."""
        return min(self.size, int(os.environ.get("LOCAL_WORLD_SIZE", self.size)))

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the processes: one flat all-reduce."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def same_start(self, module: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.data, src=0)

    def any(self, flag: int) -> int:
        """The largest of the processes' flags: a signal that reached one stops them all at the same step."""
        if self.size == 1:
            return flag
        tensor = torch.tensor([flag], device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor.item())

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every process's tensor (of one shape), in rank order."""
        if self.size == 1:
            return [tensor]
        everyone = [torch.empty_like(tensor, device=self.device) for _ in range(self.size)]
        dist.all_gather(everyone, tensor.to(self.device))
        return everyone

    def share_text(self, text: str) -> str:
        """The first process's text, on all of them."""
        if self.size == 1:
            return text
        data = torch.zeros(4096, dtype=torch.uint8, device=self.device)
        encoded = text.encode()[:4096]
        data[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        dist.broadcast(data, src=0)
        return bytes(data.tolist()).rstrip(b"\0").decode()

    def first_only(self, work: Callable[[Callable[[], None]], None]) -> None:
        """Let the first process do `work` while the others wait, however long it takes.

        `work` is given a function to call now and then: it tells the others that somebody is alive, who would
        otherwise give up after the time-out.
        """
        if self.size == 1:
            work(nothing)
        elif self.is_first:
            last = time.monotonic()

            def still_here() -> None:
                nonlocal last
                if time.monotonic() - last > TIMEOUT_SECONDS / 10:
                    self.any(1)
                    last = time.monotonic()

            try:
                work(still_here)
            finally:
                self.any(0)
        else:
            while self.any(0):
                pass

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    def differing(self, tensors: Iterable[tuple[str, Tensor]]) -> str | None:
        """The first tensor that is not the same on all processes, or None."""
        if self.size == 1:
            return None
        named = [(name, tensor.detach().double()) for name, tensor in tensors]
        sums = torch.stack([torch.stack([t.sum(), t.square().sum()]) for _, t in named])
        lowest, highest = sums.clone(), sums.clone()
        dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        different = (lowest != highest).any(dim=1).nonzero()
        return named[int(different[0])][0] if len(different) else None


class join_world:  # noqa: N801 - reads as a function: `with join_world("auto") as world:`
    """Join the processes a launcher started, or be the only one; a lost peer becomes a PeerLostError."""

    def __init__(self, device: str = "auto") -> None:
        self.device_name = device

    def __enter__(self) -> World:
        size = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        device = choose_device(self.device_name, local)
        self.size = size
        self._joined = size > 1 and not dist.is_initialized()
        if self._joined:
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timedelta(seconds=TIMEOUT_SECONDS))
        return World(rank, size, device)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined and error is None:
            dist.destroy_process_group()
        lost = isinstance(error, RuntimeError) and not isinstance(error, LimnerError)
        if self.size > 1 and lost and _names_a_peer(str(error)):
            reason = " ".join(str(error).split())
            raise PeerLostError(
                f"another process of this run stopped ({reason[:200]}); start it again with `limner resume RUN`"
            ) from error


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto`: this process's GPU where there is one, else the CPU; else what torch understands (cpu, cuda:1, mps)."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
    except RuntimeError:
        raise LimnerError(f"device {name!r} is not known; use auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise LimnerError(
                f"device {name}: this PyTorch sees {count} CUDA devices; use --device cpu, or a GPU build"
            )
        torch.cuda.set_device(device)
    return device


def _names_a_peer(message: str) -> bool:
    signs = ("peer", "Timed out", "timed out", "NCCL", "Gloo", "gloo", "Broken pipe", "Connection reset")
    return any(sign in message for sign in signs)
