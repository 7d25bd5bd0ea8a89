"""Batches of images as the metrics look at them, made by one process or dealt to several.

However many processes there are, the metrics live in the first one and are fed the same batches in the same order, so
that no number depends on how many there were: nothing is padded, nothing is seen twice, no sum is split differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor

Rows: TypeAlias = Mapping[str, Tensor]
"""the same n images under several names, on the CPU: "images" uint8 [n, r, r, 3], "features" float32 [n, d], "logits"
[n, k] of the extractor, "wanted" [n, a] attributes that the fakes were asked to have, "codes" int64 [n, c] they were
made with, "reconstructed" uint8 [n, r, r, 3] what a model that encodes photos makes of the reals, "pose" [n, 3] radians
and "identity" [n, e] as a probe reads them"""

T = TypeVar("T")


@runtime_checkable
class Team(Protocol):
    """The processes that measure together: this one's place among them, and the two things they do together."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def agree(self, flag: bool) -> bool:
        """The first process's flag, on all of them."""

    def gather(self, work: Callable[[], Rows | None]) -> list[Rows]:
        """Do `work` on every process; the first one gets what came of it, in rank order, without what was None.

        The others get an empty list. Where one process's work raises, all of them raise.
        """


class Alone:
    """The team of one."""

    rank = 0
    size = 1

    def agree(self, flag: bool) -> bool:
        """Its own."""
        return flag

    def gather(self, work: Callable[[], Rows | None]) -> list[Rows]:
        """What the only process made."""
        rows = work()
        return [] if rows is None else [rows]


def deal(batches: Sequence[T], work: Callable[[T], Rows], team: Team, poll: Callable[[], None]) -> Iterator[Rows]:
    """Batch k is the work of process k mod size; the first process gets all of them, in the order of `batches`."""
    for start in range(0, len(batches), team.size):
        place = start + team.rank
        own = batches[place] if place < len(batches) else None
        for rows in team.gather(lambda own=own: None if own is None else work(own)):  # type: ignore[misc]
            poll()
            yield rows
        if team.rank:
            poll()
