"""Asking the process that does updates on made-up images (`limner.training.rehearsal`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

from limner.errors import LimnerError, ResourceError
from limner.latents import Labels
from limner.models import Model
from limner.models.outside import import_path
from limner.training.config import TrainConfig, config_to_json


@dataclass(frozen=True)
class Answer:
    """What an iteration took."""

    peak_bytes: float
    seconds: float
    phase: str = ""
    effort_seconds: float = 0.0
    """what `seconds` would have been had nobody else wanted the cores"""


class Rehearsals:
    """Asks a process that it starts where there is none, and again after the system ended it; a context manager."""

    def __init__(
        self, model_class: type[Model], config: TrainConfig[Any], labels: Labels, device: torch.device
    ) -> None:
        self._facts = {
            "config": config_to_json(model_class, config),
            "model": import_path(model_class),
            "labels": labels.to_json(),
            "device": str(device),
            "threads": torch.get_num_threads(),
        }
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Rehearsals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def updates(self, images_seen: int, batch_size: int, micro_batch: int, timed: bool) -> Answer | None:
        """An iteration, some times over where it is `timed`; None where that takes more memory than there is."""
        sizes = {"images_seen": images_seen, "batch_size": batch_size, "micro_batch": micro_batch}
        return self._figures(do="updates", **sizes, timed=timed)

    def pictures(self, images_seen: int, count: int) -> Answer | None:
        """That many pictures at once; None where that takes more memory than there is."""
        return self._figures(do="pictures", images_seen=images_seen, count=count)

    def checkpoint_bytes(self) -> int:
        """Of the run's state at the stage last tried."""
        reply = self._ask({"do": "checkpoint_bytes"})
        return 0 if reply is None else int(reply["bytes"])

    def _figures(self, **request: Any) -> Answer | None:
        reply = self._ask(request)
        return (
            None
            if reply is None
            else Answer(float(reply["peak_bytes"]), reply["seconds"], reply["phase"], reply["effort_seconds"])
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where memory was out, whoever noticed."""
        if self._process is None:
            self._process = _start()
            if self._tell(self._facts) is None:
                return None
        return self._tell(request)

    def _tell(self, message: dict[str, Any]) -> dict[str, Any] | None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        reply: dict[str, Any] = json.loads(line) if line else {"ended": process.wait()}
        if "failed" in reply:
            raise LimnerError(f"pre-flight: {reply['failed']}; to train without it: --preflight off")
        if "ended" in reply or "too_much" in reply:
            self._end()  # what is left of one that ran out of memory would count in what it is asked next
            if reply.get("ended", -9) != -9:
                raise ResourceError(
                    f"pre-flight: its process ended with exit code {reply['ended']} and no word; "
                    f"to train without it: --preflight off"
                )
            return None
        return reply

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _start() -> subprocess.Popen[str]:
    alone = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    environment = {name: value for name, value in os.environ.items() if name not in alone}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "limner.training.rehearsal"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C is the run's to hear
    )
