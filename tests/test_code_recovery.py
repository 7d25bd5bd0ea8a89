"""What codes mean: information in closed form, exact chance, exact matching, rigged generators and models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.latents import AttributeRows, Categorical, Gaussian, Labels, LatentSpace, Part, Uniform
from limner.metrics.assignment import best_matching
from limner.metrics.card import Card, Measurement
from limner.metrics.choosing import applicable
from limner.metrics.code_recovery import CodeRecovery
from limner.metrics.codes import BINS, Code, code_values, codes_of
from limner.metrics.evaluate import evaluate_model
from limner.metrics.extractors.probe import ProbeExtractor
from limner.metrics.information import entropy, expected_information, information, shares, tabulate
from limner.metrics.probe.figures import Accuracy, AttributeFigure
from limner.metrics.probe.network import Reading
from limner.metrics.subject import kinds_of

# --- matching ---------------------------------------------------------------------------------------------------------


def brute_force(gains: Tensor) -> float:
    wide = gains if gains.shape[0] <= gains.shape[1] else gains.T
    rows, columns = wide.shape
    ways = itertools.permutations(range(columns), rows)
    return max(sum(float(wide[row, column]) for row, column in enumerate(way)) for way in ways)


@pytest.mark.parametrize(("rows", "columns"), [*itertools.product(range(1, 6), range(1, 6)), (4, 6), (6, 3)])
def test_no_matching_has_more(rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(10 * rows + columns)
    for trial in range(12):
        gains = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        gains = gains.round() if trial % 3 == 0 else gains.abs() if trial % 3 == 1 else gains  # ties, signs
        pairs = best_matching(gains)
        assert len(pairs) == len({row for row, _ in pairs}) == len({column for _, column in pairs})
        assert len(pairs) == min(rows, columns)
        assert sum(float(gains[pair]) for pair in pairs) == pytest.approx(brute_force(gains), abs=1e-12)


def test_the_greedy_matching_is_not_it() -> None:
    assert best_matching(torch.tensor([[0.9, 0.8], [0.7, 0.0]])) == [(0, 1), (1, 0)]
    with pytest.raises(LimnerError, match="not finite"):
        best_matching(torch.tensor([[1.0, math.nan]]))


# --- information ------------------------------------------------------------------------------------------------------


def samples(table: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Codes [n, 1] and attributes [n, 1] of which way w has table[w] = (without, with) samples."""
    codes = [way for way, cells in enumerate(table) for _ in range(sum(cells))]
    attributes = [has for cells in table for has in (0, 1) for _ in range(cells[has])]
    return torch.tensor(codes)[:, None], torch.tensor(attributes)[:, None].bool()


def of_table(*table: tuple[int, int]) -> tuple[float, float, float]:
    """Information, entropy of the attribute, share."""
    codes, attributes = samples(table)
    tables = tabulate(codes, [len(table)], attributes)
    found = shares(tables, expected_information(tables))
    return information(tables).item(), entropy(tables).item(), found.item()


def test_information_of_known_tables() -> None:
    assert of_table((50, 0), (0, 50)) == pytest.approx((math.log(2), math.log(2), 1), abs=1e-12)
    assert of_table((0, 50), (50, 0))[0] == pytest.approx(math.log(2), abs=1e-12)
    assert of_table((20, 30), (20, 30))[0] == pytest.approx(0, abs=1e-12)
    # A channel that errs one time in five, from a fair coin: ln 2 - H(0.2).
    flip = 0.2 * math.log(0.2) + 0.8 * math.log(0.8)
    assert of_table((400, 100), (100, 400))[:2] == pytest.approx((math.log(2) + flip, math.log(2)), abs=1e-12)
    # Three ways, the third of which is all that has it: the attribute is a function of the code.
    told = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    assert of_table((30, 0), (30, 0), (0, 30)) == pytest.approx((told, told, 1), abs=1e-12)
    # Unequal frequencies: p(1, 1) = .1, p(0, 1) = .1, p(1, 0) = .2, p(0, 0) = .6.
    by_hand = 0.1 * math.log(0.1 / 0.06) + 0.1 * math.log(0.1 / 0.14) + 0.2 * math.log(0.2 / 0.24)
    by_hand += 0.6 * math.log(0.6 / 0.56)
    assert of_table((60, 10), (20, 10))[0] == pytest.approx(by_hand, abs=1e-12)


