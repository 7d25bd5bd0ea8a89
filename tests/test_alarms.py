"""Collapse, divergence and dead players are said once, in time, and never of a run in order."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.data.dataset import Dataset
from limner.models import MODELS, Encodes
from limner.training import bounds, run, sheets, watches
from limner.training.alarms import GOOD_READINGS, Alarms, active
from limner.training.config import TrainConfig
from limner.training.log import read_log
from limner.training.trainer import Trainer
from limner.training.variety import Variety, apart
from tiny import tiny_config

Event = dict[str, Any]
NOISE = np.random.default_rng(0)


def ticks(losses: Callable[[float], Mapping[str, float]], kimg: int, start: int = 1) -> Iterator[Event]:
    """A tick each 1,000 images, from `start` on, of what the losses are at so many thousands."""
    for at in range(start, start + kimg):
        yield {"event": "tick", "images": 1000 * at, "losses": dict(losses(at))}


def noisy(value: float) -> float:
    return value * float(NOISE.uniform(0.9, 1.1))


def dcgan(at: float) -> dict[str, float]:
    real = 0.75 + 0.1 * math.sin(at)
    losses = {"discriminator/loss": 0.7, "discriminator/fake": 1 - real, "generator/loss": 2.0}
    return {name: noisy(value) for name, value in losses.items()} | {"discriminator/real": real}


def lsgan(at: float) -> dict[str, float]:
    return dcgan(at) | {"discriminator/real": noisy(0.7), "discriminator/fake": noisy(-0.7)}


def wgan(at: float) -> dict[str, float]:
    distance = noisy(20 * at / (5 + at))
    return {"critic/loss": 1 - distance, "critic/distance": distance, "generator/loss": noisy(at)}


def began(at: float) -> dict[str, float]:
    measure = noisy(0.1 + 0.3 * math.exp(-at / 20))
    losses = {"discriminator/loss": 0.1, "discriminator/real": 0.1, "discriminator/fake": 0.05, "generator/loss": 0.05}
    k = {"generator/k": min(0.0005 * at, 0.3), "generator/measure": measure}
    return {name: noisy(value) for name, value in losses.items()} | k


def vae(at: float) -> dict[str, float]:
    reconstruction = noisy(100 * math.exp(-at / 5)) + 1900
    return {
        "autoencoder/loss": noisy(0.6),
        "autoencoder/reconstruction": reconstruction,
        "autoencoder/kl": 16 - 12 * math.exp(-at / 5),
    }


def infogan(at: float) -> dict[str, float]:
    return dcgan(at) | {"generator/information": noisy(5 * at / (5 + at))}


HEALTHY = {"infogan": infogan, "dcgan": dcgan, "lsgan": lsgan, "wgan": wgan, "began": began, "vae": vae}
CODES = {"lsgan": {"fake_code": -1.0, "real_code": 1.0}}


def broken(kind: str, **losses: float | Callable[[float], float]) -> Callable[[float], dict[str, float]]:
    """What `kind` logs in health, but for these."""
    named = {name.replace("__", "/"): value for name, value in losses.items()}
    return lambda at: HEALTHY[kind](at) | {name: v(at) if callable(v) else v for name, v in named.items()}


def exploding(at: float) -> float:
    """Up to a hundred thousand times; beyond that there is an alarm about its size as well."""
    return noisy(2.0 * 1.5 ** min(max(0.0, at - 60), 28))


FAULTS: dict[str, tuple[str, Callable[[float], dict[str, float]], str, str]] = {
    "the discriminator wins": (
        "dcgan",
        broken("dcgan", discriminator__real=0.999, discriminator__fake=0.001),
        "discriminator wins",
        "discriminator/fake",
    ),
    "LSGAN's wins, by its own codes": (
        "lsgan",
        broken("lsgan", discriminator__real=0.99, discriminator__fake=-0.99),
        "discriminator wins",
        "discriminator/fake",
    ),
    "the discriminator is dead": (
        "dcgan",
        broken("dcgan", discriminator__real=0.5001, discriminator__fake=0.4999),
        "discriminator blind",
        "discriminator/real - discriminator/fake",
    ),
    "LSGAN's is dead": (
        "lsgan",
        broken("lsgan", discriminator__real=0.001, discriminator__fake=-0.001),
        "discriminator blind",
        "discriminator/real - discriminator/fake",
    ),
    "a loss is a constant": (
        "dcgan",
        broken("dcgan", discriminator__loss=1.3862943),
        "loss stuck: discriminator/loss",
        "discriminator/loss",
    ),
    "the critic is dead": (
        "wgan",
        broken("wgan", critic__distance=lambda at: 1e-5 * math.sin(at)),
        "critic blind",
        "critic/distance",
    ),
    "the critic's distance explodes": (
        "wgan",
        broken("wgan", critic__distance=exploding, critic__loss=lambda at: -exploding(at)),
        "loss grows: critic/loss",
        "critic/loss",
    ),
    "a loss explodes": (
        "dcgan",
        broken("dcgan", generator__loss=exploding),
        "loss grows: generator/loss",
        "generator/loss",
    ),
    "k is stuck at 0": (
        "began",
        broken("began", generator__k=0.0, generator__measure=0.3),
        "balance lost",
        "generator/k",
    ),
    "k is stuck at 1": (
        "began",
        broken("began", generator__k=1.0, generator__measure=0.3),
        "balance lost",
        "generator/k",
    ),
    "codes that nobody reads": (
        "infogan",
        broken("infogan", generator__information=lambda at: -0.01 * math.sin(at)),
        "codes ignored",
        "generator/information",
    ),
    "posterior collapse": ("vae", broken("vae", autoencoder__kl=0.02), "codes empty", "autoencoder/kl"),
}


def told(alarms: Alarms, events: Iterator[Event] | list[Event]) -> list[Event]:
    """The lines that follow, each with the `images` of the line it follows from."""
    return [{**said, "images": event["images"]} for event in events for said in alarms.hear(event)]


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_run_in_order_raises_no_alarm(kind: str) -> None:
    assert told(Alarms(CODES.get(kind, {})), ticks(HEALTHY[kind], 300)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_way_to_go_wrong_is_said_once_in_time_and_again_when_it_returns(fault: str) -> None:
    kind, losses, alarm, metric = FAULTS[fault]
    alarms = Alarms(CODES.get(kind, {}))
    assert told(alarms, ticks(HEALTHY[kind], 59)) == []
    (warning,) = told(alarms, ticks(losses, 100, start=60))
    assert warning["event"] == "warning"
    assert warning["alarm"] == alarm
    assert warning["metric"] == metric
    assert warning["images"] <= (92_000 if alarm == "balance lost" else 82_000)
    assert 60_000 <= warning["since"] <= warning["images"]
    message = warning["message"]
    assert "\n" not in message
    assert re.search(rf"{re.escape(metric)} is \S+ .*since {warning['since'] / 1000:g} kimg; ", message)
    (recovered,) = told(alarms, ticks(HEALTHY[kind], 40, start=160))
    assert (recovered["event"], recovered["alarm"]) == ("recovered", alarm)
    assert recovered["images"] <= 1000 * (161 + GOOD_READINGS)
    if not math.isfinite(losses(200)[metric.split(" - ")[0]]) or "explodes" in fault:
        return  # the same curve is far beyond the range of numbers by then
    assert [said["alarm"] for said in told(alarms, ticks(losses, 100, start=200))] == [alarm]


def test_reconstructions_that_never_got_better() -> None:
    never = broken("vae", autoencoder__reconstruction=lambda at: noisy(0.1) + 2060)
    (warning,) = told(Alarms({}), ticks(never, 60))
    assert warning["alarm"] == "reconstruction does not fall"
    assert warning["images"] == 21_000
    assert "above 205" in warning["message"]


def test_a_bad_tick_now_and_then_is_no_alarm() -> None:
    for kind, losses, alarm, _ in FAULTS.values():
        if alarm.startswith("loss stuck"):
            continue
        mixed = [HEALTHY[kind](at) if at % 3 else losses(at) for at in range(100)]
        events = [{"event": "tick", "images": 1000 * at, "losses": values} for at, values in enumerate(mixed)]
        assert told(Alarms(CODES.get(kind, {})), events) == [], alarm


def test_ticks_far_apart_or_close_together_wait_for_as_many_images() -> None:
    wins = FAULTS["the discriminator wins"][1]
    close = [{"event": "tick", "images": 100 * at, "losses": wins(at)} for at in range(1, 300)]
    far = [{"event": "tick", "images": 20_000 * at, "losses": wins(at)} for at in range(1, 30)]
    assert [said["images"] for said in told(Alarms({}), close)] == [10_100]
    assert [said["images"] for said in told(Alarms({}), far)] == [200_000]


# --- sizes --------------------------------------------------------------------------------------------------------


def sized(losses: Mapping[str, float], count: int = 30, resolution: int = 32, **weights: float) -> list[Event]:
    """Ticks of 1 kimg in which all but the healthy losses are the same, noisy."""
    sizes = {"generator/largest": 1.1, "generator/at_start": 0.5, "generator/average_factor": 1.02}
    found = []
    for at in range(1, count + 1):
        named = sizes | {f"generator/{name}": value for name, value in weights.items()}
        values = dcgan(at) | {name: noisy(value) for name, value in losses.items()}
        found.append(
            {"event": "tick", "images": 1000 * at, "losses": values, "weights": named, "resolution": resolution}
        )
    return found


SIZES: dict[str, tuple[dict[str, float], dict[str, Any], str | None]] = {
    "a loss of 10⁵": ({"generator/loss": 1e5}, {}, None),
    "a loss of 10⁷": ({"generator/loss": 1e7}, {}, "losses too large"),
    "a loss of −10⁷": ({"generator/loss": -1e7}, {}, "losses too large"),
    "a margin of 10⁷": ({"generator/margin": 1e7}, {}, "losses too large"),
    "a sum over the pixels of 1024²": ({"generator/reconstruction": 1e7}, {"resolution": 1024}, None),
    "beyond that sum": ({"generator/reconstruction": 1e10}, {"resolution": 1024}, "losses too large"),
    "weights of 500": ({}, {"largest": 500.0}, None),
    "weights of 2000": ({}, {"largest": 2000.0}, "weights too large"),
    "weights that were large at the start": ({}, {"largest": 2000.0, "at_start": 10.0}, None),
    "a thousand times those": ({}, {"largest": 20_000.0, "at_start": 10.0}, "weights too large"),
    "an average ten times as large": ({}, {"average_factor": 10.0}, None),
    "an average of another size": ({}, {"average_factor": 500.0}, "average far from weights"),
}


@pytest.mark.parametrize("size", SIZES)
def test_sizes_beyond_any_range_are_said_and_large_ones_are_not(size: str) -> None:
    losses, settings, alarm = SIZES[size]
    said = told(Alarms({}), sized(losses, **settings))
    assert [event["alarm"] for event in said] == ([] if alarm is None else [alarm])
    assert all(event["images"] == 3000 for event in said), "from the first tick on, in three"


def test_losses_beyond_any_range_count_from_the_first_tick_and_are_over_again() -> None:
    events = [*sized({"generator/loss": 1e9}, 6), *({**e, "images": e["images"] + 6000} for e in sized({}, 6))]
    assert [(said["event"], said["images"]) for said in told(Alarms({}), events)] == [
        ("warning", 3000),
        ("recovered", 9000),
    ]


def test_the_hard_bounds_lie_beyond_those_of_the_alarms() -> None:
    assert bounds.WEIGHTS_DIVERGED > bounds.WEIGHTS_SUSPECT
    assert bounds.LOSSES_DIVERGED > bounds.LOSSES_SUSPECT
    sizes = {"critic/largest": 9e4, "critic/at_start": 0.1, "critic/average_factor": 1.0}
    assert bounds.diverged_weights(sizes) is None
    assert "critic: its largest weight is " in str(bounds.diverged_weights(sizes | {"critic/largest": 1.1e5}))
    assert bounds.diverged_weights(sizes | {"critic/largest": 1.1e5, "critic/at_start": 2.0}) is None
    assert bounds.diverged_weights(sizes | {"critic/largest": math.nan}) is not None
    assert bounds.diverged_losses({"a/loss": -9e8}, 32) is None
    assert bounds.diverged_losses({"a/loss": -2e9}, 32) is not None
    assert bounds.diverged_losses({"a/loss": -2e9}, 128) is None


# --- the sheet ----------------------------------------------------------------------------------------------------


def samples(*diversities: float, kimg: int = 20) -> list[Event]:
    return [
        {"event": "sample", "images": 1000 * kimg * at, "file": "samples/x.png", "diversity": value}
        for at, value in enumerate(diversities)
    ]


def test_faces_that_are_all_the_same() -> None:
    started_well = samples(0.001, 0.3, 0.6, 0.7, 0.02, 0.018, 0.019, 0.02, 0.6, 0.7, 0.6, 0.0, 0.0, 0.0)
    said = told(Alarms({}), started_well)
    assert [(event["event"], event["images"]) for event in said] == [
        ("warning", 120_000),
        ("recovered", 200_000),
        ("warning", 260_000),
    ]
    assert said[0]["since"] == 80_000
    assert said[0]["metric"] == "diversity"
    never_began = told(Alarms({}), samples(0.001, 0.001, 0.001, 0.001))
    assert [event["images"] for event in never_began] == [40_000]


def test_faces_that_grow_apart_slowly_are_in_order() -> None:
    assert told(Alarms({}), samples(*(0.001 * 1.2**at for at in range(40)))) == []
    often = samples(*(min(0.001 * 1.03**at, 0.5) for at in range(400)), kimg=1)
    assert told(Alarms({}), often) == []


@pytest.mark.parametrize(
    ("name", "value", "alarm"),
    [
        ("saturation", 0.5, None),
        ("saturation", 0.99, "saturated faces"),
        ("contrast", 0.2, None),
        ("contrast", 0.01, "flat faces"),
    ],
)
def test_sheets_without_colours_between_black_and_white_or_with_one_only(
    name: str, value: float, alarm: str | None
) -> None:
    events = [
        {"event": "sample", "images": 20_000 * at, "file": "samples/x.png", "diversity": 0.7, name: value}
        for at in range(6)
    ]
    assert [said["alarm"] for said in told(Alarms({}), events)] == ([] if alarm is None else [alarm])


def test_variety_is_measured_beside_the_reals() -> None:
    rng = np.random.default_rng(0)
    reals = rng.integers(50, 200, (8, 16, 16, 3), dtype=np.uint8)
    own = Variety.of(reals).beside(Variety.of(reals))
    assert own == {"diversity": 1.0, "contrast": 1.0, "saturation": 0.0}
    black_and_white = (rng.integers(0, 2, reals.shape) * 255).astype(np.uint8)
    assert Variety.of(black_and_white).beside(Variety.of(reals))["saturation"] == 1.0
    flat = np.broadcast_to(rng.integers(50, 200, (8, 1, 1, 3), dtype=np.uint8), reals.shape)
    assert Variety.of(flat).beside(Variety.of(reals))["contrast"] == 0.0
    photos = reals.copy()
    photos[:, :, :12] = 255  # three quarters of white ground
    beside = Variety.of(photos).beside(Variety.of(photos))
    assert beside["saturation"] == 0.0
    assert "saturation" not in Variety.of(reals).beside(Variety.of(black_and_white))


def test_apart_is_the_distance_to_the_most_alike() -> None:
    faces = np.zeros((4, 32, 32, 3), np.uint8)
    assert apart(faces) == 0
    faces[1:] = 100
    faces[2, :, :, :] = 130
    faces[3] = 255
    # 0 to 100: 100; 100 to 130: 30, twice; 130 to 255: 125
    assert apart(faces) == pytest.approx((100 + 30 + 30 + 125) / 4)
    noise = np.random.default_rng(0).integers(0, 2, (8, 32, 32, 3)) * np.uint8(255)
    assert apart(noise.astype(np.uint8)) < 0.55 * apart(noise[:, :16, :16].astype(np.uint8)), "noise is averaged away"
    assert apart(faces[:1]) == 0


# --- going on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["the discriminator wins", "a loss explodes", "k is stuck at 0", "the critic is dead"]
)
def test_a_run_gone_on_with_anywhere_says_the_same(fault: str) -> None:
    kind, losses, _, _ = FAULTS[fault]
    events = [*ticks(HEALTHY[kind], 59), *ticks(losses, 45, start=60), *ticks(HEALTHY[kind], 10, start=105)]
    expected = told(Alarms({}), events)
    assert [said["event"] for said in expected] == ["warning", "recovered"]
    alarms, log = Alarms({}), []
    for k, event in enumerate(events):
        log.append(event)
        log += [{**said, "images": event["images"]} for said in alarms.hear(event)]
        if k % 13 == 0 or log[-1] is not event:
            alarms = Alarms.after(log, {})
    assert [line for line in log if line["event"] != "tick"] == expected


def test_a_kill_between_a_tick_and_its_alarm_loses_nothing() -> None:
    kind, losses, alarm, _ = FAULTS["the discriminator wins"]
    events = list(ticks(losses, 40))
    at = next(k for k, event in enumerate(events) if told(Alarms.after(events[:k], {}), [event]))
    alarms = Alarms.after(events[: at + 1], {})  # the line of the alarm was not written
    assert [said["alarm"] for said in told(alarms, events[at + 1 :])] == [alarm]
    assert kind == "dcgan"


def test_what_is_active_is_what_is_not_over() -> None:
    warn = {"event": "warning", "alarm": "a", "message": "m", "images": 1}
    log: list[Event] = [warn, {"event": "warning", "message": "disk", "images": 1}, {**warn, "alarm": "b"}]
    assert [event["alarm"] for event in active(log)] == ["a", "b"]
    log.append({"event": "recovered", "alarm": "a", "images": 2})
    assert [event["alarm"] for event in active(log)] == ["b"]
    assert [event["alarm"] for event in active([*log, warn])] == ["b", "a"]


def test_damaged_lines_are_passed_over() -> None:
    alarms = Alarms({"fake_code": "x"})
    for values in ({"critic/distance": "nan", "a/loss": None}, [], None, {"x/kl": True, "generator/k": 10**400}):
        assert alarms.hear({"event": "tick", "images": 5, "losses": values}) == []
    assert alarms.hear({"event": "sample", "images": 7, "diversity": "inf"}) == []


def test_the_advice_names_settings_that_there_are() -> None:
    """Of one model at least, and of every one where the watch is about a loss that all have."""
    kinds = [kind for kind in vars(watches).values() if isinstance(kind, type) and hasattr(kind, "alarm")]
    assert len(kinds) >= 9
    fields = {name: {*vars(model.Config()), *TrainConfig.__dataclass_fields__} for name, model in MODELS.items()}
    for kind in kinds:
        for flag in re.findall(r"--([a-z-]+)", kind.advice):
            having = [name for name in fields if flag.replace("-", "_") in fields[name]]
            assert having, f"{kind.alarm}: --{flag}"
            if kind in (watches.SameFaces, watches.LossStuck, watches.LossGrows):
                assert having == list(fields), f"{kind.alarm}: --{flag}"


# --- rigged runs --------------------------------------------------------------------------------------------------


SHORTER = 100
"""how many times the rigged runs are shorter than a user's"""


