"""From a model and a dataset to cards: the same numbers for any batch size, and every fact recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limner.data.dataset import Dataset
from limner.data.layout import sha256_file
from limner.data.writer import DatasetWriter
from limner.errors import DataError, DivergedError, LimnerError
from limner.latents import AttributeRows, Gaussian, Labels, LatentSpace
from limner.metrics.card import Card, compare, read_card
from limner.metrics.choosing import applicable
from limner.metrics.evaluate import QUANTISATION, choose_reals, compare_images, evaluate_model
from limner.metrics.extractors.base import Extractor, Features
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.frechet import frechet_distance_of_features
from limner.metrics.kernel import kernel_distance
from limner.metrics.moments import Moments
from limner.metrics.ms_ssim import ms_ssim_of_pairs
from limner.metrics.neighbours import prdc
from limner.metrics.probe.figures import Accuracy, AttributeFigure
from limner.metrics.probe.network import Reading
from limner.metrics.registry import METRICS
from limner.metrics.swd import swd
from limner.pixels import to_bytes, to_floats


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


# --- metrics of features ----------------------------------------------------------------------------------------------


class Pooling(Extractor):
    """The least an extractor can be: 2×2 means of each channel; its classes are their signs."""

    def __init__(self, name: str = "pooling") -> None:
        self.name, self.sha256, self.width, self.resize = name, "5" * 64, 12, "none"
        self.looked: list[int] = []

    def of_bytes(self, images: Tensor) -> Features:
        self.looked.append(len(images))
        floats = to_floats(images)
        features = nn.functional.adaptive_avg_pool2d(floats, 2).flatten(1)
        return Features(features, 8 * features[:, :5])

    def of_floats(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


OF_FEATURES = ("fd", "kd", "precision", "recall", "density", "coverage")


def test_features_are_computed_once_for_all_metrics(faces: Dataset) -> None:
    looks = Pooling()
    cards = evaluate(Painter(), faces, metrics=("swd", *OF_FEATURES), extractor=looks, batch_size=8)
    assert looks.looked == [8, 8, 4] * 2
    assert [card.name for card in cards[1:]] == [f"{name}_pooling_20" for name in OF_FEATURES]
    for card in cards[1:]:
        assert (card.extractor, card.extractor_sha256, card.extractor_resize) == ("pooling", "5" * 64, "none")
    assert cards[0].extractor is None


def test_feature_metrics_are_those_of_the_pure_functions(faces: Dataset) -> None:
    model, looks = Painter(), Pooling()
    found = {card.metric: card for card in evaluate(model, faces, seed=3, metrics=OF_FEATURES, extractor=looks)}
    with torch.no_grad():
        fakes = to_bytes(model.generate(model.latents.sample(20, torch.Generator().manual_seed(3))))
    reals = torch.from_numpy(faces.read(32, choose_reals(faces, "train", 20, 3)).copy())
    a, b = (looks.of_bytes(images).features for images in (reals, fakes))
    assert found["fd"].value == pytest.approx(frechet_distance_of_features(a, b), abs=1e-6)
    assert found["kd"].value == pytest.approx(kernel_distance(a, b, seed=3)[0], abs=1e-12)
    assert [found[name].value for name in OF_FEATURES[2:]] == list(prdc(a, b))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_no_number_of_features(faces: Dataset, batch_size: int) -> None:
    def values(size: int) -> list[float]:
        cards = evaluate(Painter(), faces, 21, metrics=OF_FEATURES, extractor=Pooling(), batch_size=size)
        return [card.value for card in cards]

    assert values(batch_size) == pytest.approx(values(4), rel=1e-6)
    assert values(batch_size) == values(batch_size)


def test_inceptions_numbers_have_their_own_names(faces: Dataset) -> None:
    names = ("fid", "kid", "inception_score", "precision")
    cards = evaluate(Painter(), faces, metrics=names, extractor=Pooling("inception"))
    assert [card.name for card in cards] == ["fid_20", "kid_20", "inception_score_20", "precision_20"]
    assert cards[2].values["reals"] > 1
    other = evaluate(Painter(), faces, metrics=("fd", "kd"), extractor=Pooling())
    assert [card.value for card in other] == [card.value for card in cards[:2]]
    with pytest.raises(LimnerError, match="metric 'fid' ≠ 'fd'"):
        compare(cards[0], other[0])


@pytest.mark.parametrize(
    ("name", "extractor", "message"),
    [
        ("fid", "probe", "fid is a number of inception's features, not of probe's; ask for fd, or use --extractor inc"),
        ("kid", "probe", "kid is a number of inception's features, not of probe's; ask for kd"),
        ("fd", "inception", "of inception's features fd is called fid; ask for fid"),
        ("kd", "inception", "of inception's features kd is called kid; ask for kid"),
        ("inception_score", "probe", "of inception's features, not of probe's; use --extractor inception"),
        ("precision", None, "no extractor is at hand; measure it with `limner evaluate RUN --metrics precision"),
        ("ppl", None, "no extractor is at hand"),
    ],
)
def test_a_metric_that_does_not_exist_there_names_the_right_one(
    faces: Dataset, name: str, extractor: str | None, message: str
) -> None:
    model = Painter()
    with pytest.raises(LimnerError, match=message):
        evaluate(model, faces, metrics=(name,), extractor=Pooling(extractor) if extractor else None)
    assert model.sizes == []


def test_a_path_length_is_the_models_alone(faces: Dataset) -> None:
    (card,) = evaluate(Painter(), faces, metrics=("ppl",), extractor=Pooling())
    assert (card.name, card.count_fakes, card.count_reals) == ("ppl_pooling_4", 4, 0)
    assert (card.dataset, card.split, card.crop) == (None, None, None)
    assert card.value > 0
    (smoother,) = evaluate(Painter(spread=0.01), faces, metrics=("ppl",), extractor=Pooling())
    assert compare(card, smoother)["value"] < -0.9 * card.value
    images = torch.zeros(2, 16, 16, 3).byte()
    with pytest.raises(LimnerError, match="ppl needs the model"):
        compare_images(images, images, metrics=("ppl",), extractor=Pooling())


def test_images_from_anywhere_have_features_too(faces: Dataset) -> None:
    reals = torch.from_numpy(np.array(faces.images(32)[:30]))
    same = compare_images(reals, reals, metrics=OF_FEATURES, extractor=Pooling())
    assert [card.value for card in same] == pytest.approx([0, same[1].value, 1, 1, 1, 1], abs=1e-6)
    dull = {
        card.metric: card.value for card in compare_images(reals, reals // 4, metrics=OF_FEATURES, extractor=Pooling())
    }
    assert dull["fd"] > 0.1
    assert dull["precision"] < 0.5


# --- reference statistics ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "statistics"


def test_moments_of_the_reals_are_kept_and_change_no_bit(faces: Dataset, cache: Path) -> None:
    first, second = Pooling(), Pooling()
    (fresh,) = evaluate(Painter(), faces, metrics=("fd",), extractor=first, cache=False)
    assert not cache.exists()
    (kept,) = evaluate(Painter(), faces, metrics=("fd",), extractor=first)
    (file,) = cache.iterdir()
    (known,) = evaluate(Painter(), faces, metrics=("fd",), extractor=second)
    assert (len(first.looked), len(second.looked)) == (4, 1)
    assert fresh == kept == known
    swd_too = evaluate(Painter(), faces, metrics=("swd", "fd"), extractor=second)
    assert swd_too[0] == evaluate(Painter(), faces, metrics=("swd",))[0]
    assert swd_too[1] == known
    assert len(second.looked) == 2
    evaluate(Painter(), faces, metrics=("fd", "kd"), extractor=second)
    assert len(second.looked) == 4, "a kernel distance needs the features themselves"
    for changes in ({"seed": 1}, {"count": 19}, {"split": "all"}):
        evaluate(Painter(), faces, metrics=("fd",), extractor=Pooling(), **changes)
    other = Pooling()
    other.sha256 = "6" * 64
    evaluate(Painter(), faces, metrics=("fd",), extractor=other)
    assert len(list(cache.iterdir())) == 5
    file.write_bytes(file.read_bytes()[:-100])
    assert evaluate(Painter(), faces, metrics=("fd",), extractor=Pooling()) == [known]


def test_a_reference_file_of_others_is_named_by_its_hash(faces: Dataset, tmp_path: Path) -> None:
    reals = torch.from_numpy(faces.read(32, choose_reals(faces, "train", 20, 0)).copy())
    moments = Moments.from_features(Pooling().of_bytes(reals).features)
    path = tmp_path / "celeba.npz"
    np.savez(path, mu=moments.mean.numpy(), sigma=moments.covariance.numpy())
    (direct,) = evaluate(Painter(), faces, metrics=("fd",), extractor=Pooling())
    (card,) = evaluate(Painter(), faces, metrics=("fd",), extractor=Pooling(), reference=path)
    assert card.value == pytest.approx(direct.value, abs=1e-9)
    assert (card.dataset, card.split, card.crop, card.resize) == ("celeba.npz", "unknown", "unknown", "unknown")
    assert card.dataset_sha256 == sha256_file(path)
    assert (card.count_reals, card.settings["rank"]) == (None, "unknown")
    with pytest.raises(LimnerError, match="dataset_sha256"):
        compare(direct, card)
    (more,) = evaluate(Painter(), faces, 50, metrics=("fd",), extractor=Pooling(), reference=path)
    assert more.count_fakes == 50, "no split caps it"
    card.write(tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == card


def test_limners_own_reference_is_checked_and_is_as_good_as_the_reals(faces: Dataset, cache: Path) -> None:
    (direct,) = evaluate(Painter(), faces, metrics=("fd",), extractor=Pooling())
    (path,) = cache.iterdir()
    (card,) = evaluate(Painter(), faces, metrics=("fd",), extractor=Pooling(), reference=path)
    assert card == direct
    other = Pooling()
    other.sha256 = "6" * 64
    with pytest.raises(DataError, match="extractor_sha256"):
        evaluate(Painter(), faces, metrics=("fd",), extractor=other, reference=path)
    with pytest.raises(LimnerError, match="swd, kd needs more of them"):
        evaluate(Painter(), faces, metrics=("swd", "fd", "kd"), extractor=Pooling(), reference=path)
    narrow = Pooling()
    narrow.width = 11
    foreign = path.with_name("foreign.npz")
    with np.load(path) as arrays:
        np.savez(foreign, mu=arrays["mu"], sigma=arrays["sigma"])
    with pytest.raises(DataError, match="statistics of 12 features, and pooling makes 11"):
        evaluate(Painter(), faces, metrics=("fd",), extractor=narrow, reference=foreign)


# --- conditional models -----------------------------------------------------------------------------------------------


class Shades(nn.Module):
    """A conditional model that paints what it is asked for: bright or dark, on a faint pattern of z."""

    def __init__(self, labels: Labels, resolution: int = 16) -> None:
        super().__init__()
        self.labels, self.resolution = labels, resolution
        self.latents = LatentSpace(Gaussian("z", 3), AttributeRows("attributes", len(labels.names), labels))
        self.asked: list[Tensor] = []
        self.eval()

    def generate(self, latents: Tensor) -> Tensor:
        parts = self.latents.split(latents)
        self.asked.append(parts["attributes"].clone())
        bright = parts["attributes"][:, 0] * 1.2 - 0.6
        side = self.resolution
        return (bright[:, None] + 0.1 * parts["z"])[:, :, None, None].expand(-1, 3, side, side).clamp(-1, 1)


def test_a_conditional_model_is_asked_for_what_the_reals_have(tiny_dataset: Dataset) -> None:
    names = ("warm", "bright")
    model = Shades(Labels(names, np.zeros((2, 2), bool)))
    (card,) = evaluate(model, tiny_dataset, 20, metrics=("swd",), batch_size=6)
    rows = choose_reals(tiny_dataset, "train", 20, 0)
    columns = [tiny_dataset.attribute_names.index(name) for name in names]
    assert torch.cat(model.asked).tolist() == np.asarray(tiny_dataset.attributes())[rows][:, columns].tolist()
    assert card.attributes == "rows of the reals: warm bright"
    stranger = Shades(Labels(("Smiling",), np.ones((3, 1), bool)))
    (other,) = evaluate(stranger, tiny_dataset, 20, metrics=("swd",))
    assert torch.cat(stranger.asked).min() == 1
    assert other.attributes == "rows kept in the checkpoint: Smiling"
    with pytest.raises(LimnerError, match="attributes 'rows of the reals"):
        compare(card, other)


class Eye(ProbeExtractor):
    """A probe that reads whether an image is bright, and is right nine times in ten as far as it knows."""

    def __init__(self) -> None:
        self.name, self.sha256, self.resize = "probe", "7" * 64, "none"

    @property
    def accuracy(self) -> Accuracy:
        return Accuracy((AttributeFigure("bright", 0.9, 0.5, 0.9),), None, None)

    def read(self, images: Tensor) -> Reading:
        logits = images.float().mean(dim=(1, 2, 3))[:, None] - 127.5
        return Reading(logits, None, None, logits)


def test_a_probe_says_whether_a_conditional_model_obeys(tiny_dataset: Dataset) -> None:
    model, metrics = Shades(Labels(("bright",), np.zeros((2, 1), bool))), ("attribute_accuracy",)
    (card,) = evaluate(model, tiny_dataset, 20, metrics=metrics, probe=Eye())
    assert card.name == "attribute_accuracy_probe_20"
    assert (card.value, card.values["probe_bright"]) == (1, 0.9)
    assert (card.count_reals, card.extractor_sha256) == (0, "7" * 64)
    assert card.attributes == "rows of the reals: bright"
    model.labels = Labels(("left",), np.zeros((2, 1), bool))
    with pytest.raises(LimnerError, match="does not read left"):
        evaluate(model, tiny_dataset, 20, metrics=metrics, probe=Eye())
    with pytest.raises(LimnerError, match="limner data probe"):
        evaluate(model, tiny_dataset, 20, metrics=metrics)
    with pytest.raises(LimnerError, match="of conditional models"):
        evaluate(Painter(16), tiny_dataset, 20, metrics=metrics, probe=Eye())


def test_what_applies_depends_on_what_is_at_hand() -> None:
    pixels = ("swd", "ms_ssim")
    assert applicable(None, count=100, model=False) == pixels
    assert applicable("inception", count=100, model=False) == (
        *pixels,
        "fid",
        "kid",
        "inception_score",
        "precision",
        "recall",
        "density",
        "coverage",
    )
    assert applicable("probe", count=100, model=False) == (*pixels, *OF_FEATURES)
    assert "ppl" in applicable("probe", count=100)
    assert applicable("probe", count=1, model=False) == ("swd",)


def test_every_metric_in_the_list_says_what_it_is(faces: Dataset) -> None:
    for name, spec in METRICS.items():
        assert spec.summary
        assert spec.better in ("lower", "higher", "as reals"), name
        assert spec.other_name is None or METRICS[spec.other_name].other_name == name
