"""limner as a Python library: names, paths as text, seeds, and mistakes in one line."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.errors import LimnerError
from limner.explore.sample import generate_faces
from limner.latents import NO_LABELS, Gaussian, Labels, LatentSpace
from limner.models import MODELS, Model
from limner.pixels import to_bytes
from limner.training.config import TrainConfig
from limner.types import Images, Latents
from tiny import GROWN, tiny_config, tiny_settings

LABELS = Labels(("Male", "Smiling"), np.array([[1, 0], [0, 1], [0, 0]], dtype=bool))
VERBS = ("train", "resume", "sample", "walk", "turn", "timelapse", "evaluate", "compare", "report", "prepare", "probe")


@pytest.fixture(scope="module")
def run(tiny_dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made as a Python user makes one: a model by its name, paths as text, single settings."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = {"kimg": 0.032, "batch_size": 8, "metrics": (), "sample_kimg": 0.016, **tiny_settings("dcgan")}
    return limner.train("dcgan", out=str(folder), data=str(tiny_dataset_folder), **settings)


def test_names_can_be_completed() -> None:
    assert set(limner.__all__) <= set(dir(limner))
    assert set(VERBS) <= set(limner.__all__)
    for name in limner.__all__:
        assert getattr(limner, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        limner.trian  # noqa: B018


def test_compare_is_the_verb_though_a_package_has_its_name() -> None:
    import limner.compare.many  # what used to hide the function behind the package

    assert callable(limner.compare)
    assert "ignore" in inspect.signature(limner.compare).parameters
    with pytest.raises(LimnerError, match="name two runs or more"):
        limner.compare("alone")


def test_a_run_from_a_models_name_and_text_paths(run: Path, tiny_dataset_folder: Path) -> None:
    config = limner.training.config.read_config(run / "config.json")[1]
    assert config.data == tiny_dataset_folder.resolve()
    assert (config.kimg, config.model) == (0.032, tiny_config("dcgan"))


def test_every_verb_takes_paths_as_text(run: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "faces.png")
    assert limner.sample(str(run), seeds=[1, 2], out=out) == Path(out)
    assert limner.walk(str(run), seeds=[1, 2], steps=2, out=str(tmp_path / "walk.png")).exists()
    assert limner.timelapse(str(run), out=str(tmp_path / "lapse.gif")).exists()
    assert limner.report(str(run)) == run / "report.html"
    (card,) = limner.evaluate(str(run), metrics="swd", count=16)
    assert card.metric == "swd"
    assert limner.resume(str(run), kimg=0.064) == run
    assert limner.load(str(run)).checkpoint.images_seen == 64
    with pytest.raises(LimnerError, match="pose"):
        limner.turn(str(run), out=str(tmp_path / "turn.png"))


def test_photos_and_heads_from_text_paths(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for shade in range(6):
        Image.new("RGB", (40, 40), (shade * 40, 90, 90)).save(photos / f"{shade}.png")
    dataset = limner.prepare(str(photos), str(tmp_path / "faces"), resolution=16, test_fraction=0.0, workers=1)
    assert dataset.folder == tmp_path / "faces"
    assert limner.open_dataset(str(tmp_path / "faces")).count == 6
    limner.make_heads(str(tmp_path / "heads"), count=3, resolution=16, workers=1)
    assert limner.open_dataset(str(tmp_path / "heads")).count == 3


def small(name: str, labels: Labels) -> Model:
    torch.manual_seed(0)
    model = MODELS[name](tiny_config(name, width=8), 16, labels).eval()
    model.set_images_seen(GROWN)
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("labels", [NO_LABELS, LABELS], ids=["unconditional", "conditional"])
def test_seeds_give_the_faces_of_the_command_line(name: str, labels: Labels) -> None:
    model = small(name, labels)
    with torch.inference_mode():
        images = model.generate(seeds=[3, 1, 2])
        latents = model.latents.sample_seeds([3, 1, 2])
        assert torch.equal(model(latents), model.generate(latents))
        torch.testing.assert_close(images, model(latents), rtol=1e-4, atol=1e-5)
        assert torch.equal(model(seeds=[3]), images[:1])
    assert np.array_equal(to_bytes(images).numpy(), np.stack(list(generate_faces(model, [3, 1, 2]))))


def test_a_model_says_what_it_is(run: Path) -> None:
    model = limner.load(run)
    text = repr(model)
    for fact in ("DCGAN", "16²", "z: Gaussian 6", "attributes: AttributeRows 3", "ema", str(run)):
        assert fact in text
    assert "\n" not in text
    assert repr(small("dcgan", NO_LABELS).latents) == "LatentSpace([n, 6]; z: Gaussian 6)"
    assert "array" not in repr(LABELS)


MISTAKES = """
import torch, limner
from limner.models import MODELS
from limner.models.dcgan import DCGANConfig
model = MODELS["dcgan"](DCGANConfig(width=8, latent_dim=6), 16)
tries = [
    lambda: model.generate([1, 2, 3]), lambda: model([1, 2, 3]), lambda: model.generate(), lambda: model(),
    lambda: model.generate(torch.zeros(6)), lambda: model(torch.zeros(2, 5)), lambda: model.generate(seeds=3),
    lambda: model.generate(seeds=[]), lambda: model.generate(seeds=[-1]), lambda: model.generate(seeds=[1.5]),
    lambda: model.generate(torch.zeros(2, 6), seeds=[1]), lambda: limner.open_dataset("nowhere"),
    lambda: limner.load("nowhere"), lambda: limner.train("dgcan"), lambda: limner.train("dcgan", latentdim=3),
    lambda: limner.train("dcgan", limner.TrainConfig(model="wgan")), lambda: limner.train("dcgan", 3),
    lambda: limner.TrainConfig(model="dgcan"), lambda: limner.TrainConfig(model=3).check(),
    lambda: limner.train(DCGANConfig), lambda: limner.train("dcgan", preset="huge"),
    lambda: limner.sample("nowhere", seeds=[0.5]), lambda: limner.sample("nowhere", seeds=[]),
]
for number, each in enumerate(tries):
    try:
        each()
    except limner.LimnerError as error:
        assert "\\n" not in str(error), error
        print(number, error)