@pytest.fixture
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm takes as many ticks and sheets as ever, each of a hundredth of the images."""
    for kind in vars(watches).values():
        if isinstance(kind, type) and "images" in vars(kind):
            monkeypatch.setattr(kind, "images", kind.images // SHORTER)


def config_of(name: str, data: Path, ticks: int, **settings: Any) -> TrainConfig[Any]:
    """A tick and an iteration every ten images."""
    steps = {"wgan": 5, "wgan-gp": 5}.get(name, 1)
    base: TrainConfig[Any] = TrainConfig(
        model=tiny_config(name),
        data=data,
        resolution=16,
        batch_size=10 // steps,
        kimg=ticks / SHORTER,
        tick_kimg=1.0 / SHORTER,
        sample_kimg=5.0 / SHORTER,
        checkpoint_kimg=10.0,
        metrics=(),
        precision="fp32",
        device="cpu",
        attributes="none",
    )
    return replace(base, **settings)


def constant_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator looks at nothing but its biases."""
    generate = sheets.generate

    def same(model: Any, latents: Tensor, *arguments: Any) -> Tensor:
        return generate(model, latents * 0, *arguments)

    monkeypatch.setattr(sheets, "generate", same)


def sure_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen through everything: the generator is what it was, and the discriminator's logits are large."""
    update = Trainer.update

    def rigged(self: Trainer, phase: Any, *arguments: Any) -> dict[str, Tensor]:
        logs = update(self, phase, *arguments)
        if phase.name == "discriminator":
            logs |= {"discriminator/real": torch.tensor(0.9999), "discriminator/fake": torch.tensor(0.0001)}
        return logs

    monkeypatch.setattr(Trainer, "update", rigged)


