"""`limner turn`, and the turns that a run draws of itself."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limner.cli import main
from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.explore.pictures import read_provenance
from limner.explore.sample import latents_of_seed
from limner.explore.turn import _save_moving
from limner.explore.turning import (
    Span,
    angle_captions,
    beyond_training,
    orbit,
    parse_angles,
    posed,
    spans_to_turn,
    strips,
    trained_spans,
    turn_sheet,
    turning_faces,
    turns,
)
from limner.latents import Gaussian, LatentSpace, Pose

RADIANS = math.pi / 180


def span(axis: str, low: float, high: float) -> Span:
    return Span(axis, float(low), float(high))


class Dial(torch.nn.Module):
    """A picture of 4² whose three colours are yaw, pitch and roll, one grey level a degree from the middle grey on."""

    name = "dial"
    resolution = 4

    def __init__(self, low: Sequence[float] = (-45, -20, 0), high: Sequence[float] = (45, 10, 0)) -> None:
        super().__init__()
        ends = [tuple(angle * RADIANS for angle in angles) for angles in (low, high)]
        self.latents = LatentSpace(Gaussian("z", 2), Pose("pose", 3, *ends))

    def generate(self, latents: torch.Tensor) -> torch.Tensor:
        degrees = self.latents.split(latents)["pose"] / RADIANS
        return (degrees / 127.5)[:, :, None, None].expand(-1, -1, 4, 4)


def read(face: np.ndarray) -> list[int]:
    """The degrees that a picture of a `Dial` was asked for."""
    return [round(float(value) - 127.5) for value in face[0, 0]]


@pytest.fixture(scope="module")
def run(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HoloGAN that has hardly begun."""
    folder = tmp_path_factory.mktemp("turn") / "run"
    words = ["--width", "2", "--discriminator-width", "2", "--latent-dim", "4", "--batch-size", "8", "--kimg", "0.032"]
    words += ["--data", str(tiny_dataset.folder), "--resolution", "16", "--metrics", "--out", str(folder)]
    assert main(["train", "hologan", *words]) == 0
    return folder


