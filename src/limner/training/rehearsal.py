"""A process of its own that does updates of a run on made-up images, and says what they took.

`limner.training.preflight` starts it (`python -m limner.training.rehearsal`) and asks; it answers a line of JSON for a
line of JSON. Nothing of the run itself can be changed by it, what it needs is measured from its own beginning, and
where the system ends a process that takes too much memory, it ends this one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch

from limner.data.loader import Loader
from limner.errors import LimnerError
from limner.latents import Labels
from limner.models.outside import import_again
from limner.pixels import to_bytes
from limner.signals import end_with
from limner.training import command  # noqa: F401 - what a run imports takes memory here as well
from limner.training.config import config_from_json
from limner.training.distributed import World
from limner.training.memory import hand_back, is_out_of_memory, peak_bytes, restart_peak
from limner.training.randomness import seed_everything, stream
from limner.training.sheets import generate
from limner.training.trainer import Recipe, Trainer
from limner.types import Attributes, Images

_REPEAT_WITHIN_SECONDS = 1.0


class MadeUpImages:
    """Stands for a `Loader`: uniform noise and the data's attributes, instead of its images."""

    def __init__(self, labels: Labels, device: torch.device) -> None:
        self.labels, self.device = labels, device
        self._rows = None if labels.rows is None else torch.from_numpy(labels.rows).float()

    def batch(self, start: int, stop: int, resolution: int) -> tuple[Images, Attributes | None]:
        images = torch.rand(stop - start, 3, resolution, resolution, device=self.device) * 2 - 1
        if self._rows is None:
            return images, None
        return images, self._rows[torch.arange(start, stop) % len(self._rows)].to(self.device)

    def set_salt(self, salt: int) -> None:
        """There is one order."""


class Rehearsal:
    """The trainer of a run with made-up images.

    Args:
        facts: what `preflight.Rehearsals` sends first.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        given = import_again(facts["model"])  # what the process that asks has imported already
        model_class, config = config_from_json(facts["config"], Path("the run's settings"), given)
        labels = Labels.from_json(facts["labels"])
        self.device = torch.device(facts["device"])
        torch.set_num_threads(facts["threads"])
        seed_everything(config.seed, 0)
        model = model_class(config.model, config.resolution or max(model_class.resolutions), labels)
        recipe = Recipe(
            seed=config.seed,
            batch_size=config.batch_size or model.batch_size,
            bf16=config.precision == "bf16",
            ema_half_life_kimg=config.ema_half_life_kimg,
            ema_rampup=config.ema_rampup,
        )
        loader = cast(Loader, MadeUpImages(labels, self.device))
        self.trainer = Trainer(model, loader, recipe, World(device=self.device))
        for phase in self.trainer.phases:
            self._still(phase.name)

    def updates(self, images_seen: int, batch_size: int, micro_batch: int, *, timed: bool) -> dict[str, Any]:
        """An iteration of the stage at that many images seen, with that batch in parts of `micro_batch`.

        Where it is `timed`, quick ones are done some times more, the first one not counted.
        """
        trainer = self.trainer
        trainer.recipe = dataclasses.replace(trainer.recipe, micro_batch=micro_batch)
        trainer.images_seen = images_seen
        trainer.model.set_images_seen(images_seen)
        hand_back()  # of what larger batches and other stages took
        self._make_room_for_optimizers()
        times: list[float] = []
        effort = 0.0
        peaks = {"": 0}
        while not times or (timed and sum(times) < _REPEAT_WITHIN_SECONDS and len(times) < 4):
            began, computed = time.perf_counter(), time.process_time()
            for name, peak in self._iteration(batch_size).items():
                peaks[name] = max(peaks.get(name, 0), peak)
            times.append(time.perf_counter() - began)
            if self.device.type == "cpu":
                effort = min(times[-1], (time.process_time() - computed) / torch.get_num_threads())
            else:
                effort = times[-1]
        phase = max(peaks, key=lambda name: peaks[name])
        seconds = statistics.median(times[1:] or times)
        return {"peak_bytes": peaks[phase], "phase": phase, "seconds": seconds, "effort_seconds": effort}

    def _iteration(self, batch_size: int) -> dict[str, int]:
        """As the trainer's own, at one stage and without moving on; the peak of memory in each phase."""
        trainer, peaks = self.trainer, {}
        stage = trainer.model.stage(trainer.images_seen)
        for phase in trainer.phases:
            restart_peak(self.device)
            for step in range(phase.steps):
                start = trainer.images_seen + step * batch_size
                trainer.update(phase, start, batch_size, stage.resolution)
            self._finish()
            peaks[phase.name] = peak_bytes(self.device)
        trainer.average.update(trainer.model, trainer.images_seen, batch_size * trainer.steps)
        self._finish()
        return peaks

    def _make_room_for_optimizers(self) -> None:
        """What they keep of every parameter, and a gradient of each: as after an update of every phase."""
        for phase in self.trainer.phases:
            optimizer = self.trainer.optimizers[phase.name]
            for parameter in self.trainer.active(phase).values():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()

    def _still(self, phase: str) -> None:
        """Learning rates of 0: noise must not drive the weights anywhere."""
        for group in self.trainer.optimizers[phase].param_groups:
            group["lr"] = 0.0

    def pictures(self, images_seen: int, count: int) -> dict[str, Any]:
        """That many pictures of the averaged weights, as for the run's sheet."""
        model = self.trainer.average.model
        model.set_images_seen(images_seen)
        latents = model.latents.sample(count, stream(0, 0, "sheet", 0))
        restart_peak(self.device)
        began = time.perf_counter()
        to_bytes(generate(model, latents, self.device)).cpu()
        seconds = time.perf_counter() - began
        return {
            "peak_bytes": peak_bytes(self.device),
            "phase": "pictures",
            "seconds": seconds,
            "effort_seconds": seconds,
        }

    def checkpoint_bytes(self) -> dict[str, Any]:
        """Of the state as it is: weights, their average, the optimizers'."""
        tensors, _ = self.trainer.state()
        return {"bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())}

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def answer(rehearsal: Rehearsal, request: Mapping[str, Any]) -> dict[str, Any]:
    """What came of one request: figures, or `too_much` where memory was out, or what `failed`."""
    what: dict[str, Callable[..., dict[str, Any]]] = {
        "updates": rehearsal.updates,
        "pictures": rehearsal.pictures,
        "checkpoint_bytes": rehearsal.checkpoint_bytes,
    }
    arguments = {name: value for name, value in request.items() if name != "do"}
    try:
        return what[request["do"]](**arguments)
    except Exception as error:
        said = " ".join(str(error).split())
        if is_out_of_memory(error):
            return {"too_much": said}
        return {"failed": f"{type(error).__name__}: {said}" if not isinstance(error, LimnerError) else said}


def main() -> None:
    """Serve until the asker goes away."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    end_with(os.getppid())
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    rehearsal: Rehearsal | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if rehearsal is None:
            try:
                rehearsal = Rehearsal(request)
                reply: dict[str, Any] = {"ready": True}
            except Exception as error:
                too_much = is_out_of_memory(error)
                reply = {
                    "too_much" if too_much else "failed": f"{type(error).__name__}: {' '.join(str(error).split())}"
                }
        else:
            reply = answer(rehearsal, request)
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):
        main()
