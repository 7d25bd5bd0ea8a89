"""The training step: what it changes, by how much, and what it does not depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limner.data.dataset import Dataset
from limner.data.loader import Loader
from limner.errors import CheckpointError, LimnerError
from limner.models import MODELS, Model, Phase
from limner.models.wgan_gp import WGANGP, WGANGPConfig
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.trainer import NotFiniteError, Recipe, Trainer
from limner.types import Batch
from tiny import GROWN, tiny_config

CPU = torch.device("cpu")


def make_trainer(
    dataset: Dataset,
    name: str = "wgan-gp",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    batch_size: int = 8,
    attributes: tuple[str, ...] = ("bright", "warm"),
    settings: dict[str, Any] | None = None,
    change: Callable[[Model], None] = lambda model: None,
    **recipe: Any,
) -> Trainer:
    """A trainer of 16² images with networks of width 4, in float64."""
    loader = Loader(dataset, seed=seed, device=CPU, dtype=dtype, attributes=attributes)
    model_class = MODELS[name]
    torch.manual_seed(seed)
    own = tiny_config(name, batch_size=batch_size, **settings or {})
    model = model_class(own, 16, loader.labels).to(dtype)
    change(model)
    return Trainer(model, loader, Recipe(seed=seed, batch_size=batch_size, **recipe), World())


def state(trainer: Trainer) -> dict[str, Tensor]:
    """A copy of weights, their average and the optimizers' moments."""
    tensors = trainer.state()[0].items()
    return {name: tensor.clone() for name, tensor in tensors if not name.startswith("random.")}


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Absolute, but relative to the largest entry of tensors (squared gradients) that go beyond 1."""
    assert a.keys() == b.keys()
    pairs = [(a[name].double(), b[name].double()) for name in a]
    return max(float((x - y).abs().max() / x.abs().max().clamp_min(1)) for x, y in pairs)


# --- gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_micro_batches_train_what_the_whole_batch_does(tiny_dataset: Dataset, norm: str, micro_batch: int) -> None:
    settings = {"generator_norm": norm, "critic_steps": 2}
    whole = make_trainer(tiny_dataset, settings=settings)
    parts = make_trainer(tiny_dataset, settings=settings, micro_batch=micro_batch)
    for _ in range(3):
        logs, others = whole.iteration(), parts.iteration()
        assert {name: float(value) for name, value in logs.items()} == pytest.approx(
            {name: float(value) for name, value in others.items()}, abs=1e-12
        )
    assert largest_difference(state(whole), state(parts)) <= 1e-12


def test_micro_batches_move_began_as_the_whole_batch_does(tiny_dataset: Dataset) -> None:
    """Its balance k is moved by what all of them logged."""
    whole, parts = (make_trainer(tiny_dataset, "began", micro_batch=size) for size in (8, 3))
    for _ in range(3):
        whole.iteration()
        parts.iteration()
    assert float(whole.model.get_buffer("k")) != 0
    assert largest_difference(state(whole), state(parts)) <= 1e-12


def test_micro_batches_are_refused_where_they_would_train_another_model(tiny_dataset: Dataset) -> None:
    for name in set(MODELS) - {"began", "progan", "hologan"}:  # which have no normalization over images
        with pytest.raises(LimnerError, match=r"micro-batch 4: .* normalizes over the whole batch.*--batch-size"):
            make_trainer(tiny_dataset, name, micro_batch=4)
        make_trainer(tiny_dataset, name, micro_batch=8)  # the whole batch: nothing to refuse
    with pytest.raises(LimnerError, match="micro-batch 0"):
        make_trainer(tiny_dataset, settings={"generator_norm": "none"}, micro_batch=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_phase_gives_gradients_to_nothing_but_what_it_trains(tiny_dataset: Dataset, name: str) -> None:
    trainer = make_trainer(tiny_dataset, name)
    for phase in trainer.phases:
        for parameter in trainer.model.parameters():
            parameter.grad = None
        trainer.model.set_images_seen(GROWN)
        trainer.update(phase, 0, 8, 16)
        wanted = trainer.active(phase)
        for parameter_name, parameter in trainer.model.named_parameters():
            assert (parameter.grad is not None) == (parameter_name in wanted), parameter_name


@pytest.mark.parametrize("name", MODELS)
def test_each_phase_changes_exactly_what_it_trains(tiny_dataset: Dataset, name: str) -> None:
    trainer = make_trainer(tiny_dataset, name)
    modules = {id(module): prefix for prefix, module in trainer.model.named_modules()}
    for phase in trainer.phases:
        own = tuple(modules[id(module)] + "." for module in phase.trains)
        trainer.model.set_images_seen(GROWN)
        idle = tuple(modules[id(module)] + "." for module in trainer.model.idle())
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        trainer.update(phase, 0, 8, 16)
        after = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        for key, value in after.items():
            if "." not in key:  # not a network's: BEGAN's k and what else is moved after a step
                continue
            changed = not torch.equal(value, before[key])
            wanted = key.startswith(own) and not key.startswith(idle)
            if wanted and not changed:
                trainer.model.load_state_dict(before)
                assert loss_is_flat_along(trainer, phase, key), f"{phase.name}: {key} stands still"
                trainer.model.load_state_dict(after)
            else:
                assert changed == wanted, f"{phase.name}: {key}"


def loss_is_flat_along(trainer: Trainer, phase: Phase, key: str) -> bool:
    """Whether a parameter has no gradient because the loss itself stays the same when the parameter is moved a little.

    So it is with a Wasserstein critic's last bias, which cancels in E[D(x~)] - E[D(x)], and with a hinge
    discriminator's, as long as every picture is inside the margin. A loss that forgets a parameter's gradient (by
    `detach`, say) still changes with it.
    """
    parameter = dict(trainer.model.named_parameters()).get(key)
    if parameter is None:  # running statistics, which have no gradient: they have to move
        return False
    state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    start = parameter.detach().clone()
    losses = []
    for step in (-1e-4, 0.0, 1e-4):
        trainer.model.load_state_dict(state)  # running statistics move with each loss
        with torch.no_grad():
            parameter.copy_(start + step)
        losses.append(float(phase.loss(trainer.batch(phase, 0, 8, 16, 0, 8))[0].detach()))
    trainer.model.load_state_dict(state)
    return max(losses) - min(losses) < 1e-12


def test_a_loss_that_forgets_a_parameter_is_found_out(tiny_dataset: Dataset) -> None:
    """The exception above lets no such loss pass: only a critic's last bias changes nothing when it is moved."""
    trainer = make_trainer(tiny_dataset)
    trainer.model.set_images_seen(GROWN)
    critic, generator = trainer.phases
    assert loss_is_flat_along(trainer, critic, "critic.last.bias")
    assert not loss_is_flat_along(trainer, critic, "critic.last.weight")
    trained = [key for key, _ in trainer.model.named_parameters() if key.startswith("generator.")]
    assert not any(loss_is_flat_along(trainer, generator, key) for key in trained)