def test_what_never_varies_tells_and_is_told_nothing() -> None:
    assert of_table((50, 0), (50, 0)) == pytest.approx((0, 0, 0), abs=1e-12)
    assert of_table((50, 50), (0, 0)) == pytest.approx((0, math.log(2), 0), abs=1e-12)


def test_chance_is_the_mean_over_all_orders_exactly() -> None:
    codes = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 2], [2, 2], [2, 1]])
    attributes = torch.tensor([[1, 0], [0, 0], [0, 1], [1, 0], [1, 0], [0, 0]]).bool()
    found = [information(tabulate(codes, [3, 3], attributes[list(way)])) for way in itertools.permutations(range(6))]
    expected = expected_information(tabulate(codes, [3, 3], attributes))
    assert torch.allclose(expected, torch.stack(found).mean(0), atol=1e-13)
    assert expected.min() > 0.05, "of six samples independent variables seem to share a lot"


def test_independent_variables_share_nothing_on_average() -> None:
    """Rare and common, few and many ways: each mean of 80 draws within 4 of its own standard errors of 0."""
    generator = torch.Generator().manual_seed(0)
    ways, frequency = [2, 10, 8], torch.tensor([0.01, 0.2, 0.5])
    plain, found = [], []
    for _ in range(80):
        codes = torch.stack([torch.randint(way, (300,), generator=generator) for way in ways], dim=1)
        tables = tabulate(codes, ways, torch.rand(300, 3, generator=generator) < frequency)
        plain.append(information(tables))
        found.append(shares(tables, expected_information(tables)))
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / 80**0.5
    assert (mean.abs() < 4 * error + 1e-12).all()
    assert error.max() < 0.01
    assert torch.stack(plain).mean(0)[1:].min() > 0.008, "the plug-in estimate is well above 0"


# --- codes of latents -------------------------------------------------------------------------------------------------

NAMES = ("Male", "Young", "Smiling", "Hat")
ROWS = np.random.default_rng(0).random((400, 4)) < np.array([0.5, 0.7, 0.4, 0.2])


class Coded(nn.Module):
    """A generator whose image is its latents, in bytes: column k of the latents is pixel k of the first channel."""

    def __init__(self, *parts: Part, resolution: int = 16) -> None:
        super().__init__()
        self.latents = LatentSpace(Gaussian("z", 3), *parts)
        self.code_parts = tuple(part.name for part in parts)
        self.resolution = resolution
        self.eval()

    def generate(self, latents: Tensor) -> Tensor:
        images = torch.zeros(len(latents), 3, self.resolution, self.resolution)
        images[:, 0].flatten(1)[:, : latents.shape[1]] = 0
        flat = images.flatten(1)
        flat[:, : latents.shape[1]] = latents.clamp(-1, 1)
        return flat.view_as(images)


NAMED = AttributeRows("codes", 4, Labels(NAMES, ROWS))
PAPER = (Categorical("category_1", 4), Categorical("category_2", 3), Uniform("continuous_1", 1))


def test_every_kind_of_code_becomes_variables_to_count() -> None:
    model = Coded(*PAPER, Uniform("pair", 2, low=0.0), NAMED)
    codes = codes_of(model)
    assert codes[:3] == (
        Code("category_1", "categorical", 4),
        Code("category_2", "categorical", 3),
        Code("continuous_1", "continuous", BINS),
    )
    assert [code.name for code in codes[3:]] == ["pair_1", "pair_2", *NAMES]
    latents = model.latents.sample(500, torch.Generator().manual_seed(1))
    values, parts = code_values(model, latents), model.latents.split(latents)
    assert values.shape == (500, 9)
    assert torch.equal(torch.eye(4)[values[:, 0]], parts["category_1"])
    assert torch.equal(values[:, 5:].float(), parts["codes"])
    inside = parts["continuous_1"][:, 0] * 4 + 4
    assert torch.equal(values[:, 2], inside.long())
    assert [len(column.unique()) for column in values.T] == [4, 3, *[BINS] * 3, 2, 2, 2, 2]
    ends = model.latents.replace(latents[:2], continuous_1=torch.tensor([[-1.0], [1.0]]))
    assert code_values(model, ends)[:, 2].tolist() == [0, BINS - 1]