"""


def test_mistakes_are_one_line() -> None:
    """In a process without the tests' own checks of types, as users have it."""
    done = subprocess.run([sys.executable, "-c", MISTAKES], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(MISTAKES.count("lambda:")))
    for number, said in {
        0: "generate(seeds=[1, 2, 3])",
        1: "generate(seeds=[1, 2, 3])",
        2: "either latents, or seeds",
        4: "expected [n, 6] (z 6)",
        13: "did you mean 'dcgan'",
        14: "did you mean 'latent_dim'",
        15: "WGANConfig",
        18: "model is 3",
    }.items():
        assert said in lines[number]


def test_a_config_takes_a_models_name_for_its_default_settings(tiny_dataset_folder: Path) -> None:
    config = TrainConfig(model="wgan-gp", data=str(tiny_dataset_folder))
    config.check()
    assert config.model == MODELS["wgan-gp"].Config()
    assert config.data == tiny_dataset_folder


def test_presets_by_name_in_python() -> None:
    from limner.training.given import settings_of

    model_class, config = settings_of("progan", None, {"preset": "laptop", "seed": 3})
    assert model_class is MODELS["progan"]
    assert config.seed == 3
    assert config.model == model_class.Config(**model_class.presets["laptop"].model)


def test_a_model_defines_forward_and_is_told_so() -> None:
    with pytest.raises(LimnerError, match=r"define forward\(latents\)"):

        class Old(Model):
            def generate(self, latents: Latents) -> Images:  # type: ignore[override]
                return latents


def test_latents_are_told_from_other_things() -> None:
    space = LatentSpace(Gaussian("z", 4))
    with pytest.raises(LimnerError, match=r"expected \[n, 4\] \(z 4\), got \[2, 3\]"):
        space.check(torch.zeros(2, 3))
    with pytest.raises(LimnerError, match="got ndarray"):
        space.check(np.zeros((2, 4)))
