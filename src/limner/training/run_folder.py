"""Refuse a path that is not a run's folder: the same words and the same exit code from every verb."""

from __future__ import annotations

from pathlib import Path

from limner.errors import LimnerError

_OF_A_RUN = ("config.json", "log.jsonl", "checkpoints", "metrics")
"""a run that lost some of these is still one"""


def check_run(folder: Path) -> None:
    """Raise LimnerError (exit code 2) unless a folder is a run's.

    A run that lost some of its files still counts: one of its settings, its log, its checkpoints or its metrics is
    enough. Whether it holds a checkpoint that can be read is another question, with another exit code.
    """
    if not folder.exists():
        raise LimnerError(f"{folder}: no such run; give the folder that `limner train` printed")
    if not any((folder / name).exists() for name in _OF_A_RUN):
        raise LimnerError(
            f"{folder}: not a run (no config.json, log.jsonl, checkpoints or metrics in it); "
            f"give the folder that `limner train` printed"
        )