def test_a_code_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(LimnerError, match="the part 'style' is Gaussian"):
        codes_of(Coded(Gaussian("style", 2)))


# --- the number -------------------------------------------------------------------------------------------------------

WELL = tuple(AttributeFigure(name, 0.999, 0.995, 0.95) for name in NAMES)
"""rarer among the real images than in any sample here, so that the sample's entropy is the larger"""
CODES = tuple(Code(name, "named", 2) for name in NAMES)


class Reader:
    """A probe whose readings are handed in."""

    name = "probe"
    sha256 = "0" * 64

    def __init__(self, figures: tuple[AttributeFigure, ...] = WELL) -> None:
        self.accuracy = Accuracy(figures, None, None)

    def read(self, images: Tensor) -> Reading:
        raise AssertionError("readings are given")


def recovered(
    values: Tensor, logits: Tensor, codes: Sequence[Code] = CODES, reader: Reader | None = None
) -> Measurement:
    meter = CodeRecovery(reader or Reader(), codes, seed=0)
    for some, read in zip(values.split(700), logits.split(700), strict=True):
        meter.add_readings(read, some)
    return meter.result()


def independent(count: int = 4000, seed: int = 3) -> Tensor:
    """Codes [n, 4], each on its own, from rare to common."""
    drawn = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    return (drawn < torch.tensor([0.5, 0.7, 0.4, 0.1])).long()


def test_codes_that_mean_what_they_are_named() -> None:
    codes = independent()
    found = recovered(codes, codes - 0.5)
    assert found.value == pytest.approx(1, abs=1e-9)
    told = found.values
    assert (told["agreement"], told["own_name"]) == (1, 1)
    assert (told["matched"], told["Hat"], told["agreement_Hat"]) == pytest.approx((1, 1, 1), abs=1e-9)
    assert abs(told["others"]) < 0.002
    assert abs(told["chance"]) < 0.001
    assert 0 < told["chance_matched"] < 0.004
    p = codes[:, 3].double().mean().item()
    assert told["nats_Hat → Hat"] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=1e-3)
    assert [told[f"sign_{name} → {name}"] for name in NAMES] == pytest.approx([1] * 4)
    assert found.settings["value"] == "own names"


def test_codes_that_mean_something_else_than_they_are_named() -> None:
    codes = independent()
    found = recovered(codes, codes[:, [1, 2, 3, 0]] - 0.5)  # the image's Male is what Young's code says, …
    assert abs(found.value) < 0.002
    assert found.values["own_name"] == 0
    assert found.values["agreement"] == pytest.approx(0.5, abs=0.02)
    assert found.values["matched"] == pytest.approx(1, abs=1e-9)
    assert found.values["others"] == pytest.approx(4 / 12, abs=0.002)
    assert found.values["Young → Male"] == pytest.approx(1, abs=1e-9)


def test_codes_turned_round_tell_as_much_and_agree_with_nothing() -> None:
    codes = independent()
    found = recovered(codes, 0.5 - codes)
    assert found.value == pytest.approx(1, abs=1e-9)
    assert found.values["agreement"] == 0
    assert [found.values[f"sign_{name} → {name}"] for name in NAMES] == pytest.approx([-1] * 4)


def test_codes_that_mean_nothing() -> None:
    found = recovered(independent(seed=3), independent(seed=4) - 0.5)
    assert abs(found.value) < 0.001
    assert found.values["agreement"] == pytest.approx(0.5, abs=0.02)
    assert found.values["matched"] == pytest.approx(found.values["chance_matched"], abs=0.002)


def test_a_code_is_not_its_own_name_because_nothing_else_is_left() -> None:
    """Images that never show anything: every matching is as good, and none counts."""
    found = recovered(independent(), torch.full((4000, 4), -1.0))
    assert (found.value, found.values["own_name"], found.values["matched"]) == (0, 0, 0)
    assert found.values["agreement"] == 0.5


