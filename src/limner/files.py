"""Files that a command is asked to write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from limner.errors import LimnerError


def refuse_overwriting(files: Iterable[Path], overwrite: bool) -> None:
    """Refuse to replace files that were named by the user, unless asked to; before any work is done.

    What a command writes by default inside a run is the command's own and may be replaced: it is not asked about here.

    Args:
        files: to be written.
        overwrite: whether `--overwrite` was given.

    Raises:
        LimnerError: naming the first file that is there already, and how many more are.
    """
    there = [] if overwrite else [file for file in files if file.exists() or file.is_symlink()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise LimnerError(f"{there[0]}{more}: there already; name another place, or give --overwrite to replace it")
