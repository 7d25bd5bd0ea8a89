"""From a model and a dataset to cards: the same numbers for any batch size, and every fact recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limner.data.dataset import Dataset
from limner.data.writer import DatasetWriter
from limner.errors import DataError, DivergedError, LimnerError
from limner.latents import Gaussian, LatentSpace
from limner.metrics.card import Card, compare, read_card
from limner.metrics.evaluate import METRICS, QUANTISATION, choose_reals, compare_images, evaluate_model
from limner.metrics.ms_ssim import ms_ssim_of_pairs
from limner.metrics.swd import swd
from limner.pixels import to_bytes


class Painter(nn.Module):
    """The least a model can be: four latents weigh four smooth patterns."""

    def __init__(self, resolution: int = 32, spread: float = 1.0) -> None:
        super().__init__()
        self.latents = LatentSpace(Gaussian("z", 4))
        self.resolution = resolution
        patterns = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        self.patterns = nn.Parameter(nn.functional.interpolate(patterns, resolution, mode="bicubic"))
        self.spread = spread
        self.sizes: list[int] = []
        self.eval()

    def generate(self, latents: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.sizes.append(len(latents))
        return torch.tanh(torch.einsum("nd,dchw->nchw", self.spread * latents, self.patterns))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 smooth pictures of 32²: 40 to train, 15 to test, 5 to validate."""
    with torch.no_grad():
        model = Painter()
        images = to_bytes(model.generate(model.latents.sample(60, torch.Generator().manual_seed(99)))).numpy()
    folder = tmp_path_factory.mktemp("data") / "faces"
    facts = {"name": "faces", "crop": "whole", "resize": "none", "source": {"kind": "test"}}
    with DatasetWriter(folder, count=60, resolution=32, **facts) as out:
        out.write(0, images)
        return out.finish(splits=np.repeat([0, 2, 1], [40, 15, 5]).astype(np.uint8))


def evaluate(model: Painter, data: Dataset, count: int = 20, split: str = "train", **changes: object) -> list[Card]:
    settings = {"weights_name": "ema", "images_seen": 640} | changes
    return evaluate_model(model, data, count=count, split=split, **settings)  # type: ignore[arg-type]


def test_a_card_for_each_metric_says_how_it_was_made(faces: Dataset, tmp_path: Path) -> None:
    cards = evaluate(Painter(), faces, seed=3)
    assert [card.name for card in cards] == ["swd_20", "ms_ssim_20"]
    for card in cards:
        assert (card.count_requested, card.count_reals, card.count_fakes) == (20, 20, 20)
        assert (card.dataset, card.crop, card.resize, card.split) == ("faces", "whole", "none", "train")
        assert card.dataset_sha256 == faces.manifest_hash
        assert (card.resolution, card.quantisation) == (32, QUANTISATION)
        assert (card.seed, card.latents_seed) == (3, 3)
        assert (card.model, card.weights, card.images_seen) == ("Painter", "ema", 640)
        assert card.extractor is None
        card.write(tmp_path / card.file_name)
        assert read_card(tmp_path / card.file_name) == card
    assert list(cards[0].values) == ["level_32", "level_16"]
    assert list(cards[1].values) == ["reals"]


