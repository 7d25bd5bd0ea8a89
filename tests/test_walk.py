"""`limner walk`: from face to face along the latents' geodesic, still and moving."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import limner
from limner.cli import main
from limner.data.dataset import Dataset
from limner.errors import LimnerError
from limner.explore.pictures import read_provenance
from limner.explore.sample import generate_faces
from limner.explore.video import write_video
from limner.explore.walk import evenness, path_between, step_angles, variation
from limner.latents import Labels
from limner.models import MODELS
from tiny import GROWN, tiny_config

SMALL = ["--latent-dim", "6", "--batch-size", "8", "--kimg", "0.016", "--metrics", "--resolution", "16"]


@pytest.fixture(scope="module")
def run(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ProGAN that has hardly begun."""
    folder = tmp_path_factory.mktemp("walk") / "run"
    words = ["--data", str(tiny_dataset.folder), "--fmap-max", "4", *SMALL, "--out", str(folder)]
    assert main(["train", "progan", *words]) == 0
    return folder


def walked(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["walk", *map(str, words)]) == 0
    return capsys.readouterr().out


# --- how even the steps are ------------------------------------------------------------------------------------------


def test_steps_on_a_great_circle_are_equal_and_those_of_a_line_are_not() -> None:
    a, b, steps = np.array([2.0, 0.0]), np.array([0.0, 2.0]), 4
    turned = np.stack([2 * np.array([math.cos(t), math.sin(t)]) for t in np.linspace(0, math.pi / 2, steps + 1)])
    assert step_angles(turned) == pytest.approx([math.pi / 8] * 4)
    assert variation(step_angles(turned)) == pytest.approx(0, abs=1e-12)
    straight = np.stack([(1 - t) * a + t * b for t in np.linspace(0, 1, steps + 1)])
    outer, inner = math.atan(1 / 3), math.pi / 4 - math.atan(1 / 3)
    assert step_angles(straight) == pytest.approx([outer, inner, inner, outer])
    assert variation(step_angles(straight)) == pytest.approx((inner - outer) / (inner + outer))
    assert variation(np.zeros(3)) == 0


def test_evenness_is_said_of_parts_that_turn_and_of_no_others() -> None:
    torch.manual_seed(0)
    labels = Labels(("Male", "Bald"), np.array([[1, 0], [0, 1]], dtype=bool))
    model = MODELS["progan"](tiny_config("progan", latent_dim=64), 16, labels)
    ends = [model.latents.sample_seeds([seed]) for seed in (1, 2, 3)]
    legs = [path_between(model, a, b, 16) for a, b in itertools.pairwise(ends)]
    (line,) = evenness(model, legs)
    assert evenness(model, [*legs, [ends[2]] * 17]) == [line], "a leg between equal latents is left out"
    assert evenness(model, [[ends[2]] * 17]) == []
    found = re.fullmatch(
        r"coefficient of variation of z's steps: (\S+) along the great circle, (\S+) straight .* sphere", line
    )
    assert found is not None
    assert float(found[1]) == 0
    assert 0.1 < float(found[2]) < 0.4
    began = MODELS["began"](tiny_config("began"), 16, Labels())
    start, end = (began.latents.sample_seeds([seed]) for seed in (1, 2))
    assert evenness(began, [path_between(began, start, end, 4)]) == []


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_walked(name: str) -> None:
    torch.manual_seed(0)
    labels = Labels(("Male", "Bald"), np.array([[1, 0], [0, 1]], dtype=bool))
    model = MODELS[name](tiny_config(name), 16, labels).eval()
    model.set_images_seen(GROWN)
    start, end = model.latents.sample_seeds([3]), model.latents.sample_seeds([4])
    path = path_between(model, start, end, 4)
    assert len(path) == 5
    assert torch.equal(path[0], start)
    assert torch.equal(path[-1], end)
    with torch.no_grad():
        assert model.generate(torch.cat(path)).shape == (5, 3, 16, 16)
    if "attributes" in model.latents:
        told = [model.latents.split(point)["attributes"] for point in path]
        torch.testing.assert_close(told[1], 0.75 * told[0] + 0.25 * told[-1])


def test_a_path_on_the_sphere_stays_on_it() -> None:
    model = MODELS["progan"](tiny_config("progan", latent_dim=32), 16, Labels())
    path = path_between(model, model.latents.sample_seeds([3]), model.latents.sample_seeds([4]), 7)
    assert torch.allclose(torch.cat(path).norm(dim=1), torch.tensor(32**0.5))


