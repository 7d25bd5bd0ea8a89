"""`limner timelapse`: a run's sheets as a film, each with its size and the images seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from limner.cli import main
from limner.data.dataset import Dataset
from limner.explore.captions import captioned, strip_pixels
from limner.explore.pictures import Enlargement, enlarged, read_provenance, save_picture, sheet
from limner.explore.time_lapse_verb import _faces, _pause, _resized, _side
from limner.latents import Labels
from limner.models import MODELS
from limner.training.drawn import Drawn, captions_of, drawn_sheets
from limner.training.log import read_log
from limner.training.report_pictures import time_lapse_figure
from limner.training.sheets import size_then
from tiny import tiny_config

GROWTH = ["--fmap-max", "4", "--stable-kimg", "0.016", "--fade-kimg", "0.016", "--minibatch-repeats", "1"]
SMALL = ["--latent-dim", "6", "--metrics", "--sample-kimg", "0.008", "--resolution", "16", "--preflight", "off"]


@pytest.fixture(scope="module")
def grown(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ProGAN that grew to 16² within ten updates, with a sheet after each."""
    folder = tmp_path_factory.mktemp("time-lapse") / "run"
    words = ["--data", str(tiny_dataset.folder), *GROWTH, *SMALL, "--batch-sizes", "8", "--kimg", "0.08"]
    assert main(["train", "progan", *words, "--out", str(folder)]) == 0
    return folder


