"""docs/reproduce.md: its command lines are parsed by the command line's own parser, and say what the page says."""

import re
import shlex
from pathlib import Path

import pytest

from limner.models import MODELS
from limner.training.command import TrainFlags, _parse
from limner.training.config import TrainConfig

PAGE = (Path(__file__).parents[1] / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMON = shlex.split(re.search(r'^common="([^"]*)"', PAGE, re.M)[1])
LINES = {line.split()[2]: shlex.split(line)[4:] for line in re.findall(r"^limner train .*\$common.*$", PAGE, re.M)}


def parsed(name: str) -> TrainConfig:
    kind = MODELS[name]
    default = TrainFlags(config=TrainConfig(model=kind.Config()))
    flags = _parse(TrainFlags[kind.Config], [*COMMON, *LINES[name]], "limner train", "", default)
    flags.config.check()
    return flags.config


def test_every_model_of_the_collection_has_a_line():
    assert set(LINES) == set(MODELS) - {"progan", "hologan"}, "which are of other projects"


@pytest.mark.parametrize("name", LINES)
def test_a_line_asks_for_the_collections_settings(name):
    config = parsed(name)
    model = config.model
    assert (model.latent_dim, model.width, config.batch_size, config.attributes) == (128, 64, 64, "all")
    assert (model.learning_rate, model.beta1, model.beta2) == (1e-4, 0.5, 0.999)
    assert config.ema_half_life_kimg == 0
    assert not config.mirror
    assert config.images == pytest.approx(50 * 202_599, rel=1e-3)
    assert getattr(model, "generator_steps", 2 if name == "vae" else 1) == (1 if name.startswith("wgan") else 2)
    assert getattr(model, "optimizer", "adam") == "adam"
    if name == "lsgan":
        assert (model.real_code, model.fake_code, model.wanted_code) == (-1, 1, 0)
    if name == "infogan":
        assert (model.codes, model.generator_learning_rate) == ("attributes", 1e-4)
    if name == "began":
        assert (model.networks, model.gamma, model.k_rate, model.stall_kimg) == ("dcgan", 0.5, 0.001, 0)
