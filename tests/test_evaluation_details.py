"""Attribute by attribute and code by code: what the screen and the report show of a card."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from limner.metrics.card import Card
from limner.training import evaluation_table
from limner.training.evaluation_details import details
from limner.training.record import RunRecord
from limner.training.report_metrics import metric_table, one_by_one
from test_card import card as make_card

NAMED = {
    "chance": 0.001,
    "probe": 0.75,
    "agreement": 0.7,
    "matched": 0.5,
    "Male": 0.25,
    "agreement_Male": 0.875,
    "probe_Male": 0.8,
    "Male → Hat_[x]": 0.5,
    "nats_Male → Hat_[x]": 0.125,
    "sign_Male → Hat_[x]": -0.75,
    "Young → Male": 0.0001,
    "nats_Young → Male": 0.00001,
    "sign_Young → Male": 0.01,
}
UNNAMED = {
    "chance": 0.002,
    "probe": 0.7,
    "category_1 → Male": 0.5,
    "nats_category_1 → Male": 0.25,
    "way_category_1 → Male": 7.0,
}
OBEYS = {"probe": 0.96, "Male": 0.9, "balanced_Male": 0.85, "probe_Male": 0.96, "asked_Male": 0.4}
OBEYS |= {"Hat": 1.0, "probe_Hat": 0.99, "asked_Hat": 0.0, "Lips": 0.6, "probe_Lips": 0.7, "asked_Lips": 0.5}


def code_card(values: dict[str, float]) -> Card:
    return make_card(metric="code_recovery", values=values, extractor="probe", count_reals=0)


def obedience() -> Card:
    judged = {"attributes": "Male", "hardly_read": "Lips", "asked_of_all_or_none": "Hat"}
    return make_card(metric="attribute_accuracy", values=OBEYS, settings=judged, extractor="probe")


def test_codes_with_names_have_their_own_and_their_best() -> None:
    found = details(code_card(NAMED))
    assert found is not None
    assert found.head == ["code", "own name", "agrees", "at best", "best match", "share", "nats", "way"]
    assert found.rows == [("Male", "0.250", "0.875", "0.800", "Hat_[x]", "0.500", "0.125", "-0.75")]
    assert found.words == (0, 4)


def test_codes_without_names_have_a_best_match() -> None:
    found = details(code_card(UNNAMED))
    assert found is not None
    assert found.head == ["code", "best match", "share", "nats", "way"]
    assert found.rows == [("category_1", "Male", "0.500", "0.250", "at 7")]


def test_attributes_have_the_probes_own_accuracy_beside_theirs() -> None:
    found = details(obedience())
    assert found is not None
    assert found.rows == [
        ("Male", "0.900", "0.850", "0.960", "0.400", ""),
        ("Hat", "1.000", "", "0.990", "0.000", "asked of all or none"),
        ("Lips", "0.600", "", "0.700", "0.500", "hardly read"),
    ]
    assert details(make_card(metric="swd")) is None


def test_axes_have_a_row_each_where_they_were_turned() -> None:
    yaw = {"chance": 0.1, "rank_correlation": 0.2, "slope": 0.3, "range": 0.4, "error_degrees": 5.5, "sign": -1.0}
    pitch = {"pitch": 0.6, "pitch_chance": 0.7, "pitch_rank_correlation": 0.8, "pitch_turning_back": 0.25}
    found = details(make_card(metric="pose_control", value=0.9, values=yaw | pitch, extractor="probe", count_reals=0))
    assert found is not None
    assert list(found.head)[:5] == ["axis", "control", "chance", "ranks", "slope"]
    assert [row[:5] for row in found.rows] == [
        ("yaw", "0.900", "0.100", "0.200", "0.300"),
        ("pitch", "0.600", "0.700", "0.800", ""),
    ]
    assert found.rows[0][-1] == "-1.000"
    assert found.rows[1][found.head.index("back")] == "0.250"
    assert [found.head[place] for place in found.aside] == ["chance", "range", "off the line", "one way"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_shows_them_under_the_numbers(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    out = io.StringIO()
    monkeypatch.setattr(evaluation_table, "Console", lambda: Console(file=out, width=width))
    evaluation_table.show_cards([code_card(NAMED), obedience()])
    shown = out.getvalue()
    assert "Male" in shown
    assert "Hat_[x]" in shown, "no markup"
    assert "chance 0.001" in shown
    assert "0.125" not in shown, "nats are for wide pages"
    assert shown.index("code by code") < shown.index("attribute by attribute") < shown.index("asked of all or none")
    evaluation_table.show_cards([code_card(NAMED)])
    assert "2,000 fakes\n" in out.getvalue(), "against no reals"


def test_the_report_holds_all_of_them(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, {}, log=[], history=[], cards=[code_card(NAMED), obedience()])
    page = metric_table(record) + one_by_one(record)
    assert "<td>Hat_[x]</td>" in page
    assert '<td class="number">0.125</td>' in page
    assert "best matching" in page
    assert "probe on real images 0.75<br>best matching 0.5<br>agreement by name 0.7" in page
    assert "nats_Male" not in page