def test_update_k_looks_at_batch_k(tiny_dataset: Dataset) -> None:
    trainer = make_trainer(tiny_dataset, settings={"critic_steps": 3})
    seen: dict[str, list[Batch]] = {"critic": [], "generator": []}
    inner = trainer.batch

    def batch(phase: Any, *rest: Any) -> Batch:
        made = inner(phase, *rest)
        seen[phase.name].append(made)
        return made

    trainer.batch = batch  # type: ignore[method-assign]
    trainer.iteration()
    expected = make_trainer(tiny_dataset).loader.batch(0, 24, 16)[0]
    assert torch.equal(torch.cat([each.images for each in seen["critic"]]), expected)
    assert torch.equal(seen["generator"][0].images, expected[:8])
    latents = [each.latents[:, :6] for each in (*seen["critic"], *seen["generator"])]
    assert all(not torch.equal(a, b) for i, a in enumerate(latents) for b in latents[:i]), "each has latents of its own"
    for each in seen["critic"]:
        assert each.attributes is not None
        assert torch.equal(each.latents[:, 6:], each.attributes), "fakes have the attributes of the reals beside them"


# --- clock and schedule -------------------------------------------------------------------------------------------


def test_the_clock_counts_the_images_of_the_phase_with_most_steps(tiny_dataset: Dataset) -> None:
    trainer = make_trainer(tiny_dataset, settings={"critic_steps": 5})
    trainer.iteration()
    assert trainer.images_seen == 40
    clocks = []
    trainer.fit(100, lambda logs: clocks.append(trainer.images_seen))
    assert clocks == [80, 120]


