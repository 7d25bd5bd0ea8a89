"""Numbers that stop being finite: never a step with them, never a checkpoint of them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kill_harness
from kill_harness import BATCH, KNOWN, fork, make_dataset, restless_is_known, tiny_config, wait
from limner.checkpoint import list_checkpoints, newest_checkpoint, read_checkpoint
from limner.data.dataset import open_dataset
from limner.errors import DivergedError
from limner.training import recorder, run, trainer
from limner.training.config import TrainConfig
from limner.training.distributed import World
from limner.training.log import read_events
from limner.training.trainer import NotFiniteError, Trainer

NAMES = tuple(KNOWN)
SITES = ("batch", "loss", "gradient", "weight", "average", "moment")
BAD = {"NaN": float("nan"), "infinity": float("inf")}
ITERATION = 3
"""the one, counted from 0, that goes wrong"""


@pytest.fixture(autouse=True, scope="module")
def _restless() -> Iterator[None]:
    with restless_is_known():
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kill_harness.warm_up()
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


METHODS = {name: getattr(Trainer, name) for name in ("_backward", "batch", "iteration", "update")}


def restore() -> None:
    """Faults are set by replacing methods; put them back."""
    for name, method in METHODS.items():
        setattr(Trainer, name, method)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    restore()


def watched_weights() -> dict[str, torch.Tensor]:
    """From now on, always the weights as they were before the newest update."""
    weights: dict[str, torch.Tensor] = {}

    def watched(self: Trainer, *arguments: Any) -> Any:
        weights.update({key: parameter.detach().clone() for key, parameter in self.model.named_parameters()})
        return METHODS["update"](self, *arguments)

    Trainer.update = watched  # type: ignore[method-assign]
    return weights


def due(self: Trainer, always: bool) -> bool:
    """Whether the fault is to happen now: at one iteration before any rollback, or from it on for ever."""
    images = ITERATION * self.steps * BATCH
    return self.images_seen >= images if always else self.images_seen == images and self.salt == 0


def spoil(tensor: torch.Tensor | None, value: float) -> None:
    """Set its first element."""
    assert tensor is not None
    tensor[(0,) * tensor.ndim] = value


def fault(site: str, phase: str, value: float, always: bool = False) -> None:
    """From now on a training run meets `value` at that site of that phase."""
    batch, backward, iteration = Trainer.batch, Trainer._backward, Trainer.iteration

    def bad_batch(self: Trainer, updated: Any, *arguments: Any) -> Any:
        found = batch(self, updated, *arguments)
        if updated.name == phase and due(self, always):
            found.images[0, 0, 0, 0] = value
        return found

    def bad_backward(self: Trainer, updated: Any, *arguments: Any) -> Any:
        logs = backward(self, updated, *arguments)
        if updated.name == phase and due(self, always):
            if site == "loss":
                logs["loss"] = logs["loss"] + value
            else:
                name = list(self.active(updated))[-1]
                spoil(self.trained[phase][name].grad, value)
        return logs

    def bad_state(self: Trainer) -> Any:
        if due(self, always):
            with torch.no_grad():
                parameter = next(iter(self.trained[phase].values()))
                if site == "weight":
                    spoil(parameter, value)
                elif site == "moment":
                    state = self.optimizers[phase].state[parameter]
                    spoil(next(state[key] for key in ("exp_avg_sq", "square_avg") if key in state), value)
                elif site == "average":
                    spoil(next(self.average.model.parameters()), value)
        return iteration(self)

    if site == "batch":
        Trainer.batch = bad_batch  # type: ignore[method-assign]
    elif site in ("loss", "gradient"):
        Trainer._backward = bad_backward  # type: ignore[method-assign]
    else:
        Trainer.iteration = bad_state  # type: ignore[method-assign]


def all_finite(folder: Path) -> bool:
    """Of every checkpoint, every number but the random states."""
    checkpoints = [read_checkpoint(path) for path in list_checkpoints(folder / "checkpoints")]
    tensors = [t for c in checkpoints for name, t in c.tensors.items() if not name.startswith("random.")]
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())


def train(name: str, dataset: Path, folder: Path, prepare: Callable[[], None], **settings: Any) -> int:
    config = tiny_config(name, dataset, iterations=6, **settings)

    def work() -> None:
        kill_harness.without_report()
        prepare()
        kill_harness.go(folder, name, config)

    return wait(fork(work))


def events_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "log.jsonl") if event["event"] == kind]


# --- V1: caught in the step it happens in -------------------------------------------------------------------------


def before_it_goes_wrong(name: str, dataset: Path) -> tuple[Trainer, Callable[[], None]]:
    """A trainer just before the iteration that is to go wrong, and how to make it so again."""
    one = run._make_trainer(KNOWN[name], tiny_config(name, dataset), open_dataset(dataset), World())
    for _ in range(ITERATION):
        one.iteration()
    tensors, facts = one.state()
    kept = {key: tensor.clone() for key, tensor in tensors.items()}

    def again() -> None:
        restore()
        one.load_state(kept, facts)

    return one, again


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", NAMES)
def test_no_step_is_taken_with_numbers_that_are_not_finite(dataset: Path, name: str, value: float) -> None:
    """Four sites in each phase; a weight may be met by another phase first."""
    one, again = before_it_goes_wrong(name, dataset)
    for site, phase in itertools.product(("batch", "loss", "gradient", "weight"), kill_harness.phases_of(name)):
        if (phase.name, site) == ("generator", "batch"):
            continue  # no generator's loss looks at the reals
        again()
        before = watched_weights()
        fault(site, phase.name, value)
        with pytest.raises(
            NotFiniteError, match=r"\w+: (the loss|the gradient of \S+) is not finite at \d+ images"
        ) as c:
            one.iteration()
        message = f"{site}: {c.value}"
        if site != "weight":
            assert str(c.value).startswith(f"{phase.name}: "), message
        if site == "gradient":
            assert f"the gradient of {list(one.active(phase))[-1]} " in message
        if site == "loss":
            assert "the loss is not finite" in message
        after = dict(one.model.named_parameters())
        assert before.keys() == after.keys()
        assert all(torch.equal(after[key].nan_to_num(7.0), before[key].nan_to_num(7.0)) for key in before), message


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", NAMES)
def test_an_average_or_a_moment_is_seen_by_the_end_of_the_iteration(dataset: Path, name: str, value: float) -> None:
    """What `Recorder` asks before every picture, number and checkpoint names it, where no step met it before."""
    one, again = before_it_goes_wrong(name, dataset)
    for site, phase in itertools.product(("average", "moment"), kill_harness.phases_of(name)):
        again()
        fault(site, phase.name, value)
        try:
            one.iteration()
            found = one.not_finite()
        except NotFiniteError as error:
            found = str(error)
        assert found is not None, f"{phase.name}: {site}"
        if site == "average":
            assert found.startswith("average."), found


KINDS = ("dcgan", "wgan-gp", "restless")
"""with each fault of both values in a whole run; the other models with three"""
RUNS = [(name, site, value) for name in KINDS for site in SITES for value in BAD.values()]
RUNS += [(name, site, BAD["NaN"]) for name in NAMES if name not in KINDS for site in ("batch", "average", "moment")]


@pytest.mark.parametrize(("name", "site", "value"), RUNS)
def test_a_fault_that_passes_is_rolled_back_and_the_run_ends_well(
    dataset: Path, tmp_path: Path, name: str, site: str, value: float
) -> None:
    """V1 and V2, in a real run with a checkpoint every second iteration."""
    folder = tmp_path / "run"
    every = 2 * kill_harness.steps_of(name) * BATCH / 1000
    phase = kill_harness.phases_of(name)[0].name
    code = train(name, dataset, folder, lambda: fault(site, phase, value), checkpoint_kimg=every)
    assert code == 0
    (rollback,) = events_of(folder, "rollback")
    assert "not finite at" in rollback["message"]
    assert f"rolled back to {rollback['images']} images" in rollback["message"]
    assert rollback["images"] == 2 * kill_harness.steps_of(name) * BATCH
    if site in ("average", "moment"):
        wanted = {"average": "tensor average.", "moment": "tensor optimizer."}[site]
        # An infinite second moment freezes its weight; a NaN there reaches the weight in the same step.
        assert wanted in rollback["message"] or (site, value) != ("moment", float("inf"))
    found = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert found is not None
    assert found.images_seen == 6 * kill_harness.steps_of(name) * BATCH
    assert found.facts["salt"] == 1
    assert all_finite(folder)
    assert events_of(folder, "end")[-1]["reason"] == "finished"


def test_a_non_finite_average_draws_no_pictures(dataset: Path, tmp_path: Path) -> None:
    """Pictures and numbers come before the save of the same iteration; both look at finite weights only."""
    folder = tmp_path / "run"
    step = BATCH / 1000
    code = train(
        "dcgan", dataset, folder, lambda: fault("average", "discriminator", float("nan")), sample_kimg=step,
        metrics=("swd",), metrics_kimg=step, metrics_count=4,
    )  # fmt: skip
    assert code == 0
    assert len(events_of(folder, "rollback")) == 1
    assert all(event["value"] == event["value"] for event in events_of(folder, "metric"))
    assert all_finite(folder)


# --- V3: a fault that stays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["batch", "loss", "gradient", "weight", "average", "moment"])
def test_a_fault_that_stays_ends_the_run_with_the_last_good_checkpoint(
    dataset: Path, tmp_path: Path, site: str
) -> None:
    folder = tmp_path / "run"
    code = train("dcgan", dataset, folder, lambda: fault(site, "discriminator", float("nan"), always=True))
    assert code == DivergedError("").exit_code == 7
    rollbacks = events_of(folder, "rollback")
    assert len(rollbacks) == recorder.ROLLBACKS == 3
    assert {event["images"] for event in rollbacks} == {ITERATION * BATCH}
    assert events_of(folder, "end")[-1]["reason"].startswith("diverged: ")
    found = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert found is not None
    assert found.images_seen == ITERATION * BATCH
    assert all_finite(folder)
    assert train("dcgan", dataset, folder, lambda: None) == 0, "with the fault gone the run goes on"
    assert events_of(folder, "end")[-1]["reason"] == "finished"


def test_each_rollback_goes_on_with_other_batches(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    seen = tmp_path / "seen.txt"

    def note() -> None:
        fault("loss", "discriminator", float("nan"), always=True)
        batch = trainer.Trainer.batch

        def noted(self: Trainer, phase: Any, start: int, *arguments: Any) -> Any:
            found = batch(self, phase, start, *arguments)
            if start == ITERATION * BATCH and phase.name == "discriminator":
                with seen.open("a") as file:
                    file.write(f"{self.salt} {found.images.sum().item():.9g} {found.latents.sum().item():.9g}\n")
            return found

        trainer.Trainer.batch = noted  # type: ignore[method-assign]

    assert train("dcgan", dataset, folder, note) == 7
    lines = [line.split() for line in seen.read_text().splitlines()]
    assert [line[0] for line in lines] == ["0", "1", "2", "3"]
    assert len({line[1] for line in lines}) == 4, "other images"
    assert len({line[2] for line in lines}) == 4, "other latents"


def test_progress_between_faults_gives_new_attempts(dataset: Path, tmp_path: Path) -> None:
    """Three in a row end a run; one in every iteration, each overcome, does not."""
    folder = tmp_path / "run"

    def every_iteration_once() -> None:
        backward = Trainer._backward
        met: set[int] = set()

        def once(self: Trainer, phase: Any, start: int, *arguments: Any) -> Any:
            logs = backward(self, phase, start, *arguments)
            if phase.name == "generator" and start not in met:
                met.add(start)
                logs["loss"] = logs["loss"] * float("nan")
            return logs

        Trainer._backward = once  # type: ignore[method-assign]

    assert train("dcgan", dataset, folder, every_iteration_once) == 0
    assert len(events_of(folder, "rollback")) == 6
    assert all_finite(folder)


def test_without_a_checkpoint_to_go_back_to_it_says_so(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def lose_all() -> None:
        fault("loss", "discriminator", float("nan"))
        roll_back = recorder.Recorder.roll_back

        def lost(self: recorder.Recorder, error: NotFiniteError) -> None:
            shutil.rmtree(self.folder / "checkpoints")
            roll_back(self, error)

        recorder.Recorder.roll_back = lost  # type: ignore[method-assign]

    assert train("dcgan", dataset, folder, lose_all) == 4


def test_weights_that_begin_not_finite_end_the_run_at_once(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_class = KNOWN["dcgan"]
    config = tiny_config("dcgan", dataset, 2)
    made = run._make_trainer

    def spoilt(*arguments: Any) -> Trainer:
        one = made(*arguments)
        with torch.no_grad():
            next(one.model.parameters()).fill_(float("nan"))
        return one

    monkeypatch.setattr(run, "_make_trainer", spoilt)
    with pytest.raises(DivergedError, match="initialization"):
        run.train(model_class, config, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []


# --- finite, and absurd -------------------------------------------------------------------------------------------


def hot(name: str, dataset: Path, iterations: int = 6, **settings: Any) -> TrainConfig[Any]:
    """Settings with a learning rate of a million from the first step to the last."""
    model = KNOWN[name].Config(**{**kill_harness.TINY[name], "learning_rate": 1e6})
    return tiny_config(
        name, dataset, iterations, model=model, warmup_kimg=0.0, decay="none", decay_start_kimg=None, **settings
    )


@pytest.mark.parametrize("ticks", [1, 6], ids=["one tick", "six ticks"])
@pytest.mark.parametrize("name", ["dcgan", "wgan", "vae", "began"])
def test_a_learning_rate_of_a_million_does_not_end_well(dataset: Path, tmp_path: Path, name: str, ticks: int) -> None:
    """Also where the run is shorter than a tick: the last save refuses such weights."""
    folder = tmp_path / "run"
    often = {} if ticks > 1 else {"tick_kimg": 100.0, "checkpoint_kimg": 100.0}
    config = hot(name, dataset, **often)
    assert wait(fork(lambda: kill_harness.go(folder, name, config))) == DivergedError("").exit_code == 7
    assert len(events_of(folder, "rollback")) == recorder.ROLLBACKS
    assert events_of(folder, "end")[-1]["reason"].startswith("diverged: ")
    assert "report.html" in {path.name for path in folder.iterdir()}
    found = newest_checkpoint(folder / "checkpoints", pytest.fail)
    assert found is not None
    assert found.images_seen == 0
    weights = [t for key, t in found.tensors.items() if key.startswith("model.") and t.is_floating_point()]
    assert all(float(tensor.abs().max()) < 100 for tensor in weights)


def absurd_losses(first: int, last: int) -> None:
    """From now on the generator's loss is logged as 10¹² in those iterations before any rollback, counted from 0."""
    update = Trainer.update

    def rigged(self: Trainer, phase: Any, *arguments: Any) -> Any:
        logs = update(self, phase, *arguments)
        if phase.name == "generator" and first <= self.images_seen // BATCH <= last and self.salt == 0:
            logs["generator/loss"] = logs["generator/loss"] + 1e12
        return logs

    Trainer.update = rigged  # type: ignore[method-assign]


