"""Metric cards: written and read back whole, and never compared with an unlike one."""

from __future__ import annotations

import dataclasses
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from limner.errors import DataError, LimnerError, ResourceError
from limner.metrics.card import SUBJECT, Card, compare, display_name, read_card


def card(**changes: Any) -> Card:
    facts: dict[str, Any] = {
        "metric": "swd",
        "value": 6.25,
        "values": {"level_32": 5.5, "level_16": 7.0},
        "settings": {"directions": 512, "levels": "32 16", "scale": 1000.0, "mirror": False},
        "count_requested": 3000,
        "count_reals": 2000,
        "count_fakes": 2000,
        "resolution": 32,
        "quantisation": "nearest of 256 levels",
        "resize": "box",
        "crop": "celeba-128",
        "dataset": "faces",
        "dataset_sha256": "ab" * 32,
        "split": "train",
        "seed": 0,
        "latents_seed": 0,
        "model": "DCGAN",
        "weights": "ema",
        "images_seen": 12345,
        "extractor": "inception",
        "extractor_sha256": "cd" * 32,
        "extractor_resize": "clean",
    }
    return Card(**{**facts, **changes})


OTHER: dict[str, Any] = {
    "metric": "fid",
    "settings": {"directions": 128, "levels": "32 16", "scale": 1000.0, "mirror": False},
    "count_reals": 1000,
    "count_fakes": 1000,
    "resolution": 64,
    "quantisation": "floor",
    "resize": "lanczos",
    "crop": "whole",
    "dataset": "heads",
    "dataset_sha256": "ef" * 32,
    "split": "test",
    "seed": 1,
    "latents_seed": None,
    "weights": "raw",
    "extractor": None,
    "extractor_sha256": "00" * 32,
    "extractor_resize": "pytorch-fid",
    "truncation": 0.7,
    "attributes": "rows of the reals: Male",
    "code_version": "0.0.0",
}


def test_write_and_read_back(tmp_path: Path) -> None:
    for made in (card(), card(metric="ms_ssim", values={}, extractor=None, extractor_sha256=None, crop=None)):
        path = tmp_path / made.file_name
        made.write(path)
        assert read_card(path) == made
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        path.unlink()
    assert card().code_version == metadata.version("limner")


def test_the_count_stands_in_the_name_and_no_two_counts_share_one() -> None:
    assert display_name("swd", 2000) == "swd_2k"
    assert display_name("ms_ssim", 20_000) == "ms_ssim_20k"
    assert display_name("swd", 16_384) == "swd_16384"
    assert display_name("swd", 500) == "swd_500"
    assert len({display_name("swd", n) for n in range(1, 5000)}) == 4999
    assert card().name == "swd_2k"
    assert card().file_name == "images-000000012345-swd_2k-train-ema.json"
    assert card(images_seen=None, weights=None, split=None).file_name == "swd_2k.json"


def test_the_extractor_stands_in_the_name_unless_it_is_inception() -> None:
    assert display_name("fid", 10_000, "inception") == "fid_10k"
    assert display_name("fd", 10_000, "probe") == "fd_probe_10k"
    assert display_name("precision", 4999, "efficientnet-lite0") == "precision_efficientnet-lite0_4999"
    made = card(metric="fd", extractor="probe")
    assert (made.name, made.file_name) == ("fd_probe_2k", "images-000000012345-fd_probe_2k-train-ema.json")
    assert card(metric="fid").name == "fid_2k"


