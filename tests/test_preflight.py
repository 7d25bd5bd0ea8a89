"""Pre-flight: what it finds fits, what it cannot fit is refused, and the run is the same with and without it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.checkpoint import newest_checkpoint
from limner.errors import LimnerError, ResourceError
from limner.latents import NO_LABELS
from limner.models import MODELS, Model
from limner.training import forecast, planning, run
from limner.training.config import TrainConfig, read_config
from limner.training.distributed import World
from limner.training.log import read_events
from limner.training.memory import Budget, is_out_of_memory, parse_size, size
from limner.training.preflight import StageFigures, allowed_sizes, settle_stage, stages_of
from limner.training.rehearsing import Answer, Rehearsals
from limner.training.settling import outline, settle
from limner.training.trainer import Trainer
from tiny import tiny_config

NO_LIMIT = Budget(float("inf"), float("inf"), "all there is")


def growing(**settings: Any) -> TrainConfig[Any]:
    """A run that reaches 16² and goes on there: 5 stages of batches of 8."""
    numbers = {"tick_kimg": 0.016, "sample_kimg": 1.0, "checkpoint_kimg": 1.0, "metrics": ()}
    defaults = {"kimg": 0.096, "resolution": 16, "device": "cpu", "precision": "fp32", **numbers}
    return TrainConfig(model=tiny_config("progan", minibatch_std_group=2), **{**defaults, **settings})


def settled(config: TrainConfig[Any]) -> TrainConfig[Any]:
    return settle(MODELS["progan"], config, None, torch.device("cpu"))


def outlined(name: str, **settings: Any) -> Model:
    config = TrainConfig(model=tiny_config(name, **settings), resolution=16)
    return outline(MODELS[name], config, NO_LABELS)


# --- stages and sizes ---------------------------------------------------------------------------------------------


def test_stages_are_those_between_two_numbers_of_images() -> None:
    config = settled(growing())
    model = outline(MODELS["progan"], config, NO_LABELS)
    whole = stages_of(model, config, 0, 96)
    assert [(s.start, s.stop, s.resolution, s.fading) for s in whole] == [
        (0, 16, 4, False),
        (16, 32, 8, True),
        (32, 48, 8, False),
        (48, 64, 16, True),
        (64, 96, 16, False),
    ]
    rest = stages_of(model, config, 40, 50)
    assert [(s.start, s.stop, s.resolution, s.fading) for s in rest] == [(40, 48, 8, False), (48, 50, 16, True)]
    assert {s.batch_size for s in whole} == {8}


def test_micro_batches_that_train_the_same_model() -> None:
    pairs = outlined("progan", minibatch_std_group=2)
    assert allowed_sizes(pairs, 8, 1, None) == [8, 4, 2]
    assert allowed_sizes(pairs, 8, 1, 6) == [6, 4, 2], "the user's own comes first"
    assert allowed_sizes(pairs, 8, 2, None) == [4, 2]
    assert allowed_sizes(outlined("progan", minibatch_std_group=0), 8, 1, None) == [8]
    assert allowed_sizes(outlined("progan", minibatch_std=False), 5, 1, None) == [5, 3, 2, 1]
    assert allowed_sizes(outlined("dcgan"), 8, 1, None) == [8], "its batch is normalized as a whole"


@pytest.mark.parametrize("group", [2, 3, 4])
def test_no_allowed_size_is_passed_over(group: int) -> None:
    model = outlined("progan", minibatch_std_group=group)
    for batch, processes, most in itertools.product((1, 8, 12, 60, 97, 144, 360), (1, 2), (None, 1, 4, 12, 50)):
        try:
            found = allowed_sizes(model, batch * processes, processes, most)
        except LimnerError:
            continue
        largest, smallest_by_passes = min(most or batch, batch), {}
        for size_ in range(largest, 0, -1):
            if size_ == batch or size_ % group == 0:
                smallest_by_passes[-(-batch // size_)] = size_
        assert set(found) - {largest} == set(smallest_by_passes.values()) - {largest}
        assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("name", ["began", "dcgan", "progan"])
def test_a_batch_of_a_hundred_million_is_divided_in_no_time(name: str) -> None:
    sizes = allowed_sizes(outlined(name), 100_000_000, 1, None)
    assert sizes[0] == 100_000_000
    assert len(sizes) < 30_000


# --- choosing -----------------------------------------------------------------------------------------------------


class Machine:
    """Takes 100 bytes, 10 for each row of a pass, and a second for each row; has so much memory."""

    def __init__(self, memory: float = float("inf"), seconds: float = 0.01) -> None:
        self.memory, self.seconds = memory, seconds
        self.asked: list[tuple[int, int]] = []

    def __call__(self, images_seen: int, batch_size: int, micro_batch: int, timed: bool) -> Answer | None:
        self.asked.append((batch_size, micro_batch))
        peak = 100.0 + 10 * micro_batch
        return (
            Answer(peak, self.seconds * batch_size, "generator", self.seconds * batch_size)
            if peak <= self.memory
            else None
        )


STAGE = StageFigures(start=0, stop=1000, resolution=8, fading=True, batch_size=16)


def test_the_whole_batch_where_it_fits() -> None:
    machine = Machine()
    found = settle_stage(STAGE, [16, 8, 4], 16, 1, machine, NO_LIMIT)
    assert (found.micro_batch, found.peak_bytes, found.phase, found.scaled) == (16, 260, "generator", False)
    assert found.seconds_per_image == pytest.approx(0.01)
    assert found.seconds == pytest.approx(10)


def test_the_largest_part_that_fits_and_nothing_larger_is_tried() -> None:
    machine = Machine(memory=200)
    found = settle_stage(STAGE, [16, 8, 4], 16, 1, machine, Budget(199, 1000, "199 bytes"))
    assert (found.micro_batch, found.peak_bytes, found.scaled) == (8, 180, False)
    assert max(micro for _, micro in machine.asked) == 8
    assert (16, 8) in machine.asked, "the update is tried as it will be"


def test_what_takes_too_long_is_scaled_and_says_so() -> None:
    machine = Machine(seconds=6.0)
    found = settle_stage(STAGE, [16, 8, 4], 16, 1, machine, NO_LIMIT)
    assert machine.asked == [(1, 1), (2, 2)]
    assert found.scaled
    assert (found.micro_batch, found.peak_bytes, found.seconds_per_image) == (16, 260, 6.0)


def test_memory_that_runs_out_is_a_measurement() -> None:
    found = settle_stage(STAGE, [16, 8, 4], 16, 1, Machine(memory=150), Budget(1000, 1000, "a wrong guess"))
    assert (found.micro_batch, found.peak_bytes) == (4, 140)


@pytest.mark.parametrize("memory", [139, 0])
def test_a_stage_that_cannot_fit_says_what_it_needs(memory: int) -> None:
    found = settle_stage(STAGE, [16, 8, 4], 16, 1, Machine(memory=memory), Budget(139, 1000, "139 bytes"))
    assert found.micro_batch == 0
    assert found.peak_bytes == (140 if memory else float("inf"))


# --- the process beside -------------------------------------------------------------------------------------------


def test_memory_that_is_out_is_survived_and_asked_again() -> None:
    """With a limit on its address space, and ended by the system."""
    with Rehearsals(MODELS["progan"], settled(growing()), NO_LABELS, torch.device("cpu")) as rehearsals:
        first = rehearsals.updates(80, 8, 8, timed=True)
        assert first is not None
        assert first.peak_bytes > 50e6
        assert 0 < first.seconds < 60
        assert first.phase in ("discriminator", "generator")
        process = rehearsals._process
        assert process is not None
        taken = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(process.pid, resource.RLIMIT_AS, (taken + 2**26, taken + 2**26))
        assert rehearsals.updates(80, 8192, 8192, timed=False) is None
        assert process.poll() is not None
        again = rehearsals.updates(80, 8, 4, timed=False)
        assert again is not None
        weights = sum(p.numel() for p in outlined("progan", minibatch_std_group=2).parameters())
        assert 4 * 2 * weights < rehearsals.checkpoint_bytes() < 4 * 4 * weights + 20_000
        assert rehearsals._process is not None
        os.kill(rehearsals._process.pid, signal.SIGKILL)
        assert rehearsals.pictures(80, 4) is None


def test_sizes_and_errors() -> None:
    assert parse_size("8GB") == 8 * 10**9
    assert parse_size(" 1.5 gib ") == 1.5 * 2**30
    assert [size(n) for n in (0, 950e6, 8.34e9, 1000e6)] == ["0 bytes", "950 MB", "8.34 GB", "1 GB"]
    for wrong in ("8", "GB", "0GB", "-1GB", "8 GBs"):
        with pytest.raises(LimnerError, match="expected a size"):
            dataclasses.replace(growing(), memory=wrong).check()
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(LimnerError("can't allocate memory"))


# --- a run --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, tiny_dataset_folder: Path) -> Path:
    """A run with a pre-flight."""
    out = tmp_path_factory.mktemp("tried") / "run"
    return run.train(MODELS["progan"], growing(data=tiny_dataset_folder, preflight="on"), out)


def test_a_run_is_the_same_with_and_without(tried: Path, tiny_dataset_folder: Path, tmp_path: Path) -> None:
    plain = run.train(MODELS["progan"], growing(data=tiny_dataset_folder, preflight="off"), tmp_path / "run")
    states = [newest_checkpoint(folder / "checkpoints", print) for folder in (tried, plain)]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0].images_seen == states[1].images_seen == 96
    assert states[0].tensors.keys() == states[1].tensors.keys()
    different = [name for name, value in states[0].tensors.items() if not value.equal(states[1].tensors[name])]
    assert different == []
    assert any(name.startswith("random.") for name in states[0].tensors)
    assert not any(event["event"] == "plan" for event in read_events(plain / "log.jsonl"))


def test_the_plan_is_in_the_log(tried: Path) -> None:
    events = read_events(tried / "log.jsonl")
    plan = next(event for event in events if event["event"] == "plan")
    assert [stage["resolution"] for stage in plan["stages"]] == [4, 8, 8, 16, 16]
    assert [stage["fading"] for stage in plan["stages"]] == [False, True, False, True, False]
    assert all(stage["micro_batch"] == 8 and stage["seconds_per_kimg"] > 0 for stage in plan["stages"])
    saved = max(path.stat().st_size for path in (tried / "checkpoints").iterdir())
    assert plan["checkpoint_mb"] * 1e6 == pytest.approx(saved, abs=100_000)
    assert read_config(tried / "config.json")[1].micro_batches == ()


def test_parts_are_settled_into_the_run_and_kept_by_resume(
    tiny_dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a machine on which a batch of 8 does not fit at 16², and later none of 4."""
    machine = Machine()

    def settle_on(machine: Machine, budget: Budget) -> None:
        monkeypatch.setattr(Rehearsals, "updates", lambda self, *request, **more: machine(*request, **more))
        monkeypatch.setattr(Rehearsals, "pictures", lambda self, *request: Answer(1.0, 1.0))
        monkeypatch.setattr(Rehearsals, "checkpoint_bytes", lambda self: 1000)
        monkeypatch.setattr(planning, "find_budget", lambda *arguments, **more: budget)

    def only_at_16(images_seen: int, batch_size: int, micro_batch: int, timed: bool) -> Answer | None:
        answer = machine(images_seen, batch_size, micro_batch, timed)
        return answer if images_seen >= 48 else Answer(1.0, 1.0)

    settle_on(only_at_16, Budget(150, 1000, "150 bytes"))  # type: ignore[arg-type]
    folder = run.train(MODELS["progan"], growing(data=tiny_dataset_folder, preflight="on"), tmp_path / "run")
    assert read_config(folder / "config.json")[1].micro_batches == (0, 0, 4)

    settle_on(machine, Budget(1000, 1000, "enough"))
    model_class, config = read_config(folder / "config.json")
    run.resume(folder, model_class, dataclasses.replace(config, kimg=0.112))
    assert read_config(folder / "config.json")[1].micro_batches == (0, 0, 4), "as it was, though more would fit"

    settle_on(machine, Budget(130, 1000, "130 bytes"))
    run.resume(folder, model_class, dataclasses.replace(read_config(folder / "config.json")[1], kimg=0.128))
    assert read_config(folder / "config.json")[1].micro_batches == (0, 0, 2)
    resumed = [event for event in read_events(folder / "log.jsonl") if event["event"] == "resume"]
    assert not any("parts" in change for change in resumed[0]["changed"])
    assert any("parts of 2" in change for change in resumed[1]["changed"])

    settle_on(machine, Budget(100, 1000, "100 bytes"))
    with pytest.raises(
        ResourceError, match=r"16², generator phase, a batch of 8 taken 2 of its images at a time needs"
    ):
        run.resume(folder, model_class, dataclasses.replace(read_config(folder / "config.json")[1], kimg=0.2))