def dead_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last layer is 0 in every step."""
    update = Trainer.update

    def rigged(self: Trainer, *arguments: Any) -> dict[str, Tensor]:
        judge = getattr(self.model, "discriminator", None) or self.model.critic
        with torch.no_grad():
            judge.last.weight.zero_()
            judge.last.bias.zero_()
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", rigged)


def huge_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the sixth iteration on the critic's last weights grow fivefold in each: the losses long before the bound."""
    iteration = Trainer.iteration

    def rigged(self: Trainer) -> dict[str, Tensor]:
        if self.images_seen >= 60:
            with torch.no_grad():
                self.model.critic.last.weight.mul_(5)
        return iteration(self)

    monkeypatch.setattr(Trainer, "iteration", rigged)


def empty_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's last layer is 0 in every step, so its mean is 0 and its variance 1."""
    update = Trainer.update

    def rigged(self: Trainer, *arguments: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            self.model.encoder.last.weight.zero_()
            self.model.encoder.last.bias.zero_()
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", rigged)


RIGGED = {
    "constant faces": ("dcgan", 11, constant_faces, {"same faces"}),
    "a sure discriminator": ("dcgan", 13, sure_discriminator, {"discriminator wins"}),
    "a dead discriminator": (
        "dcgan",
        13,
        dead_discriminator,
        {"discriminator blind", "loss stuck: discriminator/loss", "loss stuck: generator/loss"},
    ),
    "a dead LSGAN discriminator": (
        "lsgan",
        13,
        dead_discriminator,
        {"discriminator blind", "loss stuck: discriminator/loss", "loss stuck: generator/loss"},
    ),
    "a dead critic": ("wgan", 13, dead_discriminator, {"critic blind", "loss stuck: critic/loss"}),
    "steps too large": ("wgan-gp", 13, huge_steps, {"loss grows: critic/loss"}),
    "empty codes": ("vae", 13, empty_codes, {"codes empty"}),
    "empty codes of a VAE-GAN": ("vae-gan", 13, empty_codes, {"codes empty"}),
}


@pytest.mark.usefixtures("_short_runs")
@pytest.mark.parametrize("fault", RIGGED)
def test_a_rigged_run_is_warned_of(
    fault: str, tiny_dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    name, count, rig, expected = RIGGED[fault]
    rig(monkeypatch)
    folder = run.train(MODELS[name], config_of(name, tiny_dataset_folder, count), tmp_path / "run")
    warnings = [event for event in read_log(folder / "log.jsonl") if event["event"] == "warning"]
    assert {event["alarm"] for event in warnings} >= expected
    assert len({event["alarm"] for event in warnings}) == len(warnings), "each once"
    said, page = capsys.readouterr().err, (folder / "report.html").read_text()
    for event in warnings:
        assert event["message"] in said
        top = page[: page.index("images seen")]
        assert event["metric"] in top
        assert page.count("warning") >= 1


def said_of(alarm: str, folder: Path) -> list[str]:
    return [event["event"] for event in read_log(folder / "log.jsonl") if event.get("alarm") == alarm]


@pytest.mark.usefixtures("_short_runs")
def test_an_alarm_outlives_its_process_and_is_not_said_twice(
    tiny_dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure_discriminator(monkeypatch)
    config = config_of("dcgan", tiny_dataset_folder, 13, sample_kimg=10.0)
    folder = run.train(MODELS["dcgan"], config, tmp_path / "run")
    run.resume(folder, MODELS["dcgan"], replace(config, kimg=0.16))
    assert said_of("discriminator wins", folder) == ["warning"]
    monkeypatch.undo()
    run.resume(folder, MODELS["dcgan"], replace(config, kimg=0.2))
    assert said_of("discriminator wins", folder) == ["warning", "recovered"]
    assert "tells reals from fakes without fail" not in (folder / "report.html").read_text().split("images seen")[0]


# --- reconstructions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attributes", ["none", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_models_that_encode_draw_photos_beside_what_they_make_of_them(
    name: str, attributes: str, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    if attributes == "all" and name not in ("vae", "vae-gan"):
        return
    config = config_of(name, tiny_dataset.folder, 1, attributes=attributes, enlarge="pixels")
    folder = run.train(MODELS[name], config, tmp_path / "run")
    drawn = sorted((folder / "samples").glob("reconstructions-*.png"))
    model = MODELS[name](config.model, 16, run.Loader(tiny_dataset, seed=0, device=torch.device("cpu")).labels)
    assert isinstance(model, Encodes) == (name in ("vae", "vae-gan"))
    assert [path.name for path in drawn] == [
        f"reconstructions-images-{images:012d}.png" for images in (0, 10) if isinstance(model, Encodes)
    ]
    text = (folder / "report.html").read_text()
    assert ("training photos, each left of" in text) == isinstance(model, Encodes)
    if not drawn:
        return
    from PIL import Image

    cells = np.asarray(Image.open(drawn[-1]).convert("RGB"))
    cell = 16 * 6
    rows = tiny_dataset.indices("train")[:32]
    photos = tiny_dataset.read(16, rows)
    for k, column in itertools.product((0, 3, 31), (0, 1)):
        place = 2 * k + column
        top, left = 2 + place // 8 * (cell + 2), 2 + place % 8 * (cell + 2)
        shown = cells[top : top + cell : 6, left : left + cell : 6]
        assert np.array_equal(shown, photos[k]) == (column == 0)
