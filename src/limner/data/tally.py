"""What was met while the pictures of a source were decoded, and how many bad ones may be left out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from limner.data.faults import PictureError, printable
from limner.data.near_copies import group_copies
from limner.errors import DataError, LimnerError

SKIPPED_PER_MILLE = 1
"""Most files in a thousand that `--bad-files skip` may leave out (but always one)."""
_LISTED = 10


@dataclass
class Tally:
    """What was met on the way."""

    files: list[tuple[str, str]] = field(default_factory=list)
    """(name, SHA-256) of each row"""
    split_keys: list[str] = field(default_factory=list)
    """the SHA-256 that decides the split of each row"""
    skipped: list[PictureError] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    signatures: list[np.ndarray] = field(default_factory=list)
    """(8, 8, 3) uint8 of each row; none of TFRecords"""
    sizes: list[int] = field(default_factory=list)
    """pixels of each row's photo"""

    @cached_property
    def originals(self) -> np.ndarray:
        """(n,) the row of the largest picture of the photo that each row shows; once all rows are there."""
        if len(self.signatures) < len(self.files):
            return np.arange(len(self.files))
        # Of equal pictures the one with the smallest hash, so that names and order do not matter.
        order = sorted(range(len(self.files)), key=lambda row: (-self.sizes[row], self.files[row][1]))
        return group_copies(np.stack(self.signatures), order)

    def near_copies(self) -> list[tuple[str, str]]:
        """(copy, original) of each picture that is another in another size or encoding, not a copy to the byte."""
        rows = [(row, int(original)) for row, original in enumerate(self.originals) if row != original]
        return [(self.files[a][0], self.files[b][0]) for a, b in rows if self.files[a][1] != self.files[b][1]]

    def duplicates(self) -> int:
        """Files whose bytes another file has as well."""
        return len(self.files) - len({digest for _, digest in self.files})

    def describe(self) -> dict[str, object]:
        """For `dataset.json`."""
        skipped = [{"file": fault.name, "fault": fault.fault} for fault in self.skipped]
        facts = {"duplicates": self.duplicates(), "notes": dict(sorted(self.notes.items())), "skipped": skipped}
        near = len(self.near_copies())
        return {**facts, "near_copies": near} if near else facts

    def first_duplicate(self) -> tuple[str, str]:
        seen: dict[str, str] = {}
        for name, digest in self.files:
            if digest in seen:
                return seen[digest], name
            seen[digest] = name
        raise LookupError("no duplicates")


def allowed_share(bad_files: str) -> Fraction:
    """The share of files that `--bad-files` allows to leave out, 0 to 1.

    Args:
        bad_files: "error" for none, "skip" for one in a thousand, or a share such as "5%".

    Raises:
        LimnerError: it is something else.
    """
    if bad_files in ("error", "skip"):
        return Fraction(SKIPPED_PER_MILLE if bad_files == "skip" else 0, 1000)
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)%", bad_files)
    share = Fraction(match[1]) / 100 if match else Fraction(-1)
    if not 0 <= share <= 1:
        raise LimnerError(
            f"--bad-files {printable(bad_files)}: say error (stop at the first), skip (leave out up to one in a "
            "thousand) or a share such as 5%"
        )
    return share


def most_skipped(share: Fraction, total: int) -> int:
    """How many of `total` files may be left out: the share, rounded down, but at least one if any is allowed."""
    return max(1, int(share * total)) if share else 0


def skip_or_stop(tally: Tally, fault: PictureError, share: Fraction, total: int, source: str) -> None:
    """Count a file as left out.

    Raises:
        DataError: fewer may be left out.
    """
    most = most_skipped(share, total)
    if not most:
        raise DataError(
            f"{fault}. `limner data check {source}` lists all such files, --bad-files 5% leaves up to 5 in 100 out"
        )
    tally.skipped.append(fault)
    if len(tally.skipped) > most:
        listed = "; ".join(f"{printable(f.name)} ({f.fault})" for f in tally.skipped[:_LISTED])
        raise DataError(
            f"more than {most} of {total} files cannot be used: {listed}; that is all --bad-files lets out, so repair "
            f"or remove them (`limner data check {source}` lists all), or allow a larger share, such as "
            f"--bad-files {percent(max(Fraction(5, 100), 2 * share))}"
        )


def percent(share: Fraction) -> str:
    """A share as `--bad-files` takes it, rounded up to a tenth of a percent: "5%", "0.4%"."""
    tenths = min(-(-share.numerator * 1000 // share.denominator), 1000)
    return f"{tenths / 10:g}%"
