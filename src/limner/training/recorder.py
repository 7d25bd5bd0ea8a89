"""What a run leaves behind while it trains: log lines, sample sheets, metrics, checkpoints, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.checkpoint import Checkpoint, checkpoint_name, newest_checkpoint, prune_checkpoints, write_checkpoint
from limner.data.dataset import Dataset
from limner.errors import CheckpointError, DivergedError, ResourceError, StoppedError
from limner.metrics.evaluate import evaluate_model
from limner.program import limner_command
from limner.training.alarms import Alarms
from limner.training.bounds import DIVERGED_TICKS, diverged_losses, diverged_weights
from limner.training.config import TrainConfig
from limner.training.estimate import Estimate
from limner.training.log import RunLog, read_log
from limner.training.memory import is_out_of_memory, peak_bytes
from limner.training.progress import Progress, kimg
from limner.training.report import write_report
from limner.training.sheets import NAME, Sheets, faces_at_once
from limner.training.signals import StopRequested, StopSignals
from limner.training.threads import ThreadMonitor
from limner.training.trainer import NotFiniteError, OutOfBoundsError, Trainer

ROLLBACKS = 3


class Recorder:
    """Called after every iteration on every process; only the first one writes."""

    def __init__(
        self,
        folder: Path,
        config: TrainConfig[Any],
        facts: Mapping[str, Any],
        trainer: Trainer,
        dataset: Dataset,
        log: RunLog | None,
        progress: Progress | None,
        signals: StopSignals,
        threads: ThreadMonitor | None = None,
    ) -> None:
        self.folder, self.config, self.facts = folder, config, facts
        self.trainer, self.dataset, self.world = trainer, dataset, trainer.world
        self.log, self.progress, self.signals, self.threads = log, progress, signals, threads
        self.sheets = Sheets(folder, config.seed, trainer, dataset, config.enlarge)
        self.alarms = Alarms(vars(config.model))
        self.rollbacks = 0
        self.failed_saves = 0
        self._before = trainer.images_seen
        self._sums: dict[str, Tensor] = {}
        self._iterations = 0
        self._diverged: list[str] = []
        """of the newest ticks in a row whose losses were beyond all bounds, what was the matter"""
        self._tick_images, self._tick_time = trainer.images_seen, time.monotonic()
        self._trained_seconds = 0.0

    def after_iteration(self, logs: Mapping[str, Tensor]) -> None:
        """Log, draw, measure and save what is due; stop where a signal asked for it."""
        for name, value in logs.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._iterations += 1
        now = self.trainer.images_seen
        if self.progress:
            self.progress.advance(now)
        if self._due(self.config.tick_kimg):
            self._tick(now)
        pictures, numbers = self._due(self.config.sample_kimg), self._due(self.config.metrics_kimg)
        saving = self._due(self.config.checkpoint_kimg)
        self._before = now
        stopped = self._asked_to_stop()
        if not stopped and (pictures or numbers):
            stopped = self._look(pictures, numbers)
        if stopped:
            self._stop(stopped)
        if saving:
            self.save(scheduled=True)

    def resumed(self, found: Checkpoint, notes: Sequence[str]) -> None:
        """Say from where the run goes on, what was passed over and what was changed."""
        self._trained_seconds = float(found.facts["trained_seconds"])
        self._write("resume", file=f"checkpoints/{found.path.name}", changed=list(notes))
        self._recall_alarms()
        self._note(f"going on from {found.path.name}")
        for note in notes:
            self._warn(note)

    def tell(self, lines: Sequence[str]) -> None:
        """Show lines that are not kept in the log."""
        for line in lines:
            self._note(line)

    def planned(self, estimate: Estimate) -> None:
        """Log what the pre-flight and the measurement of the speed found, and warn of what is odd about the run."""
        for name, event in (("plan", estimate.plan.event()), ("estimate", estimate.event())):
            if event is not None:
                self._write(name, **event)
        for warning in [*estimate.plan.warnings(), *estimate.warnings()]:
            self._warn(warning)

    def begin(self, machine: Mapping[str, Any]) -> None:
        """The state before the first step, so that a rollback or a kill always finds a checkpoint; and its pictures."""
        self._write("start", **machine)
        try:
            self.save(scheduled=False)
        except NotFiniteError as error:
            raise DivergedError(f"{error}: the model starts with such weights; mend its initialization") from error
        stopped = self._asked_to_stop() or self._look(True, False)
        if stopped:
            self._stop(stopped)
        self._restart_clock()

    def end(self) -> None:
        """The last checkpoint, pictures, numbers and report."""
        self.save(scheduled=False)
        stopped = self._look(True, True)
        if stopped:
            self._stop(stopped)
        self._write("end", reason="finished")
        self.world.first_only(lambda still_here: self._report())
        self._obey_late_signal()

    def pause(self) -> None:
        """Stop before the run's goal, as `--stop-at` asks: a checkpoint, pictures and the report."""
        self.save(scheduled=False)
        stopped = self._look(True, False)
        if stopped:
            self._stop(stopped)
        self._write("end", reason=f"stopped at {kimg(self.trainer.images_seen)} kimg, as asked")
        self.world.first_only(lambda still_here: self._report())
        self._note(
            f"stopped at {kimg(self.trainer.images_seen)} of {kimg(self.config.images)} kimg, as asked, and saved; "
            f"go on with: {limner_command()} resume {self.folder}"
        )
        self._obey_late_signal()

    def give_up(self, reason: str) -> None:
        """The run ends here for this process; what was saved last is what it can go on from."""
        self._write("end", reason=reason)
        if self.world.is_first:
            self._report()

    def roll_back(self, error: NotFiniteError) -> None:
        """Back to the last good checkpoint with another order and other latents; give up after three in a row."""
        self.rollbacks += 1
        folder = self.folder / "checkpoints"
        if self.rollbacks > ROLLBACKS:
            self._write("end", reason=f"diverged: {error}")
            self.world.first_only(lambda still_here: self._report())
            raise DivergedError(
                f"{error}; rolling back {ROLLBACKS} times did not help. The last good checkpoint is kept in {folder}; "
                f"try a lower --learning-rate, or --precision fp32"
            )
        checkpoint = newest_checkpoint(folder, self._warn)
        if checkpoint is None:
            raise CheckpointError(f"{folder}: no checkpoint to roll back to after: {error}")
        self._diverged = []
        salt = self.trainer.salt + 1
        self.trainer.load_state(checkpoint.tensors, checkpoint.facts)
        self.trainer.set_salt(salt)
        self._before = self._tick_images = self.trainer.images_seen
        self._sums, self._iterations = {}, 0
        message = f"{error}; rolled back to {checkpoint.images_seen} images and going on with other batches"
        self._write("rollback", message=message)
        self._recall_alarms()
        self._note(message)
        rollbacks = self.rollbacks
        try:
            self.save(scheduled=False)  # with its new salt: a run killed now must not meet the old batches again
        except OutOfBoundsError as again:  # a checkpoint of a version that had no such bound
            self._write("end", reason=f"diverged: {again}")
            self.world.first_only(lambda still_here: self._report())
            raise DivergedError(
                f"{again}, in {checkpoint.path} already; remove the newest checkpoints if an older one is in order, "
                f"or start again with a lower --learning-rate"
            ) from again
        self.rollbacks = rollbacks
        self._restart_clock()

    def save(self, *, scheduled: bool) -> None:
        """A checkpoint of this moment; a scheduled one may fail once without ending the run.

        Raises:
            ResourceError: it could not be written.
            NotFiniteError: a weight is not finite or the run has diverged, so this must not become the newest
                checkpoint.
        """
        self._refuse_not_finite()
        self._refuse_diverged(self.trainer.weight_sizes.measure(self.trainer.average.model), ticks=1)
        different = self.world.differing(self.trainer.model.state_dict().items())
        if different is not None:
            raise CheckpointError(f"tensor {different} is not the same on all processes; nothing was saved")
        tensors, clock = self.trainer.state()
        facts = {**self.facts, **clock, "trained_seconds": self._trained_seconds, "threads": torch.get_num_threads()}
        path = self.folder / "checkpoints" / checkpoint_name(self.trainer.images_seen)

        def write(still_here: Callable[[], None]) -> None:
            try:
                write_checkpoint(path, tensors, facts)
            except ResourceError as error:
                self.failed_saves += 1
                if not scheduled or self.failed_saves > 1:
                    raise
                self._warn(f"{error}; training goes on, but the next save that fails ends it")
                return
            self.failed_saves = 0
            self._prune(path)
            self._write("checkpoint", file=f"checkpoints/{path.name}")
            if scheduled:
                self._report()

        self.world.first_only(write)
        self.rollbacks = 0  # on every process, so that all give up at the same one

    def _prune(self, newest: Path) -> None:
        try:
            prune_checkpoints(newest.parent, self.config.keep_checkpoints, newest)
        except OSError as error:  # too many checkpoints cost nothing but room
            self._warn(f"{newest.parent}: an old checkpoint was not removed ({error.strerror})")

    def _refuse_not_finite(self) -> None:
        bad = self.trainer.not_finite()
        if self.world.any(int(bad is not None)):
            raise NotFiniteError(
                f"tensor {bad or 'of another process'} is not finite at {self.trainer.images_seen} images seen"
            )

    def _refuse_diverged(self, sizes: Mapping[str, float], ticks: int) -> None:
        """Raise OutOfBoundsError for weights beyond their bound, and for losses that were for so many ticks."""
        bad = diverged_weights(sizes) or (self._diverged[-1] if len(self._diverged) >= ticks else None)
        if self.world.any(int(bad is not None)):
            raise OutOfBoundsError(
                f"{bad or 'another process has diverged'} at {self.trainer.images_seen} images seen: training diverges"
            )

    # --- what is due --------------------------------------------------------------------------------------------

    def _due(self, every_kimg: float) -> bool:
        every = max(1, round(every_kimg * 1000))
        return self.trainer.images_seen // every > self._before // every

    def _tick(self, now: int) -> None:
        losses = {name: float(value) / self._iterations for name, value in self._sums.items()}
        seconds = time.monotonic() - self._tick_time
        self._trained_seconds += seconds
        speed = (now - self._tick_images) / max(seconds, 1e-9)
        resolution = self.trainer.model.stage(now).resolution
        sizes = self.trainer.weight_sizes.measure(self.trainer.average.model)
        rates = {p.name: self.trainer.optimizers[p.name].param_groups[0]["lr"] for p in self.trainer.phases}
        self._write(
            "tick",
            seconds=round(self._trained_seconds, 3),
            images_per_second=round(speed, 2),
            losses=losses,
            weights=sizes,
            resolution=resolution,
            learning_rate=rates,
            memory_mb=round(peak_bytes(self.world.device) / 1e6, 1),
        )
        if self.progress:
            self.progress.tick(now, speed, losses, resolution=resolution)
        if self.threads and (changed := self.threads.tick(speed, resolution)):
            torch.set_num_threads(self.threads.threads)
            self._write("threads", threads=self.threads.threads, message=changed)
            self._note(changed)
        self._sums, self._iterations, self._tick_images = {}, 0, now
        self._tick_time = time.monotonic()
        bad = diverged_losses(losses, resolution)
        self._diverged = [*self._diverged, bad] if bad else []
        self._refuse_diverged(sizes, ticks=DIVERGED_TICKS)

    def _look(self, pictures: bool, numbers: bool) -> int:
        """Draw and measure with the averaged weights; returns the number of a signal that interrupted it.

        A picture or a number that cannot be written is a warning: it must not cost the run.

        Raises:
            NotFiniteError: a weight is not finite.
        """
        self._refuse_not_finite()
        began = time.monotonic()

        def work(still_here: Callable[[], None]) -> None:
            def poll() -> None:
                self.signals.poll()
                still_here()

            try:
                if pictures:
                    self._draw()
                if numbers and self.config.metrics:
                    self._measure(poll)
            except StopRequested:
                pass
            except (OSError, ResourceError) as error:
                self._warn(f"not drawn or measured: {error}")
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._warn("not drawn or measured: out of memory")

        self.world.first_only(work)
        self._tick_time += time.monotonic() - began  # pictures and numbers are not training
        return self._asked_to_stop()

    def _draw(self) -> None:
        self._write("sample", **self.sheets.draw())

    def _measure(self, poll: Callable[[], None]) -> None:
        model = self.trainer.average.model
        cards = evaluate_model(
            model,
            self.dataset,
            metrics=self.config.metrics,
            count=self.config.metrics_count,
            seed=self.config.seed,
            split="train",
            weights_name="ema",
            batch_size=faces_at_once(model.resolution),
            images_seen=self.trainer.images_seen,
            poll=poll,
        )
        for card in cards:
            path = self.folder / "metrics" / f"{NAME.format(self.trainer.images_seen)}-{card.name}.json"
            card.write(path)
            self._write("metric", name=card.name, value=card.value, file=f"metrics/{path.name}")
            if self.progress:
                self.progress.metric(card.name, card.value)

    # --- stopping, telling --------------------------------------------------------------------------------------

    def _asked_to_stop(self) -> int:
        return self.world.any(self.signals.number)

    def _stop(self, number: int) -> None:
        self.save(scheduled=False)
        images = self.trainer.images_seen
        self._write("end", reason=f"stopped by signal {number}")
        self.world.first_only(lambda still_here: self._report())
        raise StoppedError(
            f"stopped by signal {number} at {images} images, saved; "
            f"go on with: {limner_command()} resume {self.folder}",
            number,
        )

    def _obey_late_signal(self) -> None:
        """End with a signal's exit code where it came when all was done: whoever sent it may wait for that code."""
        stopped = self._asked_to_stop()
        if stopped:
            raise StoppedError(
                f"signal {stopped} came at the end: all was done and saved at {self.trainer.images_seen} images in "
                f"{self.folder}",
                stopped,
            )

    def _restart_clock(self) -> None:
        self._tick_time = time.monotonic()

    def _report(self) -> None:
        try:
            write_report(self.folder)
        except Exception as error:  # a page must never cost a run
            self._warn(f"report.html was not written: {error}")

    def _write(self, event: str, **fields: Any) -> None:
        if self.log is None:
            return
        images = self.trainer.images_seen
        self.log.write(event, images, **fields)
        for follows in self.alarms.hear({"event": event, "images": images, **fields}):
            self.log.write(images=images, **follows)
            self._note(("warning: " if follows["event"] == "warning" else "") + follows["message"])

    def _recall_alarms(self) -> None:
        """As they were when the state that the run goes on from was saved."""
        if self.log is not None:
            self.alarms = Alarms.after(read_log(self.log.path), vars(self.config.model))

    def _warn(self, message: str) -> None:
        self._write("warning", message=message)
        self._note(f"warning: {message}")

    def _note(self, message: str) -> None:
        if self.progress:
            self.progress.note(message)
