"""The log survives kills at any byte, full disks and numbers JSON has no word for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from limner.errors import LimnerError, ResourceError
from limner.training.log import RunLog, number, read_events, read_log, standing


def test_an_event_is_one_line_of_json_with_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.jsonl"
    with RunLog(path) as log:
        log.write("tick", 4000, losses={"discriminator/real": 0.5}, learning_rate=1e-3)
    (line,) = path.read_text().splitlines()
    event = json.loads(line)
    assert event["time"].endswith("+00:00")
    assert {name: event[name] for name in ("event", "images", "losses", "learning_rate")} == {
        "event": "tick",
        "images": 4000,
        "losses": {"discriminator/real": 0.5},
        "learning_rate": 1e-3,
    }


def test_each_line_is_on_the_disk_before_the_next_is_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    for images in range(3):
        log.write("tick", images)
        assert len(read_events(tmp_path / "log.jsonl")) == images + 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (np.float32(0.5), 0.5),
        (np.float64("inf"), "inf"),
        (np.arange(2), [0, 1]),
        ((1, {"a": math.nan}), [1, {"a": "nan"}]),
        (Path("samples/x.png"), "samples/x.png"),
        ("Grüße\u2028\n", "Grüße\u2028\n"),
        (True, True),
        (None, None),
    ],
)
def test_any_value_stays_valid_json(tmp_path: Path, value: object, written: object) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        log.write("tick", 1, value=value)
        log.write("tick", 2)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    first = json.loads(path.read_text().split("\n")[0], parse_constant=refuse)
    assert first["value"] == written
    assert len(path.read_bytes().split(b"\n")) == 3


def test_a_tensor_is_written_as_its_number(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with RunLog(tmp_path / "log.jsonl") as log:
        log.write("tick", 1, losses={"generator": torch.tensor(0.25)})
    assert read_log(tmp_path / "log.jsonl")[0]["losses"] == {"generator": 0.25}


def test_a_kill_at_every_byte_loses_at_most_the_line_being_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        log.write("start", 0, message="ü")
        kept = path.stat().st_size
        log.write("tick", 1000, losses={"generator": 0.5})
    whole = path.read_bytes()
    for length in range(kept, len(whole) + 1):
        path.write_bytes(whole[:length])
        survived = [0, 1000] if length >= len(whole) - 1 else [0]  # all but the line feed is a whole line
        assert [event["images"] for event in read_log(path)] == survived
        with RunLog(path) as log:
            log.write("resume", 0)
            log.write("tick", 500)
        assert [event["images"] for event in read_events(path)] == [*survived, 0, 500]


@pytest.mark.parametrize("torn", [b"\x00" * 64, b"\xff\xfe{", b"[1]", b"3", b'{"event": 1, "images": 2}', b"[" * 9999])
def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "start", "images": 0}\n' + torn)
    with RunLog(path) as log:
        log.write("tick", 7)
    assert [event["images"] for event in read_events(path)] == [0, 7]


def test_an_absent_or_empty_log_has_no_events(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []
    (tmp_path / "log.jsonl").write_bytes(b"")
    assert read_log(tmp_path / "log.jsonl") == []


def test_a_resume_supersedes_what_lay_beyond_it() -> None:
    def event(name: str, images: int) -> dict[str, object]:
        return {"event": name, "images": images}

    events = [event("tick", 1), event("tick", 2), event("tick", 3), event("end", 3), event("resume", 2)]
    assert standing(events) == [events[0], events[1], events[4]]
    events += [event("tick", 3), event("rollback", 2), event("tick", 4), event("resume", 4)]
    assert [found["images"] for found in standing(events)] == [1, 2, 2, 2, 4, 4]


def test_a_second_writer_does_not_harm_the_first(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as training, RunLog(path) as evaluation:
        for images in range(10):
            training.write("tick", images)
            evaluation.write("metric", images, name="swd", value=1.0)
    assert [event["event"] for event in read_events(path)] == ["tick", "metric"] * 10


class FullDisk:
    """A file on a disk with room for so many bytes more."""

    def __init__(self, file: object, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        if self.room == 0:
            raise OSError(28, "No space left on device")
        taken = min(len(data), self.room)
        self.room -= taken
        return self.file.write(data[:taken])  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        self.file.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_a_full_disk_costs_lines_not_the_run(tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    log = RunLog(path)
    log.write("tick", 1)
    disk = FullDisk(log._file, room)
    monkeypatch.setattr(log, "_file", disk)
    log.write("tick", 2, padding="x" * 100)
    log.write("tick", 3, padding="x" * 100)
    assert log.lines_lost == 2
    disk.room = 10**6
    log.write("tick", 4)
    events = read_events(path)
    assert [event["images"] for event in events] == [1, 4, 4]
    assert events[-1]["event"] == "warning"
    assert "2 earlier lines" in events[-1]["message"]
    assert log.lines_lost == 0


def test_a_log_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(ResourceError, match=r"log\.jsonl: the log cannot be written"):
        RunLog(tmp_path / "log.jsonl")


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1.0), (0.5, 0.5), ("nan", None), (math.inf, None), (True, None), ([], None)]
)
def test_number(value: object, expected: float | None) -> None:
    assert number(value) == expected


def test_tensorboard_missing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(LimnerError, match=r"pip install limner\[tensorboard\]"):
        RunLog(tmp_path / "log.jsonl", tensorboard=True)
    assert not (tmp_path / "log.jsonl").exists()


def test_tensorboard_mirrors_scalars_and_sheets(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "samples").mkdir()
    for name, size in (("images", (6, 4)), ("turns-images", (8, 2)), ("reconstructions-images", (2, 2))):
        Image.new("RGB", size, (255, 0, 0)).save(tmp_path / "samples" / f"{name}-000000002000.png")
    with RunLog(tmp_path / "log.jsonl", tensorboard=True) as log:
        log.write("tick", 1000, losses={"generator/loss": 0.5}, learning_rate={"generator": 1e-3}, images_per_second=9)
        log.write("tick", 2000, losses={"generator/loss": math.nan}, learning_rate={"generator": 1e-3})
        log.write("tick", 3000, losses={"generator/loss": 9.0})
        log.write("resume", 2000)
        log.write("tick", 2500, losses={"generator/loss": 0.25})
        log.write("metric", 2500, name="swd_1k", value=3.5)
        sheets = {"file": "images", "turns": "turns-images", "reconstructions": "reconstructions-images"}
        log.write("sample", 2500, **{key: f"samples/{name}-000000002000.png" for key, name in sheets.items()})
        log.write("sample", 2500, file="samples/absent.png")
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = found.Scalars("losses/generator/loss")
    assert [entry.step for entry in losses] == [1000, 2000, 2500]
    assert [losses[0].value, losses[2].value] == [0.5, 0.25]
    assert found.Scalars("metrics/swd_1k")[0].value == 3.5
    assert found.Scalars("learning_rate/generator")[0].value == pytest.approx(1e-3)
    for tag, size in (("samples", (6, 4)), ("turns", (8, 2)), ("reconstructions", (2, 2))):
        (sheet,) = found.Images(tag)
        assert (sheet.width, sheet.height) == size
