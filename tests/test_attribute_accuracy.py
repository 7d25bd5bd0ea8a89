"""Attribute accuracy in closed form, with a reader whose readings are given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.attribute_accuracy import AttributeAccuracy
from limner.metrics.probe.figures import Accuracy, AttributeFigure
from limner.metrics.probe.network import Reading

FIGURES = (
    AttributeFigure("Male", 0.98, 0.5, 0.98),
    AttributeFigure("Young", 0.9, 0.7, 0.85),
    AttributeFigure("Smiling", 0.7, 0.6, 0.6),  # a quarter of the way: hardly read
)


class Reader:
    """Says what the pictures' first pixels hold: red Male, green Young, blue Smiling; more than 127 is yes."""

    name = "probe"
    sha256 = "0" * 64
    accuracy = Accuracy(FIGURES, None, None)

    def read(self, images: Tensor) -> Reading:
        logits = images[:, 0, 0].float() - 127.5
        return Reading(logits, None, None, torch.zeros(len(images), 4))


def pictures(*said: tuple[int, int, int]) -> Tensor:
    return (torch.tensor(said, dtype=torch.uint8) * 255)[:, None, None].expand(-1, 16, 16, -1)


SAID = pictures((1, 1, 0), (1, 0, 0), (0, 1, 1), (0, 0, 0))
ASKED = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 0, 1]]).float()


def test_closed_form() -> None:
    meter = AttributeAccuracy(Reader(), ("Male", "Young", "Smiling"))
    meter.add(SAID, ASKED)
    found = meter.result()
    # Male: read 1100, asked 1110 → 3/4; of those asked to have it 2/3, of the other 1/1
    # Young: read 1010, asked 1100 → 2/4; 1/2 and 1/2
    # Smiling: read 0010, asked 0111 → 2/4; 1/3 and 1/1; hardly read, so not in the means
    assert found.value == pytest.approx((3 / 4 + 2 / 4) / 2, abs=1e-12)
    expected = {
        "probe": (0.98 + 0.9) / 2,
        "balanced": (5 / 6 + 1 / 2) / 2,
        "Male": 3 / 4,
        "probe_Male": 0.98,
        "asked_Male": 3 / 4,
        "balanced_Male": 5 / 6,
        "Young": 2 / 4,
        "probe_Young": 0.9,
        "asked_Young": 2 / 4,
        "balanced_Young": 1 / 2,
        "Smiling": 2 / 4,
        "probe_Smiling": 0.7,
        "asked_Smiling": 3 / 4,
        "balanced_Smiling": 2 / 3,
    }
    assert found.values == pytest.approx(expected, abs=1e-12)
    expected_settings = {"attributes": "Male, Young", "hardly_read": "Smiling", "asked_of_all_or_none": ""}
    assert found.settings == expected_settings
    assert (found.extractor, found.extractor_sha256) == ("probe", "0" * 64)


def test_columns_are_matched_by_name() -> None:
    some = AttributeAccuracy(Reader(), ("Young", "Male"))
    some.add(SAID, ASKED[:, [1, 0]])
    values = some.result().values
    assert (values["Male"], values["Young"]) == (3 / 4, 2 / 4)
    assert "Smiling" not in values


def test_batches_change_nothing() -> None:
    whole, parts = (AttributeAccuracy(Reader(), ("Male", "Young")) for _ in range(2))
    whole.add(SAID, ASKED[:, :2])
    for k in range(4):
        parts.add(SAID[k : k + 1], ASKED[k : k + 1, :2])
    assert whole.result() == parts.result()


def test_there_is_no_balanced_accuracy_of_what_was_asked_of_all() -> None:
    meter = AttributeAccuracy(Reader(), ("Male",))
    meter.add(SAID[:3], torch.ones(3, 1))
    values = meter.result().values
    assert values["Male"] == pytest.approx(2 / 3)
    assert "balanced_Male" not in values
    assert "balanced" not in values


def test_what_was_asked_of_all_counts_only_where_there_is_nothing_else() -> None:
    meter = AttributeAccuracy(Reader(), ("Male", "Young"))
    meter.add(SAID, torch.tensor([[1, 1], [1, 1], [1, 0], [1, 0]]).float())
    found = meter.result()
    assert found.values["Male"] == 2 / 4
    assert (found.value, found.values["balanced"], found.values["probe"]) == (2 / 4, 2 / 4, 0.9), "Young alone"
    assert (found.settings["attributes"], found.settings["asked_of_all_or_none"]) == ("Young", "Male")
    alone = AttributeAccuracy(Reader(), ("Male",))
    alone.add(SAID, torch.ones(4, 1))
    assert (alone.result().value, alone.result().settings["attributes"]) == (2 / 4, "Male")


def test_attributes_the_probe_does_not_know_are_left_out_and_named() -> None:
    more = AttributeAccuracy(Reader(), ("Bald", "Young", "Hat", "Male"))
    more.add(SAID, torch.cat([1 - ASKED[:, :1], ASKED[:, 1:2], ASKED[:, :1] * 0, ASKED[:, :1]], dim=1))
    found = more.result()
    assert (found.values["Male"], found.values["Young"]) == (3 / 4, 2 / 4)
    assert found.value == (3 / 4 + 2 / 4) / 2
    assert not any("Bald" in name or "Hat" in name for name in found.values)
    assert (found.settings["attributes"], found.settings["not_read"]) == ("Young, Male", "Bald, Hat")


def test_thirty_attributes_at_once_are_each_their_own() -> None:
    """Attribute k is read wrong in exactly the first k of 40 samples; every fourth is hardly read."""
    figures = tuple(AttributeFigure(f"a{k}", 0.95, 0.93 if k % 4 == 3 else 0.6, 0.9) for k in range(30))

    class Many(Reader):
        accuracy = Accuracy(figures, None, None)

    asked = torch.randint(0, 2, (40, 30), generator=torch.Generator().manual_seed(0)).float()
    wrong = torch.arange(40)[:, None] < torch.arange(30)[None]
    meter = AttributeAccuracy(Many(), [figure.name for figure in figures])
    meter.add_readings(torch.where(wrong, 1 - asked, asked) - 0.5, asked)
    found = meter.result()
    assert [found.values[f"a{k}"] for k in range(30)] == pytest.approx([1 - k / 40 for k in range(30)])
    judged = [k for k in range(30) if k % 4 != 3]
    assert found.value == pytest.approx(sum(1 - k / 40 for k in judged) / len(judged))
    assert found.settings["attributes"] == ", ".join(f"a{k}" for k in judged)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ((), "name each attribute once"),
        (("Male", "Male"), "name each attribute once"),
        (("Hat", "Bald"), "does not read Hat, Bald; it reads: Male, Young, Smiling"),
        (("Smiling",), "reads none of Smiling well"),
    ],
)
def test_names_that_cannot_be_judged_are_refused(names: tuple[str, ...], why: str) -> None:
    with pytest.raises(LimnerError, match=why):
        AttributeAccuracy(Reader(), names)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (torch.ones(4, 1), r"shape \[4, 1\], but \[4, 2\]"),
        (torch.ones(3, 2), r"shape \[3, 2\], but \[4, 2\]"),
        (torch.full((4, 2), 0.5), "other than 0 and 1"),
        (torch.full((4, 2), torch.nan), "other than 0 and 1"),
    ],
)
def test_wrong_vectors_are_refused(asked: Tensor, why: str) -> None:
    meter = AttributeAccuracy(Reader(), ("Male", "Young"))
    with pytest.raises(LimnerError, match=why):
        meter.add(SAID, asked)
    with pytest.raises(LimnerError, match="no samples"):
        meter.result()