def test_parts_are_what_the_trainer_takes(tiny_dataset_folder: Path, tmp_path: Path) -> None:
    """The same weights to rounding, but not to the last bit, as with whole batches."""
    from limner.data.dataset import open_dataset

    sizes: list[int] = []
    dataset = open_dataset(tiny_dataset_folder)
    config = settle(MODELS["progan"], growing(data=tiny_dataset_folder), dataset, torch.device("cpu"))
    trainer = run._make_trainer(
        MODELS["progan"], dataclasses.replace(config, micro_batches=(0, 2, 4)), dataset, World()
    )
    batch = trainer.batch
    trainer.batch = lambda *arguments: sizes.append(arguments[-1] - arguments[-2]) or batch(*arguments)  # type: ignore
    for images_seen, expected in ((0, {8}), (40, {2}), (80, {4})):
        sizes.clear()
        trainer.images_seen = images_seen
        trainer.iteration()
        assert set(sizes) == expected


def test_memory_that_runs_out_within_a_run_ends_it_with_a_way_on(
    tiny_dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where 8² begins to fade in; what is saved is whole, and the run goes on from it."""
    iteration = Trainer.iteration

    def failing(self: Trainer) -> dict[str, torch.Tensor]:
        if self.images_seen >= 16:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 TB")
        return iteration(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "iteration", failing)
        with pytest.raises(ResourceError) as caught:
            run.train(MODELS["progan"], growing(data=tiny_dataset_folder), tmp_path / "run")
    said = str(caught.value)
    assert said.startswith("out of memory at 16 images, 8² fading in, batches of 8: ")
    assert f"`limner resume {tmp_path / 'run'} --memory " in said
    assert caught.value.exit_code == 5
    events = read_events(tmp_path / "run" / "log.jsonl")
    assert [e["reason"] for e in events if e["event"] == "end"] == ["out of memory"]
    run.resume(tmp_path / "run", *read_config(tmp_path / "run" / "config.json"))
    last = newest_checkpoint(tmp_path / "run" / "checkpoints", print)
    assert last is not None
    assert last.images_seen == 96


def test_a_disk_too_small_is_refused_before_anything_is_made(
    tiny_dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast.Plan, "free_disk_bytes", property(lambda self: 1000.0))
    monkeypatch.setattr(Rehearsals, "updates", lambda self, *request: Answer(1.0, 1.0))
    monkeypatch.setattr(Rehearsals, "pictures", lambda self, *request: Answer(1.0, 1.0))
    monkeypatch.setattr(Rehearsals, "checkpoint_bytes", lambda self: 5000)
    with pytest.raises(ResourceError, match=r"disk: checkpoints \(5 kB each\).* 1 kB are free"):
        run.train(MODELS["progan"], growing(data=tiny_dataset_folder, preflight="on"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_when_it_is_done_by_itself() -> None:
    progan, dcgan = MODELS["progan"], MODELS["dcgan"]

    def wanted(config: TrainConfig[Any], model_class: type[Model] = progan, start: int = 0) -> bool:
        return planning.is_tried_first(model_class, outline(model_class, config, NO_LABELS), config, start)

    assert wanted(settled(growing(kimg=10.0)))
    assert not wanted(settled(growing(kimg=9.0)))
    assert not wanted(settled(growing(kimg=12.0)), start=3000)
    assert wanted(settled(growing(kimg=9.0, memory="1GB")))
    assert wanted(settled(growing(kimg=9.0, preflight="on")))
    assert not wanted(settled(growing(kimg=90.0, preflight="off", memory="1GB")))
    plain = TrainConfig(model=tiny_config("dcgan"), resolution=16, kimg=90.0)
    assert not wanted(plain, dcgan)
    assert wanted(dataclasses.replace(plain, memory="1GB"), dcgan)


@pytest.mark.parametrize(("enlarge", "least", "most"), [("lanczos", 0.4, 1.75), ("pixels", 0.1, 0.5)])
def test_sheets_are_estimated_as_large_as_measured(enlarge: str, least: float, most: float) -> None:
    """64 faces of 32² shown at 96² took so many bytes per pixel shown, over models and heads."""
    model = MODELS["dcgan"](MODELS["dcgan"].Config(width=4, latent_dim=6), 32)
    plan = forecast.Plan(model=model, config=TrainConfig(model=model.config, enlarge=enlarge))  # type: ignore[arg-type]
    assert least < plan._face_bytes(32) / 96**2 < most
    large = MODELS["dcgan"](MODELS["dcgan"].Config(width=4, latent_dim=6), 128)
    assert forecast.Plan(model=large, config=plan.config)._face_bytes(128) == 128**2 * 2.2, "nothing is enlarged"
