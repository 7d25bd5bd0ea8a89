"""Refuse a path that is not a run's folder: the same words and the same exit code from every verb."""

from __future__ import annotations

from pathlib import Path

from limner.errors import LimnerError
from limner.training.record import read_run


def check_run(folder: Path) -> None:
    """Raise LimnerError (exit code 2) unless a folder is a run's.

    A run that lost some of its files still counts: its settings, its log, its checkpoints' folder or a card is enough.
    Whether it holds a checkpoint that can be read is another question, with another exit code.
    """
    if not folder.exists():
        raise LimnerError(f"{folder}: no such run; give the folder that `limner train` printed")
    if not folder.is_dir() or not _is_known(folder):
        raise LimnerError(
            f"{folder}: not a run (no settings, log, checkpoints or metrics of one in it); "
            f"give the folder that `limner train` printed"
        )


def _is_known(folder: Path) -> bool:
    if (folder / "log.jsonl").exists() or (folder / "checkpoints").is_dir():  # begun, if perhaps nothing more
        return True
    record = read_run(folder)
    return "model_name" in record.config or bool(record.cards)