def test_a_code_half_as_good_has_the_share_of_its_table() -> None:
    """Read wrong one time in five: (ln 2 - H(.2)) / ln 2 of a fair attribute."""
    codes = torch.tensor([0, 1]).repeat(2000)[:, None]
    wrong = torch.arange(4000)[:, None] // 2 % 5 == 0
    figures = (AttributeFigure("Male", 0.8, 0.5, 0.8),)
    found = recovered(codes, torch.where(wrong, 1 - codes, codes) - 0.5, CODES[:1], Reader(figures))
    expected = 1 + (0.2 * math.log(0.2) + 0.8 * math.log(0.8)) / math.log(2)
    assert found.value == pytest.approx(expected, abs=3e-4)
    assert found.values["probe"] == pytest.approx(expected, abs=1e-12), "so the probe itself, and nobody can do better"
    assert found.values["agreement"] == pytest.approx(0.8)
    assert found.values["sign_Male → Male"] == pytest.approx(0.6)
    assert "others" not in found.values


def test_what_a_probe_can_be_told_follows_from_its_figures() -> None:
    """70 of 100 have it, of which 63 are seen; of the 30 others 27 are seen."""
    joint = torch.tensor([[63.0, 7.0], [3.0, 27.0]], dtype=torch.float64) / 100
    truth, read = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    expected = (joint * (joint / truth / read).log()).sum() / -(read * read.log()).sum()  # read: .66, truth .7
    assert AttributeFigure("a", 0.9, 0.7, 0.9).told_share == pytest.approx(float(expected), abs=1e-12)
    uneven = torch.tensor([[70.0, 0.0], [15.0, 15.0]], dtype=torch.float64) / 100
    truth, read = uneven.sum(1, keepdim=True), uneven.sum(0, keepdim=True)
    expected = torch.xlogy(uneven, uneven / truth / read).sum() / -(truth * truth.log()).sum()  # read: .85
    assert AttributeFigure("a", 0.85, 0.7, 0.75).told_share == pytest.approx(float(expected), abs=1e-9)
    assert AttributeFigure("a", 1.0, 0.7, 1.0).told_share == pytest.approx(1, abs=1e-12)
    assert AttributeFigure("a", 0.7, 0.7, 0.5).told_share == 0
    assert AttributeFigure("a", 1.0, 1.0, None).told_share == 0


def test_codes_without_names_are_matched_best_and_told_how() -> None:
    model = Coded(*PAPER)
    codes = codes_of(model)
    latents = model.latents.sample(6000, torch.Generator().manual_seed(5))
    values = code_values(model, latents)
    continuous = model.latents.split(latents)["continuous_1"][:, 0]
    coin = torch.rand(6000, generator=torch.Generator().manual_seed(6)) < 0.5
    read = torch.stack([values[:, 1] == 2, coin, continuous < 0, values[:, 0] == 1], dim=1)
    found = recovered(values, read.float() - 0.5, codes)
    assert found.value == pytest.approx(1, abs=1e-9)
    pairs = {name for name in found.values if " → " in name and not name.startswith(("nats", "way", "sign"))}
    assert pairs == {"category_1 → Hat", "category_2 → Male", "continuous_1 → Smiling"}
    assert (found.values["way_category_1 → Hat"], found.values["way_category_2 → Male"]) == (2, 3)
    assert found.values["sign_continuous_1 → Smiling"] < -0.8
    assert found.values["nats_category_1 → Hat"] == pytest.approx(0.5623, abs=0.01)  # H(1/4)
    assert found.values["chance"] < 0.005
    assert found.values["probe"] == pytest.approx(WELL[0].told_share)
    assert found.settings == {"attributes": ", ".join(NAMES), "shuffles": 20, "bins": 8, "value": "best matching"}
    assert "matched" not in found.values


def test_what_hardly_ever_shows_is_hardly_told() -> None:
    """A code that decides alone who of 2,000 gets the hat that half of the real people wear, and gives it to ten."""
    code = torch.zeros(2000, 1).long()
    code[:10] = 1
    figures = (AttributeFigure("Hat", 0.95, 0.5, 0.95),)
    found = recovered(code, code - 0.5, CODES[3:], Reader(figures))
    told = -(0.005 * math.log(0.005) + 0.995 * math.log(0.995))
    assert found.value == pytest.approx(told / math.log(2), abs=1e-3)
    assert found.values["nats_Hat → Hat"] == pytest.approx(told, abs=1e-3)
    assert found.values["agreement"] == 1, "of that the code is right"


