"""docs/add-a-model.md, walked through: the page's own code becomes a model, trains, resumes and samples."""

import os
import re
import shlex
import shutil
import subprocess
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


@pytest.fixture(scope="module")
def package_with_it(tmp_path_factory):
    """A copy of the package and its tests, with the page's file and the page's line in the list."""
    root, text = tmp_path_factory.mktemp("copy"), PAGE.read_text(encoding="utf-8")
    for name in ("src", "tests", "docs"):
        shutil.copytree(PAGE.parents[1] / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    shutil.copy(PAGE.parents[1] / "pyproject.toml", root)
    (place,) = re.findall(r"Save it as `(.*?)`", text)
    (root / place).write_text(re.findall(r"```python\n(.*?)```", text, re.S)[0], encoding="utf-8")
    models = root / "src" / "limner" / "models" / "__init__.py"
    (line,) = re.findall(r"^from limner\.models\.hinge_gan import .*$", text, re.M)
    listed = models.read_text().replace("        HoloGAN,\n", "        HoloGAN,\n        HingeGAN,\n")
    models.write_text(listed.replace("from limner.models.hologan", f"{line}\nfrom limner.models.hologan"))
    return root


def test_the_pages_own_test_command_passes_for_its_example(package_with_it):
    """Every model's tests hold for the new one: its last bias, which has no gradient inside the margin, as well."""
    (command_line,) = re.findall(r"^python -m pytest .*$", PAGE.read_text(encoding="utf-8"), re.M)
    words = shlex.split(command_line)
    done = subprocess.run(
        [sys.executable, *words[1:], "-vv", "-p", "no:cacheprovider"],
        cwd=package_with_it,
        env={**os.environ, "PYTHONPATH": str(package_with_it / "src"), "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    for test in ("test_each_phase_changes_exactly_what_it_trains", "test_generates_pictures_in_range"):
        assert re.search(rf"{test}\[.*hinge-gan\] PASSED", done.stdout), "the new model was among those tested"
    assert "hinge_gan] PASSED" in done.stdout, "and its file"


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