# --- the verb --------------------------------------------------------------------------------------------------------


def test_a_sheet_has_a_row_for_every_two_faces_and_begins_and_ends_with_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "walk.png"
    said = walked(capsys, run, "--seeds", "1,5,9", "--steps", 4, "--enlarge", "pixels", "--out", out)
    assert "8 steps past 3 faces" in said
    assert "0.0000 along the great circle" in said
    sheet = np.asarray(Image.open(out))
    scale, gap = 6, 2
    cell = 16 * scale + gap
    assert sheet.shape == (2 * cell + gap, 5 * cell + gap, 3)
    faces = list(generate_faces(limner.load(run), [1, 5, 9]))
    for row, column, face in ((0, 0, 0), (0, 4, 1), (1, 0, 1), (1, 4, 2)):
        top, left = gap + row * cell, gap + column * cell
        shown = sheet[top : top + 16 * scale : scale, left : left + 16 * scale : scale]
        assert np.array_equal(shown, faces[face])
    record = read_provenance(out)
    assert record is not None
    assert (record["model"], record["seeds"], record["steps"]) == ("progan", "1,5,9", 4)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
@pytest.mark.parametrize("loop", [False, True])
def test_moving_pictures_pass_every_face(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, loop: bool
) -> None:
    out = tmp_path / f"walk{suffix}"
    walked(capsys, run, "--seeds", "1,5,9", "--steps", 3, "--out", out, *(["--loop"] if loop else []))
    with Image.open(out) as image:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    # GIF joins frames that look the same, which tiny untrained pictures may.
    assert 2 <= len(frames) <= (9 if loop else 7)
    assert suffix == ".gif" or len(frames) == (9 if loop else 7)
    assert frames[0].size == (384, 384)
    assert read_provenance(out) is not None


def test_an_mp4_has_the_frames_and_says_what_it_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    av = pytest.importorskip("av")
    out = tmp_path / "walk.mp4"
    walked(capsys, run, "--seeds", "1,5", "--steps", 5, "--out", out, "--frames-per-second", 10)
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert "trainedAlgorithmicMedia" in container.metadata["comment"]
    assert len(frames) == 6 + 10, "and a second at the end"
    (first,) = generate_faces(limner.load(run), [1])
    wanted = first.repeat(24, axis=0).repeat(24, axis=1).astype(int)
    assert np.abs(frames[0].astype(int) - wanted).mean() < 12


def test_a_video_takes_odd_sides_and_no_frame_is_one_line(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    grey = [Image.new("RGB", (33, 17), (60 * k, 100, 100)) for k in range(3)]
    path = write_video(tmp_path / "x.mp4", iter(grey), frames_per_second=5.0, hold_last_seconds=0.4)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert frames[0].shape == (18, 34, 3)
    assert np.abs(frames[2].astype(int) - (120, 100, 100)).max() < 12
    with pytest.raises(LimnerError, match=r"none.mp4: a video needs at least one frame"):
        write_video(tmp_path / "none.mp4", iter(()), frames_per_second=5.0)
    assert not (tmp_path / "none.mp4").exists()


def test_without_pyav_an_mp4_is_refused_before_anything_is_drawn(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert main(["walk", str(run), "--seeds", "1,2", "--out", str(tmp_path / "x.mp4")]) == 2
    assert "pip install 'limner[video]'" in capsys.readouterr().err


def refusals() -> Iterator[Any]:
    yield ["--seeds", "3"], "a walk needs two faces"
    yield ["--seeds", "1,2", "--steps", "1"], "at least 2"
    yield ["--seeds", "1,2", "--steps", "5000"], "more than 2000"
    yield ["--seeds", "1,2", "--out", "x.tiff"], "cannot save a picture as .tiff"
    yield ["--seeds", "1,2", "--frames-per-second", "0"], "0.1 to 120"
    yield ["--seeds", "1,x"], "'x' is not a seed"
    yield ["--seeds", "1,2", "--with", "Bald"], "Bald"


@pytest.mark.parametrize(("words", "said"), list(refusals()))
def test_what_makes_no_sense_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["walk", str(run), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walk", str(tmp_path / "none"), "--seeds", "1,2"]) != 0
    assert "no such run" in capsys.readouterr().err
