"""What is shown while training: plain lines without a terminal, a live display on one, times a person can read."""

from __future__ import annotations

import io
import math
import sys

import pytest
from rich.console import Console

from limner.training import progress as progress_module
from limner.training.progress import Progress, Speed, duration, kimg, short


def plain() -> tuple[io.StringIO, Console]:
    stream = io.StringIO()
    return stream, Console(file=stream, force_terminal=False)


def test_without_a_terminal_a_tick_is_one_line() -> None:
    stream, console = plain()
    with Progress(100_000, console=console) as progress:
        progress.tick(4000, 100.0, {"discriminator/real": 0.123456, "generator": -1.5}, resolution=32)
        progress.advance(4100)
        progress.tick(8000, 100.0, {"generator": 2.0}, resolution=32)
    assert stream.getvalue() == (
        "4 of 100 kimg (4.0%) | 32² | 100 images/s | 16 min 0 s left | discriminator/real 0.1235, generator -1.5\n"
        "8 of 100 kimg (8.0%) | 32² | 100 images/s | 15 min 20 s left | generator 2\n"
    )


def test_without_a_terminal_a_metric_is_one_line_when_it_is_measured() -> None:
    stream, console = plain()
    with Progress(10_000, console=console) as progress:
        progress.metric("swd_1k", 31.25)
        progress.metric("swd_1k", 30.5)
        progress.tick(1000, 10.0, {})
        progress.tick(2000, 10.0, {})
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["swd_1k 31.25 at 0 kimg", "swd_1k 30.5 at 0 kimg"]
    assert [line.count("swd_1k") for line in lines[2:]] == [0, 0]


def test_on_a_terminal_the_newest_metric_stays_in_view() -> None:
    stream = io.StringIO()
    with Progress(10_000, console=Console(file=stream, force_terminal=True, width=120)) as progress:
        progress.metric("swd_1k", 31.25)
        progress.tick(1000, 10.0, {})
    assert stream.getvalue().rsplit("1 of 10 kimg", 1)[1].count("swd_1k 31.25") == 1


def test_the_bar_moves_between_two_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most twice a second, as redrawing costs time."""
    stream, clock = io.StringIO(), [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    with Progress(10_000, console=Console(file=stream, force_terminal=True, width=120)) as progress:
        progress.tick(1000, 10.0, {})
        drawn = len(stream.getvalue())
        progress.advance(1100)
        assert len(stream.getvalue()) == drawn, "half a second has not passed"
        clock[0] += 0.6
        progress.advance(1200)
        assert len(stream.getvalue()) > drawn


def test_a_note_and_a_name_cannot_steer_the_terminal() -> None:
    stream, console = plain()
    with Progress(10_000, console=console) as progress:
        progress.note("saved \x1b[2J[red]x\r\n")
        progress.tick(1000, 10.0, {"a\x1b]0;b\x07": 1.0})
    assert "\x1b" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()
    assert "saved  [2J[red]x" in stream.getvalue()


def test_on_a_terminal_the_display_is_live() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with Progress(100_000, start_images=2000, console=console) as progress:
        progress.tick(4000, 100.0, {"generator": 1.5}, resolution=64)
        progress.metric("fid", 12.5)
        progress.note("saved [bold]a[/bold]")
        progress.advance(5000)
    shown = stream.getvalue()
    for piece in ("4 of 100 kimg (4.0%)", "64² · 100 images/s · 16 min 0 s left", "generator 1.5", "fid 12.5"):
        assert piece in shown
    assert "saved [bold]a[/bold]" in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


class Gone(io.StringIO):
    """A stream whose reader goes away after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes_left = writes

    def write(self, text: str) -> int:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise BrokenPipeError
        return super().write(text)


@pytest.mark.parametrize("writes", range(8))
@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_went_away_does_not_stop_training(terminal: bool, writes: int) -> None:
    before = sys.stdout
    with Progress(1000, console=Console(file=Gone(writes), force_terminal=terminal)) as progress:
        progress.tick(100, 10.0, {"generator": 1.0})
        progress.note("x")
        progress.metric("swd", 1.0)
        progress.tick(200, 10.0, {"generator": 1.0})
    assert sys.stdout is before


def test_the_display_is_closed_after_an_error() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress(1000, console=Console(file=stream, force_terminal=True)):
        raise KeyError
    assert stream.getvalue().endswith("\x1b[?25h")


def test_speed_is_the_pace_of_the_last_minute() -> None:
    speed = Speed()
    speed.add(100.0, 1000)
    assert speed.images_per_second == 100.0
    speed.add(50.0, 50)  # one slow second changes little …
    assert 98 < speed.images_per_second < 100
    speed.add(50.0, 50 * 600)  # … ten slow minutes all
    assert speed.images_per_second == pytest.approx(50.0, rel=1e-3)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_speed_is_ignored(bad: float) -> None:
    speed = Speed()
    speed.add(bad, 10)
    assert speed.images_per_second is None
    speed.add(10.0, 10)
    speed.add(bad, 10)
    assert speed.images_per_second == 10.0


def test_time_left_starts_afresh_at_another_resolution() -> None:
    _, console = plain()
    progress = Progress(11_000, console=console)
    assert progress.seconds_left is None
    progress.tick(1000, 1000.0, {}, resolution=8)
    assert progress.seconds_left == 10.0
    progress.tick(2000, 10.0, {}, resolution=16)
    assert progress.seconds_left == 900.0


def test_no_time_is_left_beyond_the_end() -> None:
    _, console = plain()
    progress = Progress(1000, console=console)
    progress.tick(1200, 10.0, {})
    assert progress.seconds_left == 0.0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0 s"),
        (7.6, "8 s"),
        (59.6, "1 min 0 s"),
        (250.0, "4 min 10 s"),
        (3599.7, "1 h 0 min"),
        (6840.0, "1 h 54 min"),
        (86400.0 * 2 + 3 * 3600 + 59, "2 d 3 h"),
        (math.inf, "unknown"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0.123456, 1234.56, -3.21e-5, 2e9, 100.0)] == [
        "0.1235",
        "1235",
        "-3.21e-05",
        "2e+09",
        "100",
    ]
    assert [kimg(images) for images in (0, 12_345, 100_000)] == ["0", "12.3", "100"]
