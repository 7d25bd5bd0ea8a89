"""The training step: the only place where anything is differentiated or updated.

    freeze → loss → backward → average gradients → step → after_step → average of weights

The clock is the number of images seen. An iteration shows `batch_size x (most steps of any phase)` of them; update k of
every phase looks at the iteration's k-th batch, each phase with latents of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from limner.checkpoint import Facts
from limner.data.loader import Loader
from limner.errors import CheckpointError, LimnerError
from limner.layers.batch_norm import BatchNorm
from limner.models.base import Model, Phase
from limner.training.bounds import WeightSizes
from limner.training.distributed import World
from limner.training.ema import WeightAverage
from limner.training.randomness import capture_states, restore_states, stream
from limner.types import Batch, Draws


class NotFiniteError(ArithmeticError):
    """A loss or gradient was infinite or not a number; the step was not taken."""


class OutOfBoundsError(NotFiniteError):
    """Weights or losses are finite, but beyond what any run in order reaches (`limner.training.bounds`)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, whatever the model."""

    seed: int = 0
    batch_size: int
    """images per update, over all processes"""
    micro_batch: int | None = None
    """images per forward and backward pass of a process; None: all at once"""
    micro_batches: Mapping[int, int] = field(default_factory=dict)
    """the same by resolution, where it is another"""
    bf16: bool = False
    ema_half_life_kimg: float = 10.0
    ema_rampup: float = 0.05
    learning_rate_factor: Callable[[int], float] = lambda images_seen: 1.0
    """of images seen"""


class Trainer:
    """A model in training: its weights, their average, its optimizers and its clock."""

    def __init__(self, model: Model, loader: Loader, recipe: Recipe, world: World) -> None:
        self.model = channels_last(model.to(world.device)).train()
        self.loader, self.recipe, self.world = loader, recipe, world
        world.same_start(self.model)
        self.average = WeightAverage(self.model, recipe.ema_half_life_kimg, recipe.ema_rampup)
        self.phases = self.model.phases()
        self.trained = {phase.name: _trained_parameters(self.model, phase) for phase in self.phases}
        self.weight_sizes = WeightSizes(self.trained)
        self.optimizers = {p.name: p.optimizer.build(list(self.trained[p.name].values())) for p in self.phases}
        self.steps = max(phase.steps for phase in self.phases)
        self.images_seen = 0
        self.salt = 0
        self._refuse_impossible_batches()

    def fit(self, images: int, after_iteration: Callable[[Mapping[str, Tensor]], None]) -> None:
        """Iterate until `images` have been seen; `after_iteration` gets the logs, and may raise to stop."""
        while self.images_seen < images:
            after_iteration(self.iteration())

    def iteration(self) -> dict[str, Tensor]:
        """Every phase once, in order; returns what they log as `phase/name`, on the device."""
        self.model.set_images_seen(self.images_seen)
        stage = self.model.stage(self.images_seen)
        batch_size = stage.batch_size or self.recipe.batch_size
        logs = self.update_all(batch_size, stage.resolution)
        images = batch_size * self.steps
        self.images_seen += images
        self.average.update(self.model, self.images_seen, images)
        self.average.model.set_images_seen(self.images_seen)
        if self.model.stage(self.images_seen).era != stage.era:  # here, so that what is saved has forgotten already
            for optimizer in self.optimizers.values():
                optimizer.state.clear()
        return logs

    def update_all(self, batch_size: int, resolution: int) -> dict[str, Tensor]:
        """Every update of one iteration, in order, without moving the clock; returns what they log."""
        factor = self.recipe.learning_rate_factor(self.images_seen)
        logs: dict[str, Tensor] = {}
        for phase in self.phases:
            for group in self.optimizers[phase.name].param_groups:
                group["lr"] = phase.optimizer.learning_rate * factor * phase.rate()
            for step in range(phase.steps):
                logs |= self.update(phase, self.images_seen + step * batch_size, batch_size, resolution)
        return logs

    def update(self, phase: Phase, start: int, batch_size: int, resolution: int) -> dict[str, Tensor]:
        """One step of one phase on images start … start + batch_size - 1 of the run."""
        parameters = self.active(phase)
        self._hold_fixed_all_but(parameters)
        optimizer = self.optimizers[phase.name]
        optimizer.zero_grad(set_to_none=True)
        logs = self._backward(phase, start, batch_size, resolution)
        for parameter in parameters.values():
            if parameter.grad is None:  # every process must average the same tensors
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters.values() if p.grad is not None]
        self.world.average_([*gradients, *logs.values()])
        self._refuse_not_finite(phase, logs, dict(zip(parameters, gradients, strict=True)), start)
        optimizer.step()
        phase.after_step(logs)
        return {f"{phase.name}/{name}": value for name, value in logs.items()}

    def _backward(self, phase: Phase, start: int, batch_size: int, resolution: int) -> dict[str, Tensor]:
        """Gradients of this process's rows, in micro-batches whose weighted sum is the mean over all of them."""
        own = batch_size // self.world.size
        first = self.world.rank * own
        size = self.recipe.micro_batches.get(resolution, self.recipe.micro_batch) or own
        logs: dict[str, Tensor] = {}
        for low in range(first, first + own, size):
            high = min(low + size, first + own)
            share = (high - low) / own
            batch = self.batch(phase, start, batch_size, resolution, low, high)
            with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                loss, parts = phase.loss(batch)
            (loss * share).backward()
            for name, value in {"loss": loss, **parts}.items():
                logs[name] = logs.get(name, 0) + value.detach().to(loss.dtype) * share
        return logs

    def batch(self, phase: Phase, start: int, batch_size: int, resolution: int, low: int, high: int) -> Batch:
        """Rows low … high - 1 of a global batch: the same whoever computes them."""
        images, attributes = self.loader.batch(start + low, start + high, resolution)
        rng = stream(self.recipe.seed, self.salt, phase.name, start)
        latents = self.model.latents.sample(batch_size, rng)[low:high].to(images.device, images.dtype)
        if attributes is not None and "attributes" in self.model.latents:
            latents = self.model.latents.replace(latents, attributes=attributes)
        draws = Draws(rng, batch_size, low, high, images.device, images.dtype)
        return Batch(images, latents, draws, attributes)

    def active(self, phase: Phase) -> dict[str, nn.Parameter]:
        """The phase's parameters that have a part at the present stage; the others' optimizer does not count the step.

        So a layer that begins to train late begins as all did at first, with Adam's moments unbiased.
        """
        idle = {id(parameter) for module in self.model.idle() for parameter in module.parameters()}
        return {name: p for name, p in self.trained[phase.name].items() if id(p) not in idle}

    def _hold_fixed_all_but(self, parameters: Mapping[str, nn.Parameter]) -> None:
        trained = set(map(id, parameters.values()))
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in trained)

    def _refuse_not_finite(
        self, phase: Phase, logs: Mapping[str, Tensor], gradients: Mapping[str, Tensor], start: int
    ) -> None:
        norm = nn.utils.get_total_norm(gradients.values())
        if math.isfinite(float(norm + logs["loss"])):
            return
        bad = next((name for name, gradient in gradients.items() if not bool(gradient.isfinite().all())), None)
        where = f"the gradient of {bad}" if bad else "the loss"
        raise NotFiniteError(
            f"{phase.name}: {where} is not finite at {start} images seen (loss {float(logs['loss']):g})"
        )

    def _refuse_impossible_batches(self) -> None:
        stages = [self.model.stage(images) for images in self.model.milestones()]
        recipe = self.recipe
        for batch_size, resolution in dict.fromkeys((s.batch_size or recipe.batch_size, s.resolution) for s in stages):
            micro_batch = recipe.micro_batches.get(resolution, recipe.micro_batch)
            refuse_batch(self.model, batch_size, micro_batch, self.world.size)

    # --- state ----------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], Facts]:
        """Everything needed to go on exactly. Collective: every process calls it."""
        tensors = self._tensors()
        for kind, value in capture_states(self.world.device).items():
            for rank, own in enumerate(self.world.gather(value)):
                tensors[f"random.{rank}.{kind}"] = own
        return tensors, {"images_seen": self.images_seen, "salt": self.salt}

    def _tensors(self) -> dict[str, Tensor]:
        """What training computes: the weights, their average and the optimizers' moments."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.model.state_dict().items()}
        for phase, optimizer in self.optimizers.items():
            for name, parameter in self.trained[phase].items():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{phase}.{name}.{key}"] = value
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up a state; refuses one that does not fit this model, naming the first tensor that differs."""
        load_weights(self.model, tensors, "model.")
        load_weights(self.average.model, tensors, "average.")
        for phase, optimizer in self.optimizers.items():
            _load_optimizer(optimizer, self.trained[phase], tensors, f"optimizer.{phase}.")
        own = f"random.{self.world.rank}."
        states = {name.removeprefix(own): tensor for name, tensor in tensors.items() if name.startswith(own)}
        if states:  # a run may go on with more processes than it had
            restore_states(states, self.world.device)
        self.images_seen = int(facts["images_seen"])
        self.set_salt(int(facts["salt"]))
        self.model.set_images_seen(self.images_seen)
        self.average.model.set_images_seen(self.images_seen)

    def set_salt(self, salt: int) -> None:
        """Other orders and latents from here on: after a rollback, so that what diverged is not replayed."""
        self.salt = salt
        self.loader.set_salt(salt)

    def not_finite(self) -> str | None:
        """The first tensor of the weights, their average or the optimizers' that holds an infinity or a NaN."""
        for name, tensor in self._tensors().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return name.removeprefix("model.")
        return None