def test_a_card_of_the_first_format_is_read_and_compared_with_its_like(tmp_path: Path) -> None:
    """Made before there were extractors, truncation and given attributes: it had none of them."""
    path = tmp_path / "card.json"
    today = card(extractor=None, extractor_sha256=None, extractor_resize=None)
    today.write(path)
    content = json.loads(path.read_text())
    for name in ("extractor_resize", "truncation", "attributes"):
        assert content.pop(name) is None
    path.write_text(json.dumps({**content, "format": "limner-card-1"}))
    assert read_card(path) == today
    assert compare(read_card(path), today)["value"] == 0
    path.write_text(json.dumps({**content, "format": "limner-card-2"}))
    with pytest.raises(DataError, match="attributes: missing"):
        read_card(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_no_card_holds_a_number_that_is_not_finite(bad: float, tmp_path: Path) -> None:
    for changes in ({"value": bad}, {"values": {"level_32": bad}}, {"settings": {"scale": bad}}):
        with pytest.raises(LimnerError, match=r"swd: .* is (nan|-?inf)"):
            card(**changes)
    path = tmp_path / "card.json"
    card().write(path)
    path.write_text(path.read_text().replace("6.25", json.dumps(bad)))
    with pytest.raises(DataError, match="value"):
        read_card(path)


def test_cards_of_one_protocol_compare() -> None:
    better = card(
        value=5.25, values={"level_32": 5.0, "level_16": 5.5}, images_seen=99, model="WGAN", count_requested=1
    )
    assert compare(card(), better) == {"value": -1.0, "level_32": -0.5, "level_16": -1.5}


@pytest.mark.parametrize("name", [entry.name for entry in dataclasses.fields(Card) if entry.name not in SUBJECT])
def test_any_field_of_the_protocol_that_differs_is_refused_and_named(name: str) -> None:
    other = card(**{name: OTHER[name]})
    with pytest.raises(LimnerError, match=f"cannot be compared: {name}[ .]") as caught:
        compare(card(), other)
    message = str(caught.value)
    assert "\n" not in message
    assert message.count("≠") == 1
    assert compare(card(), other, ignore=(name,))["value"] == 0


def test_all_differing_fields_are_named_with_both_values() -> None:
    with pytest.raises(LimnerError) as caught:
        compare(card(), card(split="test", seed=7, settings={**card().settings, "directions": 64, "extra": 1}))
    message = str(caught.value)
    for part in ("split 'train' ≠ 'test'", "seed 0 ≠ 7", "settings.directions 512 ≠ 64", "settings.extra None ≠ 1"):
        assert part in message
    assert "crop" not in message
    with pytest.raises(LimnerError, match="split"):
        compare(card(), card(split="test", seed=7), ignore=("seed",))
    with pytest.raises(LimnerError, match="sede: no such field"):
        compare(card(), card(), ignore=("sede",))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "limner-card-9"}, "format"),
        ({"format": None}, "format"),
        ({"name": "swd_50k"}, "name"),
        ({"value": "6.25"}, "value"),
        ({"value": True}, "value"),
        ({"value": None}, "value"),
        ({"value": 10**400}, "value"),
        ({"values": {"level_32": "x"}}, "values"),
        ({"values": [1]}, "values"),
        ({"settings": {"a": [1]}}, "settings"),
        ({"count_fakes": 2000.5}, "count_fakes"),
        ({"seed": True}, "seed"),
        ({"crop": 3}, "crop"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_damaged_file_is_refused_by_field(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    card().write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=f"card.json: {named}: ") as caught:
        read_card(path)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_not_filled_with_todays_default(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    for name in (entry.name for entry in dataclasses.fields(Card)):
        card().write(path)
        content = json.loads(path.read_text())
        del content[name]
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=f"{name}: missing"):
            read_card(path)


def test_files_that_are_no_cards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_card(tmp_path / "none.json")
    path = tmp_path / "card.json"
    for text, why in (
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "list, not an object"),
        (b"{}", "format"),
    ):
        path.write_bytes(text)
        with pytest.raises(DataError, match=why):
            read_card(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="not JSON"):
        read_card(path)


def test_an_integral_value_is_a_value(tmp_path: Path) -> None:
    """Other programs write 6 for 6.0."""
    path = tmp_path / "card.json"
    card(value=6.0).write(path)
    path.write_text(path.read_text().replace("6.0", "6", 1))
    value = read_card(path).value
    assert (value, type(value)) == (6.0, float)


def test_a_failed_write_leaves_the_old_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "card.json"
    card().write(path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match=r"card.json: cannot be written \(No space"):
        card(value=1.0).write(path)
    assert read_card(path).value == 6.25
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