@pytest.mark.parametrize(("last", "rollbacks"), [(2, 0), (3, 1)])
def test_absurd_losses_are_rolled_back_after_three_ticks(
    dataset: Path, tmp_path: Path, last: int, rollbacks: int
) -> None:
    folder = tmp_path / "run"
    code = train("dcgan", dataset, folder, lambda: absurd_losses(1, last), checkpoint_kimg=100.0)
    assert code == 0
    found = events_of(folder, "rollback")
    assert len(found) == rollbacks
    assert all("generator/loss is 1e+12, beyond ±1e+09 at" in event["message"] for event in found)


def test_no_checkpoint_is_made_of_absurd_losses(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    step = BATCH / 1000
    code = train("dcgan", dataset, folder, lambda: absurd_losses(1, 1), tick_kimg=step, checkpoint_kimg=2 * step)
    assert code == 0
    (rollback,) = events_of(folder, "rollback")
    assert rollback["images"] == 0
    assert all_finite(folder)


def test_a_run_that_diverged_under_an_earlier_version_ends_at_once(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def under_an_earlier_version() -> None:
        kill_harness.without_report()
        recorder.Recorder._refuse_diverged = lambda self, sizes, ticks: None  # type: ignore[method-assign]
        kill_harness.go(folder, "dcgan", hot("dcgan", dataset))

    def go_on() -> None:
        kill_harness.without_report()
        run.resume(folder, KNOWN["dcgan"], hot("dcgan", dataset, iterations=9))

    assert wait(fork(under_an_earlier_version)) == 0
    assert wait(fork(go_on)) == 7
    end = events_of(folder, "end")[-1]
    assert end["reason"].startswith("diverged: discriminator: its largest weight is ")
    assert end["images"] == 6 * BATCH
    assert len(list_checkpoints(folder / "checkpoints")) == 2, "all are kept"


def test_sizes_of_weights_are_measured_by_phase_and_beside_the_start(dataset: Path) -> None:
    one = run._make_trainer(KNOWN["wgan-gp"], tiny_config("wgan-gp", dataset), open_dataset(dataset), World())
    start = one.weight_sizes.measure(one.average.model)
    assert {name.partition("/")[0] for name in start} == {"critic", "generator"}
    assert start["critic/largest"] == start["critic/at_start"]
    assert start["critic/average_factor"] == 1
    largest = max(float(p.detach().abs().max()) for p in one.trained["critic"].values())
    assert start["critic/largest"] == pytest.approx(largest, rel=1e-3)
    with torch.no_grad():
        spoil(next(iter(one.trained["critic"].values())), -1e4)
    after = one.weight_sizes.measure(one.average.model)
    assert after["critic/largest"] == 1e4
    assert after["critic/average_factor"] > 1e3
    assert after["generator/largest"] == start["generator/largest"]