def test_the_numbers_are_those_of_the_pure_functions(faces: Dataset) -> None:
    model = Painter()
    cards = evaluate(model, faces, count=20, seed=3, batch_size=8)
    assert model.sizes == [8, 8, 4]
    with torch.no_grad():
        fakes = to_bytes(model.generate(model.latents.sample(20, torch.Generator().manual_seed(3))))
    reals = torch.from_numpy(faces.read(32, choose_reals(faces, "train", 20, 3)).copy())
    assert cards[0].value == pytest.approx(swd(reals, fakes, seed=3).value, rel=1e-6)
    assert cards[1].value == pytest.approx(float(ms_ssim_of_pairs(fakes[::2], fakes[1::2]).mean()), abs=1e-6)
    expected = float(ms_ssim_of_pairs(reals[::2], reals[1::2]).mean())
    assert cards[1].values["reals"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_and_company_change_no_number(faces: Dataset, batch_size: int) -> None:
    expected = evaluate(Painter(), faces, count=21)
    for metrics in (("ms_ssim", "swd"), ("swd",), ("ms_ssim",)):
        cards = {card.metric: card for card in evaluate(Painter(), faces, 21, metrics=metrics, batch_size=batch_size)}
        assert tuple(cards) == metrics
        for card in expected:
            if card.metric in cards:
                assert cards[card.metric].value == pytest.approx(card.value, rel=1e-6)


def test_twice_is_the_same_and_another_seed_is_not(faces: Dataset) -> None:
    assert evaluate(Painter(), faces) == evaluate(Painter(), faces)
    first, second = (evaluate(Painter(), faces, seed=seed)[0] for seed in (0, 1))
    assert first.value != second.value


def test_numpy_and_torch_random_states_are_neither_read_nor_changed(faces: Dataset) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    value = evaluate(Painter(), faces)[0].value
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(6)
    assert evaluate(Painter(), faces)[0].value == value


def test_a_worse_model_has_a_larger_swd_and_a_collapsed_one_a_larger_ms_ssim(faces: Dataset) -> None:
    good = evaluate(Painter(), faces)
    wild = evaluate(Painter(spread=10), faces)
    collapsed = evaluate(Painter(spread=0.02), faces)
    assert compare(good[0], wild[0])["value"] > 10
    assert compare(good[1], collapsed[1])["value"] > 0.2
    assert compare(good[1], collapsed[1])["reals"] == 0
    assert good[1].value == pytest.approx(good[1].values["reals"], abs=0.1)


def test_a_small_split_caps_both_counts_and_the_card_says_so(faces: Dataset) -> None:
    card = evaluate(Painter(), faces, count=1000, split="test")[0]
    assert (card.name, card.count_requested, card.count_reals, card.count_fakes) == ("swd_15", 1000, 15, 15)
    with pytest.raises(LimnerError, match="split 'train' ≠ 'test'"):
        compare(evaluate(Painter(), faces, count=15)[0], card)


def test_reals_are_chosen_once_each_from_their_split(faces: Dataset) -> None:
    train, test = choose_reals(faces, "train", 30, 0), choose_reals(faces, "test", 30, 0)
    assert len(set(train.tolist())) == 30
    assert set(train.tolist()) <= set(range(40))
    assert sorted(test.tolist()) == list(range(40, 55))
    assert test.tolist() != sorted(test.tolist())
    assert choose_reals(faces, "train", 30, 1).tolist() != train.tolist()
    assert choose_reals(faces, "train", 10, 0).tolist() == train[:10].tolist()


def test_poll_is_called_between_batches_and_can_stop(faces: Dataset) -> None:
    model, calls = Painter(), []

    def poll() -> None:
        calls.append(len(model.sizes))
        if len(model.sizes) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, faces, batch_size=4, poll=poll)
    assert calls == [0, 0, 0, 0, 0, 1, 2]  # five batches of reals, then before each of fakes is added


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("sdw",), "did you mean swd"),
        (("MS-SSIM",), "did you mean ms_ssim"),
        (("swd", "zzz"), "'zzz' is not a metric; there are swd, ms_ssim"),
        ((), "none named"),
    ],
)
def test_unknown_metrics_are_refused_before_any_work(faces: Dataset, names: tuple[str, ...], message: str) -> None:
    model = Painter()
    with pytest.raises(LimnerError, match=message):
        evaluate(model, faces, metrics=names)
    assert model.sizes == []
    with pytest.raises(LimnerError, match=message):
        compare_images(torch.zeros(2, 16, 16, 3).byte(), torch.zeros(2, 16, 16, 3).byte(), metrics=names)


def test_what_cannot_be_measured_is_refused(faces: Dataset) -> None:
    with pytest.raises(LimnerError, match=r"call model\.eval"):
        evaluate(Painter().train(), faces)
    with pytest.raises(LimnerError, match="at least 1"):
        evaluate(Painter(), faces, count=0)
    with pytest.raises(DataError, match="64"):
        evaluate(Painter(resolution=64), faces)
    with pytest.raises(LimnerError, match="16"):
        evaluate(Painter(resolution=8), faces)
    with pytest.raises(LimnerError):
        evaluate(Painter(), faces, split="training")
    broken = Painter()
    broken.patterns.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(DivergedError, match="not finite"):
        evaluate(broken, faces)
    small = Painter(resolution=16)
    small.resolution = 32
    with pytest.raises(LimnerError, match="generates 16² and calls itself 32²"):
        evaluate(small, faces)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", name="d", count=1, resolution=16, crop="", resize="", source={}) as out:
        out.write(0, np.zeros((1, 16, 16, 3), np.uint8))
        data = out.finish(splits=np.zeros(1, np.uint8))
    with pytest.raises(DataError, match="split 'test' has no images"):
        evaluate(Painter(16), data, split="test")


def test_images_from_anywhere_are_compared_in_a_seeded_order(faces: Dataset) -> None:
    reals = torch.from_numpy(np.array(faces.images(32)[:20]))
    fakes = torch.from_numpy(np.array(faces.images(32)[20:40]))
    cards = compare_images(reals, fakes, seed=2, crop="whole", model="photos")
    assert [card.name for card in cards] == ["swd_20", "ms_ssim_20"]
    assert (cards[0].crop, cards[0].model, cards[0].dataset, cards[0].seed) == ("whole", "photos", None, 2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    assert cards[0].value == pytest.approx(swd(reals[order], fakes[order], seed=2).value, rel=1e-6)
    assert compare_images(reals, fakes, seed=2, batch_size=3)[1].value == pytest.approx(cards[1].value, abs=1e-6)
    assert compare_images(reals, reals)[0].value == 0
    twice = reals[:10].repeat_interleave(2, dim=0)  # neighbours are equal, pairs must not be
    assert compare_images(twice, twice, metrics=("ms_ssim",))[0].value < 0.95
    with pytest.raises(LimnerError, match="equal counts"):
        compare_images(reals, fakes[:19])
    with pytest.raises(LimnerError, match="permute"):
        compare_images(reals.permute(0, 3, 1, 2), fakes)


def test_every_metric_in_the_list_follows_the_protocol(faces: Dataset) -> None:
    cards = evaluate(Painter(), faces, metrics=tuple(METRICS))
    assert [card.metric for card in cards] == list(METRICS)
    assert all(card.settings for card in cards)
