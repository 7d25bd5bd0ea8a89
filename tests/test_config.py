"""Settings: kept as JSON without loss, refused field by field, and the learning rate as a function of images."""

import dataclasses
import json
from pathlib import Path

import pytest

from limner.errors import LimnerError
from limner.models.wgan_gp import WGANGP, WGANGPConfig
from limner.training.config import (
    ADDED_LATER,
    TrainConfig,
    config_from_json,
    config_to_json,
    read_config,
    refuse_changes,
)

WHERE = Path("run/config.json")


def config(**changes) -> TrainConfig[WGANGPConfig]:
    return TrainConfig(model=WGANGPConfig(gp_weight=2.5, critic_norm="none"), **changes)


def facts(**changes) -> dict:
    return json.loads(json.dumps(config_to_json("wgan-gp", config(**changes))))


def test_survives_json():
    one = config(data=Path("/x/y"), metrics=("swd",), resolution=64, kimg=12.5, decay="cosine", mirror=False)
    model_class, back = config_from_json(json.loads(json.dumps(config_to_json("wgan-gp", one))), WHERE)
    assert model_class is WGANGP
    assert back == one


@pytest.mark.parametrize("name", sorted({field.name for field in dataclasses.fields(TrainConfig)} - ADDED_LATER.keys()))
def test_every_field_must_be_there(name):
    broken = facts()
    del broken[name]
    with pytest.raises(LimnerError, match=name) as caught:
        config_from_json(broken, WHERE)
    assert str(WHERE) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_made_before_a_setting_existed_goes_on():
    old = {name: value for name, value in facts().items() if name not in ADDED_LATER}
    _, read = config_from_json(old, WHERE)
    assert read == config(enlarge="pixels"), "as its sheets were drawn so far"
    assert refuse_changes(old, config_to_json("wgan-gp", read)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "one"),
        ("seed", -1),
        ("seed", True),
        ("heads", None),
        ("kimg", "12"),
        ("kimg", float("nan")),
        ("kimg", 0),
        ("mirror", 1),
        ("metrics", "swd"),
        ("metrics", [1]),
        ("decay", "sudden"),
        ("batch_size", 2.5),
        ("batch_size", 0),
        ("data", 3),
        ("final_factor", 2),
        ("learning_rat", 1),
    ],
)
def test_wrong_values_name_the_field(name, value):
    broken = facts()
    broken[name] = value
    with pytest.raises(LimnerError, match=name) as caught:
        config_from_json(broken, WHERE)
    assert "\n" not in str(caught.value)


def test_a_wrong_field_of_the_model_is_named_too():
    broken = facts()
    broken["model"]["gp_weight"] = "heavy"
    with pytest.raises(LimnerError, match=r"model\.gp_weight"):
        config_from_json(broken, WHERE)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"model_name": "zzz"}', "\xff"])
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(LimnerError) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def test_learning_rate_schedules_are_functions_of_images():
    constant = config(kimg=100.0)
    assert [constant.learning_rate_factor(n) for n in (0, 50_000, 100_000)] == [1, 1, 1]
    warm = config(kimg=100.0, warmup_kimg=10.0)
    assert [warm.learning_rate_factor(n) for n in (0, 2_500, 10_000, 99_000)] == [0, 0.25, 1, 1]
    linear = config(kimg=100.0, decay="linear", decay_start_kimg=50.0, final_factor=0.2)
    assert [linear.learning_rate_factor(n) for n in (0, 50_000, 75_000, 100_000, 120_000)] == pytest.approx(
        [1, 1, 0.6, 0.2, 0.2]
    )
    half_way = config(kimg=100.0, decay="linear")
    assert [half_way.learning_rate_factor(n) for n in (50_000, 75_000, 100_000)] == pytest.approx([1, 0.5, 0])
    cosine = config(kimg=100.0, decay="cosine", decay_start_kimg=0.0)
    assert [cosine.learning_rate_factor(n) for n in (0, 50_000, 100_000)] == pytest.approx([1, 0.5, 0])


def test_a_decay_that_never_starts_is_refused():
    with pytest.raises(LimnerError, match="decay_start_kimg"):
        config(kimg=10.0, decay="linear", decay_start_kimg=10.0).check()