def test_schedules_are_closed_forms_of_the_images_seen() -> None:
    def factor(images: int, **settings: Any) -> float:
        return TrainConfig(model=None, kimg=10.0, **settings).learning_rate_factor(images)

    assert [factor(n) for n in (0, 5000, 99999)] == [1, 1, 1]
    assert [factor(n, warmup_kimg=2.0) for n in (0, 500, 2000, 9000)] == [0, 0.25, 1, 1]
    linear = {"decay": "linear", "decay_start_kimg": 6.0}
    assert [factor(n, **linear) for n in (6000, 7000, 8000, 10_000, 20_000)] == pytest.approx([1, 0.75, 0.5, 0, 0])
    assert factor(8000, final_factor=0.2, **linear) == pytest.approx(0.6)
    cosine = {"decay": "cosine", "decay_start_kimg": 6.0}
    expected = [1, 0.5 + 0.5 / 2**0.5, 0.5, 0]
    assert [factor(n, **cosine) for n in (6000, 7000, 8000, 10_000)] == pytest.approx(expected)
    assert factor(10_000, final_factor=0.1, **cosine) == pytest.approx(0.1)
    both = factor(8000, warmup_kimg=16.0, decay="linear", decay_start_kimg=6.0)
    assert both == pytest.approx(0.25), "warm-up and decay multiply"


def test_the_schedule_reaches_every_optimizer(tiny_dataset: Dataset) -> None:
    trainer = make_trainer(
        tiny_dataset, settings={"learning_rate": 0.5}, learning_rate_factor=lambda images: images / 80
    )
    rates = []
    for _ in range(3):
        trainer.iteration()
        rates.append({name: o.param_groups[0]["lr"] for name, o in trainer.optimizers.items()})
    assert rates == [{"critic": rate, "generator": rate} for rate in (0.0, 0.25, 0.5)]


def test_a_learning_rate_of_zero_changes_no_parameter(tiny_dataset: Dataset) -> None:
    trainer = make_trainer(tiny_dataset, learning_rate_factor=lambda images: 0.0)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.iteration()
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())


# --- what the result depends on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_weights(tiny_dataset: Dataset, name: str) -> None:
    a, b, other = (make_trainer(tiny_dataset, name, dtype=torch.float32, seed=seed) for seed in (0, 0, 1))
    for trainer in (a, b, other):
        trainer.fit(24, lambda logs: None)
    assert largest_difference(state(a), state(b)) == 0
    assert largest_difference(state(a), state(other)) > 0


@pytest.mark.parametrize("name", MODELS)
def test_global_random_numbers_play_no_part(tiny_dataset: Dataset, name: str) -> None:
    a, b = (make_trainer(tiny_dataset, name) for _ in range(2))
    for step, trainer in enumerate((a, b)):
        torch.manual_seed(step)
        trainer.fit(24, lambda logs: None)
    assert largest_difference(state(a), state(b)) == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_state_taken_up_goes_on_exactly(tiny_dataset: Dataset, name: str) -> None:
    whole = make_trainer(tiny_dataset, name, dtype=torch.float32)
    whole.fit(40, lambda logs: None)
    tensors, facts = whole.state()
    kept = {key: tensor.clone() for key, tensor in tensors.items()}
    whole.fit(120, lambda logs: None)
    other = make_trainer(tiny_dataset, name, dtype=torch.float32, seed=0, change=lambda m: m.apply(_zero))
    other.load_state(kept, facts)
    other.fit(120, lambda logs: None)
    assert other.images_seen == whole.images_seen
    assert largest_difference(state(whole), state(other)) == 0


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)