def channels_last(model: Model) -> Model:
    """The model, its kernels laid out as convolutions of many channels want them."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return model


def refuse_batch(model: Model, batch_size: int, micro_batch: int | None, processes: int) -> None:
    """Raise LimnerError where a batch of that many images cannot be divided so without training another model."""
    if batch_size < 1 or batch_size % processes:
        raise LimnerError(
            f"batch size {batch_size} cannot be shared by {processes} processes; use a multiple of {processes}"
        )
    own, together = batch_size // processes, model.rows_together
    if micro_batch is not None and micro_batch < 1:
        raise LimnerError(f"micro-batch {micro_batch}: it is a number of images; use 1 or more")
    parts = micro_batch is not None and micro_batch < own
    if parts and any(isinstance(module, BatchNorm) for module in model.modules()):
        raise LimnerError(
            f"micro-batch {micro_batch}: {model.name} normalizes over the whole batch, so parts of it would train "
            f"another model; lower --batch-size instead, or choose another normalization where the model has one"
        )
    size = micro_batch if parts and micro_batch is not None else own
    if size < batch_size and (together == 0 or size % together):
        what = f"micro-batch {micro_batch}" if parts else f"batch size {batch_size} over {processes} processes"
        wanted = f"a multiple of {together} for each" if together else "all of them in one part"
        raise LimnerError(
            f"{what}: {model.name} compares {together or 'all'} images of a batch with each other, so other parts of "
            f"it would train another model; use {wanted}"
        )


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Copy the tensors named `prefix` + name into a module; shapes and names must match exactly."""
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    own = model.state_dict()
    for name in sorted(own.keys() ^ found.keys()):
        where = "is missing from the checkpoint" if name in own else "is not in this model"
        raise CheckpointError(f"checkpoint: tensor {prefix}{name} {where}; it belongs to another model or settings")
    for name, tensor in own.items():
        if tensor.shape != found[name].shape:
            had, has = list(found[name].shape), list(tensor.shape)
            raise CheckpointError(
                f"checkpoint: tensor {prefix}{name} is {had}, this model's is {has}; other settings made it"
            )
    model.load_state_dict(found)


def _load_optimizer(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], prefix: str
) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for index, (name, parameter) in enumerate(trained.items()):
        own = f"{prefix}{name}."
        # The rest after the name has no dot, so `weight` does not pick up `weight.x`.
        found = {key.removeprefix(own): value for key, value in tensors.items() if key.startswith(own)}
        if found:
            states[index] = {key: _laid_out_like(parameter, found[key]) for key in found if "." not in key}
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy whose elements lie in memory in the parameter's order.

    A file holds row-major tensors and weights are channels-last; PyTorch's fused Adam walks both as they lie, on the
    CPU without looking whether the orders agree, and would pair every weight with another weight's moments.
    """
    if value.shape != parameter.shape:  # the count of steps
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _trained_parameters(model: nn.Module, phase: Phase) -> dict[str, nn.Parameter]:
    """The phase's parameters by their names in the model."""
    wanted = {id(parameter) for module in phase.trains for parameter in module.parameters()}
    found = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}
    if len(found) < len(wanted):
        raise LimnerError(f"phase {phase.name} trains a module that is not part of its model")
    return found