def test_only_what_the_probe_reads_well_is_judged() -> None:
    figures = (WELL[0], AttributeFigure("Young", 0.72, 0.7, 0.55), WELL[2])  # Hat is not known at all
    codes = independent()
    found = recovered(codes, torch.stack([codes[:, 0], codes[:, 3], codes[:, 2]], 1) - 0.5, reader=Reader(figures))
    assert found.value == pytest.approx(1, abs=1e-9)
    assert set(found.values) >= {"Male", "Smiling"}
    assert not set(found.values) & {"Young", "Hat"}
    assert (found.settings["hardly_read"], found.settings["not_read"]) == ("Young", "Hat")
    codes[:, 0] = 1  # a code that never varies cannot be judged, and is not
    found = recovered(codes, torch.stack([codes[:, 0], codes[:, 3], codes[:, 2]], 1) - 0.5, reader=Reader(figures))
    assert "Male" not in found.values
    assert found.value == pytest.approx(1, abs=1e-9)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(LimnerError, match="no codes"):
        CodeRecovery(Reader(), ())
    with pytest.raises(LimnerError, match="reads none of Bald well"):
        CodeRecovery(Reader(), (Code("Bald", "named", 2),))
    with pytest.raises(LimnerError, match="reads no attribute well"):
        CodeRecovery(Reader((AttributeFigure("Male", 0.6, 0.6, 0.5),)), (Code("c", "categorical", 3),))
    meter = CodeRecovery(Reader(), CODES)
    with pytest.raises(LimnerError, match=r"shape \[3, 4\], but \[2, 4\] is needed"):
        meter.add_readings(torch.zeros(2, 4), torch.zeros(3, 4).long())
    with pytest.raises(LimnerError, match="no images"):
        meter.result()
    with pytest.raises(LimnerError, match="no code varies among 7 images"):
        recovered(torch.ones(7, 4).long(), torch.ones(7, 4))


# --- in an evaluation -------------------------------------------------------------------------------------------------


class Eye(ProbeExtractor):
    """Reads the attributes off the pixels where `Coded` puts its named codes, right after z."""

    def __init__(self) -> None:
        self.name, self.sha256, self.resize = "probe", "7" * 64, "none"

    @property
    def accuracy(self) -> Accuracy:
        return Accuracy(WELL, None, None)

    def read(self, images: Tensor) -> Reading:
        logits = images[:, 0, 3:7, 0].float() - 190
        return Reading(logits, None, None, logits)


def measure(model: nn.Module, data: Dataset, **changes: object) -> Card:
    settings = {"metrics": ("code_recovery",), "probe": Eye(), "weights_name": "ema", "images_seen": 0} | changes
    (card,) = evaluate_model(model, data, count=200, split="all", **settings)  # type: ignore[arg-type]
    return card


def test_a_card_of_a_model_with_codes(tiny_dataset: Dataset) -> None:
    card = measure(Coded(NAMED), tiny_dataset)
    assert card.name == f"code_recovery_probe_{card.count_fakes}"
    assert card.value == pytest.approx(1, abs=1e-9)
    assert (card.values["agreement"], card.count_reals, card.attributes) == (1, 0, None)
    assert (card.extractor, card.extractor_sha256) == ("probe", "7" * 64)
    assert measure(Coded(NAMED), tiny_dataset, batch_size=7) == card
    assert kinds_of(Coded(NAMED)) == {"codes"}


def test_models_without_codes_are_refused_in_one_line(tiny_dataset: Dataset) -> None:
    plain = Coded()
    assert kinds_of(plain) == frozenset()
    with pytest.raises(LimnerError, match="code_recovery is of models with codes, such as infogan") as caught:
        measure(plain, tiny_dataset)
    assert "\n" not in str(caught.value)
    with pytest.raises(LimnerError, match="needs the dataset's probe"):
        measure(Coded(NAMED), tiny_dataset, probe=None)
    assert "code_recovery" in applicable(None, count=100, probe=True, kinds={"codes"})
    assert "code_recovery" not in applicable(None, count=99, probe=True, kinds={"codes"})
    assert "code_recovery" not in applicable(None, count=100, probe=True, kinds={"conditional"})
    assert "attribute_accuracy" not in applicable(None, count=100, probe=True, kinds={"codes"})
    assert "code_recovery" not in applicable(None, count=100, kinds={"codes"})