def test_a_state_of_another_model_is_refused_by_name(tiny_dataset: Dataset) -> None:
    tensors, facts = make_trainer(tiny_dataset).state()
    with pytest.raises(CheckpointError, match=r"tensor model\.\S+ is \[.*\], this model's is \["):
        make_trainer(tiny_dataset, attributes=()).load_state(tensors, facts)


def test_salt_changes_latents_and_order(tiny_dataset: Dataset) -> None:
    plain, salted = make_trainer(tiny_dataset), make_trainer(tiny_dataset)
    salted.set_salt(1)
    phase = plain.phases[0]
    a, b = (trainer.batch(phase, 0, 8, 16, 0, 8) for trainer in (plain, salted))
    assert not torch.equal(a.images, b.images)
    assert not torch.equal(a.latents[:, :6], b.latents[:, :6])
    assert salted.state()[1]["salt"] == 1


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_stays_close_to_float32_and_keeps_its_weights(tiny_dataset: Dataset, name: str) -> None:
    exact = make_trainer(tiny_dataset, name, dtype=torch.float32)
    rough = make_trainer(tiny_dataset, name, dtype=torch.float32, bf16=True)
    start = {key: p.detach().clone() for key, p in exact.model.named_parameters()}
    logs, others = exact.iteration(), rough.iteration()
    for key, value in logs.items():
        assert others[key].dtype == torch.float32
        assert float(others[key]) == pytest.approx(float(value), rel=0.05, abs=0.05), key
    assert not all(torch.equal(p, q) for p, q in zip(exact.model.parameters(), rough.model.parameters(), strict=True))
    kept = [tensor.dtype for tensor in rough.model.state_dict().values() if tensor.is_floating_point()]
    assert set(kept) == {torch.float32}
    both = zip(exact.model.named_parameters(), rough.model.parameters(), strict=True)
    moves = [(p - start[key], q - start[key]) for (key, p), q in both]
    cosine = torch.cosine_similarity(*(torch.cat([move[k].flatten() for move in moves]) for k in range(2)), dim=0)
    assert cosine.item() > 0.9


# --- refusals -----------------------------------------------------------------------------------------------------


def test_an_infinite_gradient_is_named_and_no_step_is_taken(tiny_dataset: Dataset) -> None:
    trainer = make_trainer(tiny_dataset)
    trainer.iteration()
    with torch.no_grad():
        trainer.model.get_parameter("critic.last.weight")[0, 0, 0, 0] = float("nan")
    before = state(trainer)
    with pytest.raises(NotFiniteError, match=r"critic: the gradient of critic\.\S+ is not finite at 40 images seen"):
        trainer.iteration()
    after = state(trainer)
    assert all(torch.equal(after[name].nan_to_num(7), before[name].nan_to_num(7)) for name in before)
    assert trainer.not_finite() == "critic.last.weight"
    assert trainer.images_seen == 40


def test_a_batch_of_none_is_refused(tiny_dataset: Dataset) -> None:
    with pytest.raises(LimnerError, match="batch size 0"):
        make_trainer(tiny_dataset, batch_size=0)


def test_a_phase_must_train_parts_of_its_model(tiny_dataset: Dataset) -> None:
    class Stray(WGANGP):
        def phases(self) -> Any:
            (critic, *_) = super().phases()
            return (type(critic)(**{**critic.__dict__, "trains": (nn.Linear(2, 2),)}),)

    loader = Loader(tiny_dataset, seed=0, device=CPU)
    with pytest.raises(LimnerError, match="phase critic trains a module that is not part of its model"):
        Trainer(Stray(WGANGPConfig(width=4), 16), loader, Recipe(batch_size=8), World())
