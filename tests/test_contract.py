"""What every model in MODELS must do, whatever it is."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from limner.errors import LimnerError
from limner.latents import NO_LABELS, Labels
from limner.models import MODELS, Model, Phase, find_model

NAMES = list(MODELS)
LABELS = Labels(("Male", "Smiling", "Bald"), np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=bool))
SMALL = {"width": 8, "latent_dim": 6}


def small(name: str, resolution: int = 16, labels: Labels = NO_LABELS) -> Model:
    kind = MODELS[name].Config
    fields = {field.name for field in dataclasses.fields(kind)}
    torch.manual_seed(0)
    return MODELS[name](kind(**{key: value for key, value in SMALL.items() if key in fields}), resolution, labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [NO_LABELS, LABELS], ids=["unconditional", "conditional"])
def test_generates_pictures_in_range(name, labels):
    for resolution in (16, 32, 64):
        model = small(name, resolution, labels).eval()
        latents = model.latents.sample(3, torch.Generator().manual_seed(1))
        with torch.no_grad():
            images = model.generate(latents)
        assert images.shape == (3, 3, resolution, resolution)
        assert images.dtype == torch.float32
        assert images.min() >= -1
        assert images.max() <= 1
        assert images.std() > 0
        assert not torch.equal(images[0], images[1])
        assert model.stage(0).resolution == resolution


@pytest.mark.parametrize("name", NAMES)
def test_a_face_depends_on_its_latent_alone(name):
    model = small(name).eval()
    latents = model.latents.sample(4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        together, alone = model.generate(latents), model.generate(latents[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_attributes_are_a_latent_part_that_matters(name):
    model = small(name, labels=LABELS).eval()
    assert "attributes" in model.latents
    latents = model.latents.sample(2, torch.Generator().manual_seed(1))
    flipped = model.latents.replace(latents, attributes=1 - model.latents.split(latents)["attributes"])
    with torch.no_grad():
        assert not torch.allclose(model.generate(latents), model.generate(flipped))


@pytest.mark.parametrize("name", NAMES)
def test_phases_are_named_and_train_parts_of_the_model(name):
    model = small(name)
    phases = model.phases()
    assert all(isinstance(phase, Phase) for phase in phases)
    assert len({phase.name for phase in phases}) == len(phases) >= 1
    own = {id(parameter) for parameter in model.parameters()}
    trained = {id(parameter) for phase in phases for module in phase.trains for parameter in module.parameters()}
    assert trained == own, "every parameter is trained by some phase, and no phase trains a stranger"
    assert all(phase.steps >= 1 for phase in phases)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_weights(name):
    first, second = small(name).state_dict(), small(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_frozen_documented_and_have_defaults(name):
    kind = MODELS[name].Config
    config = kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(kind)[0].name, 1)
    import inspect

    source = inspect.getsource(kind)
    for field in dataclasses.fields(kind):
        assert re.search(rf'^    {field.name}: .*\n    """', source, re.M), f"{field.name} has no string under it"


@pytest.mark.parametrize("name", NAMES)
def test_refuses_a_side_it_has_no_networks_for(name):
    with pytest.raises(LimnerError, match="48"):
        small(name, 48)


def test_no_model_inherits_from_another():
    for model in MODELS.values():
        assert model.__bases__ == (Model,)


def test_a_misspelt_name_is_answered_with_a_near_one():
    with pytest.raises(LimnerError, match="did you mean 'wgan-gp'"):
        find_model("wgangp")
    with pytest.raises(LimnerError, match="dcgan"):
        find_model("zzz")


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_of_the_published_collection():
    """Width 128, z of 88, 40 attributes, 64²: the sizes the five-project survey measured."""
    labels = Labels(tuple(f"a{i}" for i in range(40)), np.zeros((2, 40), dtype=bool))
    dcgan = MODELS["dcgan"](MODELS["dcgan"].Config(latent_dim=88, width=128), 64, labels)
    assert (count(dcgan.generator), count(dcgan.discriminator)) == (13_117_184, 10_792_081)
    wgan = MODELS["wgan-gp"](MODELS["wgan-gp"].Config(latent_dim=88, width=128, critic_norm="instance"), 64, labels)
    assert count(wgan) == 23_905_841


def test_the_papers_dcgan_has_1024_channels_at_4_pixels():
    dcgan = MODELS["dcgan"](MODELS["dcgan"].Config(), 64)
    assert dcgan.generator.layers[0].weight.shape == (100, 1024, 4, 4)


def test_initial_weights_have_the_papers_spread():
    torch.manual_seed(0)
    dcgan = MODELS["dcgan"](MODELS["dcgan"].Config(width=32), 32)
    weight = dcgan.generator.layers[3].weight.detach()
    assert float(weight.std()) == pytest.approx(0.02, rel=0.02)
    assert float(weight.mean()) == pytest.approx(0.0, abs=2e-4)


def test_attributes_that_leave_no_room_are_refused():
    many = Labels(tuple(f"a{i}" for i in range(16)), np.zeros((2, 16), dtype=bool))
    with pytest.raises(LimnerError, match="width 8"):
        small("dcgan", labels=many)
