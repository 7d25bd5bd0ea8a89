"""Strips of several axes below each other, faces computed once, and what a report says of a run's turns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import limner
from limner.cli import main
from limner.explore.pictures import save_picture
from limner.explore.sample import latents_of_seed, paint
from limner.explore.turning import Span, orbit, strip_sheet, strips, turning_faces
from limner.latents import Gaussian, LatentSpace, Pose
from limner.training.drawn import drawn_sheets
from limner.training.report import write_report
from limner.training.sheets import faces_drawn

YAW, PITCH, ROLL = Span("yaw", -60.0, 60.0), Span("pitch", -10.0, 10.0), Span("roll", 0.0, 0.0)


class Recorder(torch.nn.Module):
    """A picture of 2² that is its yaw and the first two of z; what it was asked to make is kept."""

    name = "recorder"
    resolution = 2

    def __init__(self) -> None:
        super().__init__()
        ends = tuple(math.radians(angle) for angle in (60, 10, 0))
        self.latents = LatentSpace(Gaussian("z", 6), Pose("pose", 3, tuple(-end for end in ends), ends))
        self.asked: list[torch.Tensor] = []

    def generate(self, latents: torch.Tensor) -> torch.Tensor:
        self.asked.append(latents)
        return torch.tanh(latents[:, [6, 0, 1]])[:, :, None, None].expand(-1, -1, 2, 2)


def test_a_loop_asks_for_every_pose_of_every_identity_once_and_shows_it_there_and_back() -> None:
    model = Recorder()
    faces = [latents_of_seed(model, seed) for seed in (3, 9)]
    poses = orbit((YAW, Span("pitch", 5.0, 5.0), ROLL), 12)
    frames = list(turning_faces(model, faces, poses))
    asked = torch.cat(model.asked)
    assert len(asked) == 7 * 2, "seven angles there, and the five back are the same"
    assert torch.equal(asked[:, :6], torch.cat([face[:, :6] for face in faces] * 7)), "the same two identities"
    yaws = [-60 * math.cos(2 * math.pi * step / 12) for step in range(7) for _ in faces]
    assert torch.rad2deg(asked[:, 6:]) == pytest.approx(torch.tensor([[yaw, 5.0, 0.0] for yaw in yaws]), abs=1e-4)
    assert len(frames) == 12
    for there in range(1, 6):
        assert np.array_equal(frames[there], frames[12 - there])
    for frame, pose in zip(frames, poses, strict=True):
        for face, shown in zip(faces, frame, strict=True):
            radians = torch.deg2rad(torch.tensor([pose]))
            assert np.array_equal(shown, paint(model, model.latents.replace(face, pose=radians)))


def test_poses_that_differ_are_all_made() -> None:
    model = Recorder()
    frames = list(turning_faces(model, [latents_of_seed(model, 1)], orbit((YAW, PITCH, ROLL), 8)))
    assert len(frames) == len(model.asked) == 8


def test_strips_stand_below_each_other_and_may_have_fewer_faces() -> None:
    found = strips((YAW, PITCH, ROLL), 3)
    columns = [np.full((4, 8, 8, 3), 40, np.uint8)] * 3 + [np.full((2, 8, 8, 3), 200, np.uint8)] * 3
    picture = np.asarray(strip_sheet(found, columns, scale=2))
    caption = picture.shape[0] - (4 * 18 + 2) - (2 * 18 + 2)
    assert picture.shape[1] == 3 * 18 + 2
    assert caption % 2 == 0
    second = 4 * 18 + 2 + caption // 2
    for index, grey in ((0, 40), (3, 40)):
        assert (picture[2 + 18 * index : 18 + 18 * index, 2:18] == grey).all()
    for index in range(2):
        assert (picture[second + 2 + 18 * index : second + 18 + 18 * index, 38:54] == 200).all()


def test_a_film_of_nothing_that_moves_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limner, "load", lambda run, weights, device, model: Recorder(), raising=False)
    words = ["turn", str(tmp_path), "--seeds", "1", "--yaw", "10", "--pitch", "3", "--out", str(tmp_path / "x.gif")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "x.gif: nothing moves at yaw 10°, pitch 3°, roll 0°; give an axis a range, such as --yaw -60:60" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.gif").exists()


def test_many_faces_are_not_made_smaller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limner, "load", lambda run, weights, device, model: Recorder(), raising=False)
    out = tmp_path / "x.webp"
    assert main(["turn", str(tmp_path), "--seeds", "0-63", "--steps", "2", "--out", str(out)]) == 0
    with Image.open(out) as moving:
        assert moving.size == (8 * 162 + 2, 8 * 162 + 2)


def run_with_turns(folder: Path, angles: object) -> Path:
    save_picture(Image.new("RGB", (60, 40)), folder / "samples" / "images-000000004000.png", {})
    save_picture(Image.new("RGB", (60, 40)), folder / "samples" / "turns-images-000000004000.png", {"angles": angles})
    return folder


def test_a_report_says_the_angles_and_passes_over_a_torn_sheet(tmp_path: Path) -> None:
    angles = ["yaw -45°", "yaw 0°", "yaw 45°", "pitch -10°", "pitch 10°"]
    run = run_with_turns(tmp_path / "run", angles)
    (run / "samples" / "turns-images-000000009000.png").write_bytes(b"\x89PNG torn")
    text = write_report(run).read_text()
    said = "the model was trained on (yaw -45° to 45°, below pitch -10° to 10°), at 4 kimg"
    assert text.count(said) == 2, "under the picture, and for who cannot see it"
    assert f"limner turn {run}" in text
    assert len(drawn_sheets(run)) == 1, "turns are no sheet of a time-lapse"


@pytest.mark.parametrize("angles", [None, "yaw", [1, 2], ["<b>"], {"a": 1}, []])
def test_a_record_of_another_kind_costs_only_the_angles(tmp_path: Path, angles: object) -> None:
    text = write_report(run_with_turns(tmp_path / "run", angles)).read_text()
    assert "the model was trained on, at 4 kimg" in text
    assert "<b>" not in text


def test_plans_count_what_is_drawn() -> None:
    model = Recorder()
    assert faces_drawn(model) == 64 + 9 * (8 + 4), "two axes: eight faces of yaw, four of pitch"
    model.latents = LatentSpace(Gaussian("z", 6))
    assert faces_drawn(model) == 64


def test_a_run_without_turns_has_no_such_section(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    text = write_report(tmp_path / "run").read_text()
    assert "Turns" not in text
    assert "limner turn" not in text