def turned(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    code = main(["turn", *map(str, words)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


# --- angles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("-60:60", -60, 60), ("10", 10, 10), ("-7.5", -7.5, -7.5), (" 0 : 360 ", 0, 360), ("-.5:+2.", -0.5, 2)],
)
def test_angles_are_read(text: str, low: float, high: float) -> None:
    assert parse_angles("yaw", text) == span("yaw", low, high)


@pytest.mark.parametrize("text", ["", "left", "1:2:3", "60:-60", "-200:200", "1e3", "nan", "0:inf", "400"])
def test_other_angles_are_refused_by_name(text: str) -> None:
    with pytest.raises(LimnerError, match=r"^--pitch .*expected"):
        parse_angles("pitch", text)


def test_what_is_not_asked_is_held_in_the_middle() -> None:
    model = Dial()
    yaw, pitch, roll = spans_to_turn(model, {"yaw": span("yaw", -60, 60)})
    assert (yaw, pitch, roll) == (span("yaw", -60, 60), span("pitch", -5, -5), span("roll", 0, 0))
    assert spans_to_turn(model, {})[0] == span("yaw", -45, 45), "where nothing is asked, it turns as it was trained to"
    held = spans_to_turn(model, {"yaw": span("yaw", 30, 30)})
    assert held[:2] == (span("yaw", 30, 30), span("pitch", -20, 10)), "held, so the next axis turns"
    fixed = Dial((0, 0, 0), (0, 0, 0))
    assert not any(span.turns for span in spans_to_turn(fixed, {}))
    assert turns(model)
    assert not turns(fixed)


def test_what_goes_beyond_the_training_is_said() -> None:
    model = Dial()
    assert beyond_training(model, trained_spans(model)) == []
    lines = beyond_training(model, (span("yaw", -60, 45), span("pitch", 0, 0), span("roll", 5, 5)))
    assert [line.split(";")[0] for line in lines] == ["yaw -60 to 45°: trained on -45 to 45°", "roll 5°: trained on 0°"]


def test_a_model_without_a_pose_is_refused() -> None:
    model = Dial()
    model.latents = LatentSpace(Gaussian("z", 2))
    with pytest.raises(LimnerError, match="dial has no pose, so it cannot turn what it makes; hologan can"):
        trained_spans(model)


# --- what is painted -------------------------------------------------------------------------------------------------


def test_a_sheet_asks_for_evenly_spaced_angles_axis_by_axis() -> None:
    model = Dial()
    spans = (span("yaw", -40, 40), span("pitch", -20, 10), span("roll", 3, 3))
    found = strips(spans, 5)
    poses = [pose for _, strip in found for pose in strip]
    faces = [latents_of_seed(model, seed) for seed in (3, 5)]
    columns = list(turning_faces(model, faces, poses))
    yaws = [(-40, -5, 3), (-20, -5, 3), (0, -5, 3), (20, -5, 3), (40, -5, 3)]
    pitches = [(0, -20, 3), (0, -12, 3), (0, -5, 3), (0, 2, 3), (0, 10, 3)]
    for column, wanted in zip(columns, yaws + pitches, strict=True):
        for face in column:
            assert read(face) == pytest.approx(wanted, abs=1)
    captions = [caption for axis, strip in found for caption in angle_captions(axis, strip)]
    assert captions[:3] == ["yaw -40°", "yaw -20°", "yaw 0°"]
    assert captions[-1] == "pitch 10°"


def test_only_the_pose_is_replaced() -> None:
    model = Dial()
    latents = model.latents.sample(3, torch.Generator().manual_seed(0))
    parts = model.latents.split(posed(model, latents, (10.0, -20.0, 30.0)))
    assert torch.equal(parts["z"], model.latents.split(latents)["z"])
    assert parts["pose"] == pytest.approx(torch.tensor([[10.0, -20.0, 30.0]]).expand(3, -1) * RADIANS)


def test_a_loop_goes_there_and_back_without_a_jerk() -> None:
    poses = np.array(orbit((span("yaw", -60, 60), span("pitch", 5, 5), span("roll", 0, 0)), 24))
    yaw = poses[:, 0]
    assert yaw[0] == -60
    assert yaw[12] == pytest.approx(60)
    assert (np.diff(yaw[:13]) > 0).all()
    assert yaw[1:12] == pytest.approx(yaw[:12:-1]), "back the same way"
    around = np.append(yaw, yaw[0])
    steps = np.diff(around)
    assert np.abs(np.diff(np.append(steps, steps[0]))).max() < 5, "no jerk, where it starts again neither"
    assert len(np.unique(np.round(yaw, 6))) == 13, "every end is passed once"
    assert (poses[:, 1] == 5).all()


def test_two_axes_go_round_an_ellipse_and_a_full_turn_goes_round() -> None:
    poses = np.array(orbit((span("yaw", -30, 30), span("pitch", -10, 10), span("roll", 0, 0)), 16))
    assert (poses[:, 0] / 30) ** 2 + (poses[:, 1] / 10) ** 2 == pytest.approx(np.ones(16))
    full = np.array(orbit((span("yaw", 0, 360), span("pitch", 0, 0), span("roll", 0, 0)), 36))
    assert full[:, 0] == pytest.approx(np.arange(36) * 10), "360° is where it starts"
    once = np.array(orbit((span("yaw", -30, 30), span("pitch", -10, 10), span("roll", 0, 0)), 7, loop=False))
    assert once[:, 0] == pytest.approx(np.linspace(-30, 30, 7))
    assert once[:, 1] == pytest.approx(np.linspace(-10, 10, 7))


def test_a_sheet_has_a_row_a_face_and_a_column_an_angle() -> None:
    columns = [np.full((2, 4, 4, 3), 50 * angle, np.uint8) for angle in range(3)]
    picture = np.asarray(turn_sheet(columns, ["a", "b", "c"], scale=10))
    assert picture.shape[1] == 3 * 40 + 4 * 2
    assert picture.shape[0] > 2 * 40 + 3 * 2, "captions are below"
    for angle in range(3):
        for face in range(2):
            cell = picture[2 + 42 * face : 42 + 42 * face, 2 + 42 * angle : 42 + 42 * angle]
            assert (cell == 50 * angle).all()


# --- the verb --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--yaw", "-60:60"], ["--yaw=-60:60"]])
def test_angles_may_begin_with_a_minus_sign(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    out = tmp_path / "sheet.png"
    said = turned(capsys, run, *words, "--pitch", "-5", "--seeds", "1-3", "--steps", "4", "--out", out)
    assert "3 faces, yaw -60 to 60°, pitch -5°, roll 0°" in said
    assert "yaw -60 to 60°: trained on -50 to 50°" in said
    with Image.open(out) as image:
        assert image.width == 4 * 96 + 5 * 2
    record = read_provenance(out)
    assert (record["model"], record["seeds"], record["angles"]) == (
        "hologan",
        "1-3",
        "yaw -60 to 60°, pitch -5°, roll 0°",
    )


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_moving_pictures_have_a_frame_a_pose(tmp_path: Path, suffix: str) -> None:
    """Of a `Dial`, whose red tells the yaw."""
    out, model = tmp_path / f"turn{suffix}", Dial()
    spans = (span("yaw", -100, 100), span("pitch", 0, 0), span("roll", 0, 0))
    _save_moving(model, [latents_of_seed(model, 0)], spans, 6, out, {"model": "dial"}, 25.0, True)
    if suffix == ".mp4":
        av = pytest.importorskip("av")
        with av.open(str(out)) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    else:
        with Image.open(out) as moving:
            frames = []
            for number in range(moving.n_frames):
                moving.seek(number)
                frames.append(np.asarray(moving.convert("RGB")))
    reds = [float(frame[40:120, 40:120, 0].mean()) - 127.5 for frame in frames]
    assert reds == pytest.approx([-100, -50, 50, 100, 50, -50], abs=8)


def test_without_angles_or_a_place_it_turns_as_it_was_trained_to(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = turned(capsys, run)
    assert "8 faces, yaw -50 to 50°, pitch 0°, roll 0°" in said
    assert (run / "samples" / "turn-0-7.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--yaw", "60:-60"], "--yaw '60:-60': expected the smaller angle first"),
        (["--steps", "1"], "--steps 1: a turn needs at least 2 angles"),
        (["--seeds", "0-99"], "--seeds: 100 faces in one picture; take at most 64"),
        (["--frames-per-second", "0"], "--frames-per-second 0: expected 0.1 to 120"),
        (["--out", "turn.tiff"], "turn.tiff"),
        (["--with", "Male"], "hologan takes no attributes"),
    ],
)
def test_refusals_are_a_line_each(run: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["turn", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_without_a_pose_is_refused(
    tiny_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--width", "2", "--latent-dim", "4", "--batch-size", "8", "--kimg", "0.008", "--resolution", "16"]
    folder = tmp_path / "run"
    assert main(["train", "dcgan", *words, "--data", str(tiny_dataset.folder), "--metrics", "--out", str(folder)]) == 0
    capsys.readouterr()
    assert main(["turn", str(folder)]) == 2
    assert "dcgan has no pose" in capsys.readouterr().err
    assert list((folder / "samples").glob("turn*")) == []
    assert "Turns" not in (folder / "report.html").read_text()


# --- a run's own -----------------------------------------------------------------------------------------------------


def test_a_run_draws_turns_and_its_report_shows_them(run: Path) -> None:
    sheets = sorted((run / "samples").glob("turns-*.png"))
    assert [sheet.name for sheet in sheets] == [f"turns-images-{images:012d}.png" for images in (0, 32)]
    events: list[dict[str, Any]] = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    drawn = [event["turns"] for event in events if event["event"] == "sample"]
    assert drawn == [f"samples/{sheet.name}" for sheet in sheets]
    record = read_provenance(sheets[-1])
    angles = record["angles"]
    assert len(angles) == 18, "of yaw, then of pitch"
    assert [angles[0], angles[4], angles[8], angles[9]] == ["yaw -50°", "yaw 0°", "yaw 50°", "pitch -20°"]
    report = (run / "report.html").read_text()
    assert re.search(r"<h2>Turns</h2>.*a face a row, turned through the angles", report, re.S)
    assert "turns-" not in report, "the picture itself is in the page"
