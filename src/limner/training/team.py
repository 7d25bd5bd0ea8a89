"""The processes of a launcher as one team that measures: each makes its batches, the first one gets them all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from limner.errors import LimnerError, PeerLostError
from limner.metrics.rows import Rows
from limner.training.distributed import World

_HEADER_BYTES = 4096
_TROUBLE_CHARACTERS = 600


class WorldTeam:
    """`limner.metrics.rows.Team` over a process group, or of one process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rank, self.size = world.rank, world.size

    def agree(self, flag: bool) -> bool:
        """The first process's flag, on all of them."""
        return bool(self._world.any(int(flag and self.rank == 0)))

    def gather(self, work: Callable[[], Rows | None]) -> list[Rows]:
        """Do `work` on every process; the first one gets what came of it, in rank order.

        Raises:
            Exception: what `work` raised on this process.
            PeerLostError: it raised on another one; the message is that process's.
        """
        try:
            rows, trouble = work(), None
        except Exception as error:
            if self.size == 1:
                raise
            rows, trouble = None, error
        if self.size == 1:
            return [] if rows is None else [rows]
        headers = self._exchange_headers(rows, trouble)
        if trouble is not None:
            raise trouble
        for rank, header in enumerate(headers):
            if header["trouble"] is not None:
                raise PeerLostError(f"process {rank} of {self.size} ended: {header['trouble']}")
        return self._collect(rows, headers)

    def _exchange_headers(self, rows: Rows | None, trouble: Exception | None) -> list[dict[str, Any]]:
        """What each process has: shapes and types, or what went wrong, as JSON in a tensor of fixed size."""
        parts = {} if rows is None else {name: (_kind(part), list(part.shape)) for name, part in rows.items()}
        text = None if trouble is None else (" ".join(str(trouble).split()) or type(trouble).__name__)
        encoded = json.dumps({"parts": parts, "trouble": text and text[:_TROUBLE_CHARACTERS]}).encode()
        if len(encoded) > _HEADER_BYTES:
            raise LimnerError(f"a batch of {len(parts)} parts cannot be announced in {_HEADER_BYTES} bytes")
        header = torch.zeros(_HEADER_BYTES, dtype=torch.uint8)
        header[: len(encoded)] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
        everyone = self._world.gather(header.to(self._world.device))
        return [json.loads(bytes(one.cpu().numpy()).rstrip(b"\0")) for one in everyone]

    def _collect(self, rows: Rows | None, headers: list[dict[str, Any]]) -> list[Rows]:
        """Send everyone's rows to the first process, which gets no more of them than there are."""
        found: list[dict[str, Tensor]] = [{} for _ in headers]
        for name in next((header["parts"] for header in headers if header["parts"]), {}):
            for rank, part in self._part(name, rows, [header["parts"].get(name) for header in headers]):
                found[rank][name] = part
        return [parts for parts in found if parts]

    def _part(
        self, name: str, rows: Rows | None, layouts: list[tuple[str, list[int]] | None]
    ) -> list[tuple[int, Tensor]]:
        """One part of everyone's rows: padded to the longest on the way, cut again on arrival."""
        known = [layout for layout in layouts if layout is not None]
        dtype, (_, *shape) = getattr(torch, known[0][0]), known[0][1]
        longest = max(layout[1][0] for layout in known)
        padded = torch.zeros(longest, *shape, dtype=dtype, device=self._world.device)
        if rows is not None:
            padded[: len(rows[name])] = rows[name].to(self._world.device)
        everyone = [torch.empty_like(padded) for _ in layouts] if self.rank == 0 else None
        dist.gather(padded, everyone, dst=0)
        if everyone is None:
            return []
        return [
            (rank, everyone[rank][: layout[1][0]].cpu()) for rank, layout in enumerate(layouts) if layout is not None
        ]


def _kind(part: Tensor) -> str:
    return str(part.dtype).removeprefix("torch.")