def made_run(folder: Path, events: list[dict[str, Any]], side: int = 8) -> Path:
    """A run of which there are only sheets, in which face k of sheet s has colour (s, k, 100), and its log."""
    for number, event in enumerate(event for event in events if event["event"] == "sample"):
        faces = np.full((64, side, side, 3), 100, np.uint8)
        faces[..., 0], faces[..., 1] = 60 * number, np.arange(64)[:, None, None]
        picture = sheet(faces, columns=8, scale=96 // side)
        save_picture(picture, folder / event["file"], {"model": "made", "images_seen": event["images"]})
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def sample(images: int, **fields: Any) -> dict[str, Any]:
    return {"event": "sample", "images": images, "file": f"samples/images-{images:012d}.png", **fields}


def film(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(image)]


# --- what is logged, and what a caption says ------------------------------------------------------------------------


def test_a_growing_run_logs_its_size_and_what_it_fades_in_from(grown: Path) -> None:
    drawn = {one.images: one for one in drawn_sheets(grown)}
    assert [(n, drawn[n].fading_from, drawn[n].resolution) for n in (0, 8, 16, 24, 32, 48, 56, 64, 80)] == [
        (0, None, 4),
        (8, None, 4),
        (16, 4, 8),
        (24, 4, 8),
        (32, None, 8),
        (48, 8, 16),
        (56, 8, 16),
        (64, None, 16),
        (80, None, 16),
    ]
    assert drawn[24].caption == "4² → 8² · 0 kimg"
    assert all(
        "fading_from" not in e for e in read_log(grown / "log.jsonl") if e["event"] == "sample" and e["images"] < 9
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_stands_fades_nothing(name: str) -> None:
    model = MODELS[name](tiny_config(name), 16, Labels())
    assert size_then(model, 10**9) == {"resolution": 16}


def test_levels_that_come_at_once_are_not_faded_in() -> None:
    model = MODELS["progan"](tiny_config("progan", fade_kimg=0.0), 16, Labels())
    assert [size_then(model, n) for n in (0, 16, 32)] == [{"resolution": r} for r in (4, 8, 16)]


def test_captions_say_what_is_known() -> None:
    assert Drawn(Path("x"), 412_000, 16).caption == "16² · 412 kimg"
    assert Drawn(Path("x"), 460_000, 32, 16).caption == "16² → 32² · 460 kimg"
    assert Drawn(Path("x"), 12_345).caption == "12.3 kimg"


def test_the_size_comes_from_ticks_where_sheets_do_not_say_it(tmp_path: Path) -> None:
    ticks = [{"event": "tick", "images": n, "resolution": r} for n, r in ((1000, 4), (2000, 8))]
    made_run(tmp_path, [sample(0), ticks[0], sample(1000), ticks[1], sample(2000, resolution=16)])
    assert [one.resolution for one in drawn_sheets(tmp_path)] == [4, 4, 16]


def test_sheets_that_were_gone_back_behind_or_are_gone_do_not_count(tmp_path: Path) -> None:
    back = {"event": "rollback", "images": 1000, "message": "nan"}
    made_run(tmp_path, [sample(0), sample(1000), sample(2000), back, sample(3000), sample(4000)])
    (tmp_path / "samples" / "images-000000003000.png").unlink()
    assert [one.images for one in drawn_sheets(tmp_path)] == [0, 1000, 4000]
    (tmp_path / "log.jsonl").unlink()
    assert [(one.images, one.caption) for one in drawn_sheets(tmp_path)][-1] == (4000, "4 kimg")


def test_a_log_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [sample(0)])
    (tmp_path / "secret.png").write_bytes(b"x")
    (run / "log.jsonl").write_text(json.dumps({"event": "sample", "images": 1, "file": "../secret.png"}) + "\n")
    assert [one.file.parent for one in drawn_sheets(run)] == [run / "samples"] * len(drawn_sheets(run))


def test_the_reports_film_says_sizes_only_where_they_change(tmp_path: Path) -> None:
    run = made_run(tmp_path, [sample(0, resolution=4), sample(1000, resolution=8, fading_from=4)])
    files = sorted((run / "samples").glob("images-*.png"))
    assert captions_of(files) == ["4² · 0 kimg", "4² → 8² · 1 kimg"]
    assert "2 sheets" in time_lapse_figure(files)
    made_run(tmp_path, [sample(0, resolution=8), sample(1000, resolution=8)])
    assert captions_of(files) == ["0 kimg", "1 kimg"]


def test_captions_are_drawn_with_a_raised_two_and_an_arrow() -> None:
    picture = Image.new("RGB", (400, 40), (200, 0, 0))
    said = ["16", "162", "16²", "16² →", "16² → 32² · 460 kimg"]
    strips = [np.asarray(captioned(picture, text).convert("L")).astype(int)[40:] for text in said]
    assert all(strip.shape[0] == strip_pixels(400) and strip.max() > 150 for strip in strips)
    widths = [np.ptp(np.flatnonzero((strip > 100).any(axis=0))) for strip in strips]
    assert widths[0] < widths[2] < widths[1] < widths[3] < widths[4]
    rows = np.flatnonzero((strips[2][:, -np.argmax((strips[2] > 100).any(axis=0)[::-1]) - 5 :] > 100).any(axis=1))
    full = np.flatnonzero((strips[2] > 100).any(axis=1))
    assert rows.max() < full.max() - 2, "raised"
    long = np.asarray(captioned(Image.new("RGB", (60, 10)), said[-1]).convert("L"))[10:]
    assert long[:, [0, -1]].max() < 60, "what is too long is written smaller"


# --- the verb --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_film_shows_the_first_faces_of_every_sheet_and_holds_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    run = made_run(tmp_path / "run", [sample(1000 * n, resolution=4 << n) for n in range(4)])
    out = tmp_path / f"x{suffix}"
    words = ["--out", str(out), "--faces", "4", "--seconds", "0.9", "--hold", "1"]
    assert main(["timelapse", str(run), *words]) == 0
    assert "4 of 4 sheets, 4² · 0 kimg to 32² · 3 kimg" in capsys.readouterr().out
    frames = film(out)
    assert len(frames) == 4
    side = _side(96, 2)
    assert side % 96 == 0
    assert frames[0].shape == (2 * side + 6 + strip_pixels(2 * side + 6), 2 * side + 6, 3)
    middles = [
        (2 + side // 2 + row * (side + 2), 2 + side // 2 + column * (side + 2)) for row in (0, 1) for column in (0, 1)
    ]
    for number, frame in enumerate(frames):
        for face, place in enumerate(middles):
            assert np.abs(frame[place] - (60 * number, face, 100)).max() < 16
    times = []
    with Image.open(out) as image:
        for index in range(4):
            image.seek(index)
            image.load()
            times.append(image.info["duration"])
    assert times == [300, 300, 300, 1300]
    record = read_provenance(out)
    assert record is not None
    assert (record["model"], record["images_seen"], record["first_images_seen"]) == ("made", 3000, 0)


def test_every_takes_some_and_always_the_newest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(tmp_path, [sample(1000 * n) for n in range(4)])
    assert main(["timelapse", str(run), "--faces", "1", "--every", "2"]) == 0
    assert "3 of 4 sheets, 0 kimg to 3 kimg" in capsys.readouterr().out
    reds = [round(frame[100, 100, 0] / 60) for frame in film(run / "timelapse.gif")]
    assert reds == [0, 2, 3]


def test_a_growing_run_becomes_an_mp4(grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    av = pytest.importorskip("av")
    out = tmp_path / "x.mp4"
    assert (
        main(["timelapse", str(grown), "--out", str(out), "--hold", "0.5", "--seconds", "1", "--enlarge", "pixels"])
        == 0
    )
    drawn = drawn_sheets(grown)
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == len(drawn) + round(0.5 * (len(drawn) - 1))
    side = _side(96, 4)
    first = np.asarray(_resized(_faces(drawn[0].file)[0], side, "pixels", 4)).astype(int)
    assert np.abs(frames[0][2 : 2 + side, 2 : 2 + side].astype(int) - first).mean() < 8
    blocks = first.reshape(4, side // 4, 4, side // 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all(), "a picture of 4² is one of sixteen squares"


def test_faces_are_enlarged_and_reduced_by_whole_factors() -> None:
    assert [_side(96, 4), _side(64, 4), _side(128, 4), _side(256, 4), _side(1024, 4)] == [192, 192, 128, 128, 128]


@pytest.mark.parametrize("drawn", ["lanczos", "pixels"])
@pytest.mark.parametrize("wanted", ["lanczos", "pixels"])
def test_sheets_of_either_kind_make_films_of_either_kind(
    tiny_dataset: Dataset, tmp_path: Path, drawn: Enlargement, wanted: Enlargement
) -> None:
    """A face of a sheet at twice its side there is near to the same face enlarged in one step."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (64, 4, 4, 3), dtype=np.uint8)
    faces = np.stack([enlarged(face, 4) for face in coarse])  # smooth, 16², as photos are
    file = save_picture(sheet(faces, 8, 6, enlarge=drawn), tmp_path / "images-0.png", {"face_pixels": 16})
    for place in (0, 9, 63):
        again = np.asarray(_resized(_faces(file)[place], 192, wanted, 16)).astype(int)
        straight = enlarged(faces[place], 12, wanted).astype(int)
        limit = 3.0 if drawn == "lanczos" else 1e-9
        assert np.abs(again - straight).mean() <= limit, f"{drawn} to {wanted}"
        if drawn == wanted == "pixels" or (drawn, wanted) == ("pixels", "lanczos"):
            assert (again == straight).all()


def test_a_growing_run_keeps_the_side_it_made(grown: Path) -> None:
    """A sheet of 4² is enlarged from 4², not from 16² with repeated pixels."""
    first, *_, last = drawn_sheets(grown)
    for sheet_then, side in ((first, 4), (last, 16)):
        record = read_provenance(sheet_then.file)
        assert record is not None
        assert (record["face_pixels"], record["enlarge"]) == (side, "lanczos")
        face = _faces(sheet_then.file)[0]
        small = np.asarray(face.resize((side, side), Image.Resampling.BOX))
        again = enlarged(small, 96 // side, "lanczos").astype(int)
        assert np.abs(np.asarray(face).astype(int) - again).mean() < 12


def test_a_run_can_draw_its_sheets_of_squares(tiny_dataset: Dataset, tmp_path: Path) -> None:
    words = ["--data", str(tiny_dataset.folder), *SMALL, "--batch-size", "8", "--kimg", "0.016", "--width", "4"]
    assert main(["train", "dcgan", *words, "--enlarge", "pixels", "--out", str(tmp_path / "run")]) == 0
    newest = drawn_sheets(tmp_path / "run")[-1]
    cell = np.asarray(_faces(newest.file)[0]).reshape(16, 6, 16, 6, 3)
    assert (cell == cell[:, :1, :, :1]).all()


def test_short_runs_pass_slowly_and_long_ones_fast() -> None:
    assert [_pause(2, None), _pause(41, None), _pause(240, None)] == [0.5, 0.2, 0.05]
    assert _pause(11, 5.0) == 0.5


REFUSALS = [
    (["--out", "x.avi"], "a .gif, .webp or .mp4, not .avi"),
    (["--faces", "0"], "at least one face"),
    (["--faces", "65"], "has 64"),
    (["--every", "0"], "1 takes every sheet"),
    (["--seconds", "0"], "more than 0"),
    (["--seconds", "0.01"], "more than 50 a second"),
    (["--hold", "-1"], "0 to 60 seconds"),
]


@pytest.mark.parametrize(("words", "said"), REFUSALS)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    made_run(tmp_path, [sample(0), sample(1000)])
    assert main(["timelapse", str(tmp_path), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_runs_that_are_not_there_or_have_drawn_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timelapse", str(tmp_path / "none")]) == 2
    assert "none: no such run" in capsys.readouterr().err
    (tmp_path / "log.jsonl").touch()
    assert main(["timelapse", str(tmp_path)]) == 2
    assert "0 sheets in samples/, a time-lapse needs 2" in capsys.readouterr().err


def test_a_picture_that_is_no_sheet_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(tmp_path, [sample(0), sample(1000)])
    Image.new("RGB", (101, 99)).save(tmp_path / "samples" / "images-000000001000.png")
    assert main(["timelapse", str(tmp_path)]) == 3
    assert "101×99 pixels are no sheet" in capsys.readouterr().err
