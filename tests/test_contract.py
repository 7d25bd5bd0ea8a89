"""What every model in MODELS must do, whatever it is."""

import dataclasses
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.errors import LimnerError
from limner.latents import NO_LABELS, Labels
from limner.models import MODELS, Encodes, Model, Phase, find_model
from limner.models.vae import Encoder
from limner.training.config import TrainConfig, config_from_json, config_to_json
from limner.types import Batch, Draws
from tiny import GROWN, tiny_config

NAMES = list(MODELS)
LABELS = Labels(("Male", "Smiling", "Bald"), np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=bool))


def small(name: str, resolution: int = 16, labels: Labels = NO_LABELS) -> Model:
    torch.manual_seed(0)
    model = MODELS[name](tiny_config(name, width=8), resolution, labels)
    model.set_images_seen(GROWN)
    return model


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
        assert model.stage(GROWN).resolution == resolution


@pytest.mark.parametrize("name", NAMES)
def test_a_face_depends_on_its_latent_alone(name):
    model = small(name).eval()
    latents = model.latents.sample(4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        together, alone = model.generate(latents), model.generate(latents[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", [16, 32])
def test_attributes_are_a_latent_part_that_matters_where_a_model_takes_them(name, resolution):
    model = small(name, resolution, labels=LABELS).eval()
    assert ("attributes" in model.latents) == MODELS[name].takes_attributes(model.config)
    if "attributes" not in model.latents:
        return
    latents = model.latents.sample(2, torch.Generator().manual_seed(1))
    flipped = model.latents.replace(latents, attributes=1 - model.latents.split(latents)["attributes"])
    with torch.no_grad():
        assert not torch.allclose(model.generate(latents), model.generate(flipped))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", [16, 32])
def test_a_conditional_models_judges_look_at_the_attributes(name, resolution):
    """Losses of the first phase (discriminator, critic, encoder) differ where the attributes do."""
    model = small(name, resolution, labels=LABELS).train()
    if not MODELS[name].takes_attributes(model.config):
        return
    images = torch.rand(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = model.latents.sample(4, torch.Generator().manual_seed(1))
    losses = []
    for told in (torch.zeros(4, 3), torch.ones(4, 3)):
        draws = Draws(torch.Generator().manual_seed(3), 4, 0, 4)
        losses.append(float(model.phases()[0].loss(Batch(images, latents, draws, told))[0].detach()))
    assert losses[0] != pytest.approx(losses[1], abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [NO_LABELS, LABELS], ids=["unconditional", "conditional"])
def test_photos_are_encoded_to_latents_where_a_model_can(name, labels):
    model = small(name, 32, labels).eval()
    assert isinstance(model, Encodes) == (name in ("vae", "vae-gan"))
    if not isinstance(model, Encodes):
        return
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    told = torch.tensor([[1.0, 0, 1], [0, 1, 0]]) if labels.names else None
    with torch.no_grad():
        latents = model.encode(images, told)
        assert torch.equal(latents, model.encode(images, told)), "nothing random"
        assert model.generate(latents).shape == images.shape
    assert not torch.equal(latents[0], latents[1])
    if told is not None:
        assert torch.equal(model.latents.split(latents)["attributes"], told)
        with pytest.raises(LimnerError, match="attributes"):
            model.encode(images)


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
def test_what_is_trained_is_a_pure_function_of_the_images_seen(name):
    model = small(name)
    milestones = model.milestones()
    assert milestones[0] == 0
    assert list(milestones) == sorted(set(milestones))
    stages = [model.stage(images) for images in (*milestones, GROWN)]
    for images, stage in zip(milestones, stages, strict=False):
        model.set_images_seen(GROWN)
        assert model.stage(images) == stage
    assert [stage.resolution for stage in stages] == sorted(stage.resolution for stage in stages)
    for before, after in itertools.pairwise(milestones):
        assert model.stage(after - 1).resolution == model.stage(before).resolution, "nothing grows between two"


@pytest.mark.parametrize("name", NAMES)
def test_pictures_have_the_full_side_at_every_stage(name):
    model = small(name).eval()
    latents = model.latents.sample(2, torch.Generator().manual_seed(1))
    own = {id(parameter) for parameter in model.parameters()}
    for images in model.milestones():
        model.set_images_seen(images)
        assert model.generate(latents).shape == (2, 3, 16, 16)
        assert {id(parameter) for module in model.idle() for parameter in module.parameters()} < own


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_settings_of_the_model_and_of_a_run(name):
    for key, preset in MODELS[name].presets.items():
        assert re.fullmatch(r"[a-z0-9-]+", key)
        assert preset.summary
        config = TrainConfig(model=MODELS[name].Config(**preset.model), **preset.run)
        config.check()
        assert config_from_json(config_to_json(name, config), Path("config.json")) == (MODELS[name], config)


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


COLLECTION = {
    "dcgan": ({}, 23_909_265),
    "lsgan": ({}, 23_909_265),
    "wgan": ({}, 23_909_265),
    "wgan-gp": ({"critic_norm": "instance"}, 23_905_841),
    "infogan": ({"codes": "attributes"}, 26_257_961),
    "began": ({"networks": "dcgan"}, 39_118_952),
    "vae": ({}, 26_013_120),
    "vae-gan": ({}, 36_805_201),
}
"""settings with which a model's networks are the published collection's, and their parameters at its sizes"""
FORTY = Labels(tuple(f"a{i}" for i in range(40)), np.eye(2, 40, dtype=bool))


@pytest.mark.parametrize("name", COLLECTION)
def test_parameter_counts_of_the_published_collection(name):
    """Width 128, z of 88, 40 attributes, 64²: the sizes the five-project survey measured."""
    settings, expected = COLLECTION[name]
    with torch.device("meta"):
        model = MODELS[name](MODELS[name].Config(latent_dim=88, width=128, **settings), 64, FORTY)
    assert count(model) == expected


def test_parameter_counts_of_the_collections_parts():
    for width, latent_dim, counts in ((128, 88, (13_117_184, 10_792_081)), (64, 128, (4_133_760, 2_643_409))):
        with torch.device("meta"):
            dcgan = MODELS["dcgan"](MODELS["dcgan"].Config(latent_dim=latent_dim, width=width), 64, FORTY)
            encoder = Encoder(latent_dim, width, 64, 40)
        assert (count(dcgan.generator), count(dcgan.discriminator)) == counts
        assert count(encoder) == {88: 12_884_584, 128: 3_168_016}[latent_dim]


@pytest.mark.parametrize("name", NAMES)
def test_every_size_the_collection_is_asked_for_can_be_built(name):
    for resolution in (32, 64, 128):
        with torch.device("meta"):
            model = MODELS[name](MODELS[name].Config(), resolution, FORTY)
        assert model.resolution == resolution


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
