"""`limner compare` says which checkpoint and how many images each number is of, and what is not on equal terms."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.cli import main
from limner.compare.scores import columns, counts_note
from limner.compare.tables import number_table
from limner.metrics.card import Card
from test_card import card as make_card
from test_compare_scores import scored


def a_run(folder: Path, *cards: Card, checkpoints: tuple[int, ...] = ()) -> Path:
    (folder / "metrics").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    for card in cards:
        card.write(folder / "metrics" / card.file_name)
    for images in checkpoints:
        (folder / "checkpoints" / f"images-{images:012d}.safetensors").touch()
    return folder


def swd(value: float, images_seen: int, count: int = 2000) -> Card:
    return make_card(value=value, images_seen=images_seen, extractor=None, values={}, count_fakes=count)


def compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[str, dict[str, list[str]]]:
    """What is printed, and the cells of each row by the metric's name."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["compare", *map(str, words)]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]
    return out, {row[0]: row[1:] for row in rows}


def test_a_row_says_the_checkpoints_and_images_it_is_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(Path("a"), swd(8.0, 72_000), swd(5.0, 72_000, 500))
    a_run(Path("b"), swd(4.0, 72_000), swd(6.0, 72_000, 500))
    out, rows = compared(capsys, monkeypatch, "a", "b")
    assert rows["swd_2k"] == ["↓", "8", "4", "-4", "b", "2,000", "72,000"]
    assert rows["swd_500"] == ["↓", "5", "6", "+1", "a", "500", "72,000"]
    assert "measured on different numbers of images: swd on 2,000; swd on 500" in out
    assert "unequal terms" not in out


def test_of_two_checkpoints_the_one_that_both_measured_is_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(Path("a"), swd(8.0, 50_000), swd(2.0, 100_000), checkpoints=(50_000, 100_000))
    a_run(Path("b"), swd(4.0, 50_000), checkpoints=(50_000,))
    out, rows = compared(capsys, monkeypatch, "a", "b")
    assert rows["swd_2k"] == ["↓", "8", "4", "-4", "b", "2,000", "50,000"]
    assert "a has a checkpoint of 100,000 images seen, and these numbers are older: limner evaluate a" in out
    assert "b has a checkpoint" not in out


def test_numbers_of_unlike_checkpoints_are_marked_and_neither_is_called_better(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(Path("a"), swd(8.0, 72_000))
    a_run(Path("b"), swd(4.0, 20_000))
    out, rows = compared(capsys, monkeypatch, "a", "b")
    assert rows["swd_2k"][4:] == ["unequal terms", "2,000", "72,000 and 20,000"]
    assert "unequal terms: swd_2k of a at 72,000 images seen, of b at 20,000" in out
    out, rows = compared(capsys, monkeypatch, "a", "b", "--ignore", "images_seen")
    assert rows["swd_2k"][4:] == ["b", "2,000", "72,000 and 20,000"]
    assert "unequal terms" not in out
    _, rows = compared(capsys, monkeypatch, *(next(Path(name, "metrics").iterdir()) for name in "ab"))
    assert rows["swd_2k"][4] != "unequal terms", "two cards were chosen one by one"


def test_the_page_names_images_seen_and_numbers_of_older_checkpoints() -> None:
    a, b, late = scored("a", 1.0), scored("b", 2.0), scored("late", 3.0)
    (run,) = late.runs
    run.record.cards[:] = [make_card(value=3.0, images_seen=3000, extractor=None, values={})]
    found, notes = columns([a, b, late], ())
    (line,) = notes
    assert line.startswith(
        "late-0: its swd_2k is of 3,000 images seen and its newest checkpoint has 4,000; measure that"
    )
    table = number_table([a, b, late], found)
    assert '<th scope="col" class="number">images seen</th>' in table
    assert table.count('<td class="number">4,000</td>') == 3
    assert "<small>2,000 images</small>" in table


def test_metrics_of_one_table_on_unequal_counts_are_named() -> None:
    cards = [swd(1.0, 4), make_card(metric="ms_ssim", count_fakes=500), make_card(metric="kid", count_fakes=500)]
    assert counts_note(cards[:1]) == ""
    assert counts_note(cards).endswith("swd on 2,000; ms_ssim, kid on 500")
    assert counts_note([cards[0], make_card(metric="ppl", count_fakes=400)]) == "", "a part of the same count"
