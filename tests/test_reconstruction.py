"""Reconstruction: closed forms of PSNR and its company, rigged models that encode, and who is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import ATTRIBUTE_NAMES, draw_blobs
from limner.data.dataset import Dataset
from limner.data.writer import DatasetWriter
from limner.errors import DivergedError, LimnerError
from limner.latents import AttributeRows, Gaussian, Labels, LatentSpace
from limner.metrics.card import Card
from limner.metrics.choosing import applicable
from limner.metrics.evaluate import choose_reals, evaluate_model
from limner.metrics.ms_ssim import ms_ssim_of_pairs
from limner.metrics.reconstruction import Reconstruction, psnr
from limner.metrics.subject import kinds_of
from limner.pixels import to_bytes
from test_evaluate import Painter

PERFECT = 10 * math.log10(255**2 * 12)


def photos(count: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 16, 16, 3), generator=torch.Generator().manual_seed(seed)).byte()


def compare(a: Tensor, b: Tensor, batch: int = 7) -> dict[str, float]:
    meter = Reconstruction()
    for some, other in zip(a.split(batch), b.split(batch), strict=True):
        meter.add(some, other)
    found = meter.result()
    return {"value": found.value, **found.values}


def test_a_perfect_reconstruction_is_finite() -> None:
    found = compare(photos(), photos())
    assert found["value"] == found["mean_of_images"] == pytest.approx(PERFECT, abs=1e-9)
    assert pytest.approx(58.92, abs=0.005) == PERFECT
    assert found["mae"] == 0
    assert found["ms_ssim"] == pytest.approx(1, abs=1e-6)


def test_grey_for_every_photo() -> None:
    """Photos of one level 100 answered with 110: an error of 10 everywhere."""
    flat = torch.full((5, 16, 16, 3), 100, dtype=torch.uint8)
    found = compare(flat, flat + 10)
    assert found["value"] == pytest.approx(10 * math.log10(255**2 / 100), abs=1e-9)
    assert found["mae"] == 10
    assert found["mean_face"] == pytest.approx(PERFECT), "all photos are their mean"
    ramp = torch.arange(256).byte().view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    grey = torch.full_like(ramp, 128)
    mse = sum((level - 128) ** 2 for level in range(256)) / 256
    assert compare(ramp, grey)["value"] == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-9)
    assert compare(ramp, grey)["mae"] == sum(abs(level - 128) for level in range(256)) / 256


def test_one_error_for_all_photos_and_their_mean_beside_it() -> None:
    """Half perfect, half wrong by 20: 200 of mean squared error; the mean of two PSNRs is another number."""
    a = torch.full((4, 16, 16, 3), 100, dtype=torch.uint8)
    b = a.clone()
    b[2:] = 120
    found = compare(a, b, batch=1)
    assert found["value"] == pytest.approx(10 * math.log10(255**2 / 200), abs=1e-9)
    assert found["mean_of_images"] == pytest.approx((PERFECT + 10 * math.log10(255**2 / 400)) / 2, abs=1e-9)


def test_the_mean_face_is_beaten_by_nobody_who_answers_alike() -> None:
    real = photos(30)
    mean = real.double().mean(0)
    expected = psnr(float(((real.double() - mean) ** 2).mean()))
    found = compare(real, mean.round().byte().expand(30, -1, -1, -1))
    assert found["mean_face"] == pytest.approx(expected, abs=1e-9)
    assert found["value"] == pytest.approx(expected, abs=0.01)
    assert found["value"] <= found["mean_face"]


def test_it_is_that_of_numpy_and_of_ms_ssim_whatever_the_batches() -> None:
    a, b = photos(20, 1), photos(20, 2)
    error = a.numpy().astype(float) - b.numpy()
    expected = 10 * math.log10(255**2 / np.mean(error**2))
    for batch in (1, 6, 20):
        found = compare(a, b, batch)
        assert found["value"] == pytest.approx(expected, abs=1e-9)
        assert found["mae"] == pytest.approx(np.abs(error).mean(), abs=1e-9)
        assert found["ms_ssim"] == pytest.approx(float(ms_ssim_of_pairs(a, b).double().mean()), abs=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(LimnerError, match="no photos"):
        Reconstruction().result()
    with pytest.raises(LimnerError, match="compare equal counts"):
        Reconstruction().add(photos(3), photos(4))


# --- in an evaluation -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """48 pictures of one soft spot each: 24 to train, 24 to validate."""
    images, attributes = draw_blobs(48, 16, seed=3)
    facts = {"name": "blobs", "crop": "none", "resize": "none", "source": {"made by": "tests"}}
    folder = tmp_path_factory.mktemp("data") / "blobs"
    with DatasetWriter(folder, count=48, resolution=16, attribute_names=ATTRIBUTE_NAMES, **facts) as out:
        out.write(0, images)
        return out.finish(attributes=attributes, splits=np.repeat([0, 1], 24).astype(np.uint8))


class Copyist(nn.Module):
    """Its latents are the photo itself, and after it what it was told of it; it adds `wrong` to what comes back."""

    def __init__(self, names: tuple[str, ...] = (), wrong: float = 0.0) -> None:
        super().__init__()
        self.labels = Labels(names, np.zeros((2, len(names)), bool)) if names else Labels()
        self.latents = LatentSpace(Gaussian("z", 768), AttributeRows("attributes", len(names), self.labels))
        self.resolution, self.wrong = 16, wrong
        self.told: list[Tensor] = []
        self.eval()

    def encode(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        assert not torch.is_grad_enabled()
        if attributes is None:
            return images.flatten(1)
        self.told.append(attributes)
        return torch.cat([images.flatten(1), attributes], dim=1)

    def generate(self, latents: Tensor) -> Tensor:
        return self.latents.split(latents)["z"].view(-1, 3, 16, 16) + self.wrong


def measure(model: nn.Module, data: Dataset, split: str = "valid", **changes: object) -> Card:
    settings = {"metrics": ("reconstruction",), "weights_name": "ema", "images_seen": 0} | changes
    (card,) = evaluate_model(model, data, count=20, split=split, **settings)  # type: ignore[arg-type]
    return card


def test_a_model_that_returns_the_photo_is_perfect(blobs: Dataset) -> None:
    card = measure(Copyist(), blobs)
    assert card.value == pytest.approx(PERFECT)
    assert card.values["mean_face"] < 40
    assert (card.split, card.count_reals, card.extractor, card.attributes) == ("valid", card.count_fakes, None, None)
    assert replace(measure(Copyist(), blobs, batch_size=3), values={}) == replace(card, values={})


def test_photos_are_those_of_the_split_and_errors_are_their_own(blobs: Dataset) -> None:
    model = Copyist(wrong=0.1)
    card = measure(model, blobs, "train")
    real = torch.from_numpy(np.array(blobs.read(16, choose_reals(blobs, "train", 20, 0))))
    again = to_bytes(real.permute(0, 3, 1, 2) / 127.5 - 1 + 0.1)
    assert card.value == pytest.approx(compare(real, again)["value"], abs=1e-6)
    assert card.value != measure(model, blobs, "valid").value


def test_a_conditional_model_is_told_of_each_photo(blobs: Dataset) -> None:
    model = Copyist(("warm", "bright"))
    assert measure(model, blobs).value == pytest.approx(PERFECT)
    rows = choose_reals(blobs, "valid", 20, 0)
    columns = [blobs.attribute_names.index(name) for name in ("warm", "bright")]
    assert torch.cat(model.told).tolist() == np.asarray(blobs.attributes())[rows][:, columns].tolist()
    with pytest.raises(LimnerError, match=r"has no attributes Smiling, which the model is told of every photo"):
        measure(Copyist(("warm", "Smiling")), blobs)


def test_only_models_that_encode_have_one(blobs: Dataset) -> None:
    with pytest.raises(LimnerError, match="reconstruction is of models that encode photos, such as vae and vae-gan"):
        measure(Painter(16), blobs)
    with pytest.raises(DivergedError):
        measure(Copyist(wrong=math.nan), blobs)
    assert kinds_of(Copyist()) == {"encodes"}
    assert kinds_of(Copyist(("warm",))) == {"encodes", "conditional"}
    assert "reconstruction" in applicable(None, count=2, kinds={"encodes"})
    assert "reconstruction" not in applicable(None, count=2)
