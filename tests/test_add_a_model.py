"""docs/add-a-model.md, walked through: the page's own code becomes a model, trains, resumes and samples."""

import re
import sys
from pathlib import Path

import pytest
import torch

import limner
from limner.models import MODELS
from limner.training import command, run
from limner.training.config import TrainConfig

PAGE = Path(__file__).parents[1] / "docs" / "add-a-model.md"


@pytest.fixture
def hinge_gan(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    (tmp_path / "a_new_model.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("a_new_model")
    monkeypatch.setitem(MODELS, "hinge-gan", module.HingeGAN)
    yield module.HingeGAN
    sys.modules.pop("a_new_model")


def test_the_pages_model_trains_resumes_and_samples(hinge_gan, tiny_dataset, tmp_path):
    config = TrainConfig(
        model=hinge_gan.Config(latent_dim=8, width=8),
        data=tiny_dataset.folder,
        resolution=16,
        kimg=0.032,
        batch_size=8,
        metrics=(),
    )
    folder = run.train(hinge_gan, config, tmp_path / "run")
    assert command.resume([str(folder), "--kimg", "0.048"]) == 0
    model = limner.load(folder)
    assert model.checkpoint.images_seen == 48
    assert model.generate(model.latents.sample_seeds([1, 2])).shape == (2, 3, 16, 16)


def test_the_pages_closed_form_holds(hinge_gan):
    model = hinge_gan(hinge_gan.Config(latent_dim=4, width=4), 16)

    class Says(torch.nn.Module):
        def forward(self, images, attributes=None):
            return torch.where(images.flatten(1).mean(dim=1) > 0, 0.5, -0.25)

    class Fakes(torch.nn.Module):
        def forward(self, latents):
            return -torch.ones(len(latents), 3, 16, 16)

    model.discriminator, model.generator = Says(), Fakes()
    from limner.types import Batch, Draws

    batch = Batch(torch.ones(3, 3, 16, 16), torch.zeros(3, 4), Draws(torch.Generator(), 3, 0, 3))
    assert float(model.discriminator_loss(batch)[0]) == pytest.approx(1.25)
    assert float(model.generator_loss(batch)[0]) == pytest.approx(0.25)
