"""The built-in heads: reproducible to the byte, truly labelled and posed, and pictures of heads indeed."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from limner.data.dataset import open_dataset
from limner.errors import LimnerError, ResourceError
from limner.heads import default_heads, make_heads, render_head
from limner.heads.dress import dress
from limner.heads.geometry import aim_camera, head_rotation
from limner.heads.looks import HAIR_COLOURS
from limner.heads.pack import load_pack
from limner.heads.person import ATTRIBUTE_NAMES, sample_person
from limner.heads.raster import FAR, nearest, rasterise
from limner.heads.render import draw
from limner.heads.wardrobe import average_head, garment


def _people(count: int):  # type: ignore[no-untyped-def]
    return [sample_person(load_pack(), 0, index, 0, math.radians(45)) for index in range(count)]


def test_same_seed_and_index_draw_the_same_bytes():
    first = render_head(3, 17, 32)
    for other in (0, 1):
        render_head(3, other, 32)
    again = render_head(3, 17, 32)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.pose == again.pose
    assert first.attributes == again.attributes
    assert (render_head(4, 17, 32).image != first.image).any()
    assert (render_head(3, 18, 32).image != first.image).any()


def test_dataset_records_image_labels_and_pose_of_each_head(tmp_path: Path):
    make_heads(tmp_path / "set", count=12, resolution=16, seed=5, yaw_range=20.0, workers=1)
    dataset = open_dataset(tmp_path / "set")
    assert dataset.attribute_names == ATTRIBUTE_NAMES
    for index in (0, 7, 11):
        head = render_head(5, index, 16, yaw_range=20.0)
        np.testing.assert_array_equal(dataset.images(16)[index], head.image)
        np.testing.assert_array_equal(dataset.attributes()[index], [head.attributes[n] for n in ATTRIBUTE_NAMES])
        np.testing.assert_array_equal(dataset.pose()[index], np.array(head.pose, np.float32))
    source = json.loads((tmp_path / "set" / "dataset.json").read_text())["source"]
    assert source["licence"] == "CC0-1.0"
    assert (source["seed"], source["yaw_range_degrees"]) == (5, 20)


def test_yaw_is_uniform_within_its_range():
    yaws = np.degrees([sample_person(load_pack(), 0, i, 0, math.radians(30)).shot.yaw for i in range(400)])
    assert np.abs(yaws).max() <= 30
    assert np.histogram(yaws, 4, (-30, 30))[0].min() > 70  # 100 expected in each quarter
    assert render_head(0, 0, 16, yaw_range=0.0).pose[0] == 0


@pytest.mark.parametrize("resolution", [16, 17, 37, 48, 100, 128, 511, 512])
def test_every_resolution_renders(resolution: int):
    image = render_head(1, 4, resolution).image
    assert image.shape == (resolution, resolution, 3)
    assert image.dtype == np.uint8
    assert image.std() > 20


def test_resolutions_show_the_same_head():
    large = render_head(1, 4, 128).image.astype(float).reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(large - render_head(1, 4, 32).image).mean() < 6


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"resolution": 8}, "resolution 8: "),
        ({"resolution": 1024}, "resolution 1024: "),
        ({"resolution": 48}, "resolution 48: .*power of two"),
        ({"count": 0}, "count 0: "),
        ({"count": -3}, "count -3: "),
        ({"yaw_range": 91.0}, "yaw range 91.0: "),
        ({"yaw_range": math.nan}, "yaw range nan: "),
        ({"seed": -1}, "seed -1: "),
        ({"workers": 0}, "workers 0: "),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, settings: dict[str, float], fault: str):
    with pytest.raises(LimnerError, match=fault) as caught:
        make_heads(tmp_path / "set", **{"count": 4, "resolution": 16, **settings})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_existing_destination_is_kept(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(LimnerError, match=re.escape(str(tmp_path / "set"))) as caught:
        make_heads(tmp_path / "set", count=2, resolution=16)
    assert "\n" not in str(caught.value)
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["mine.txt"]


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(self: object, indices: range) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("limner.heads.make.HeadsJob.draw", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_heads(tmp_path / "set", count=2, resolution=16, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_middle_of_the_picture_is_skin():
    for index in range(12):
        red, green, blue = render_head(0, index, 48, yaw_range=30.0).image[22:32, 20:28].reshape(-1, 3).mean(0)
        assert red > green > blue, index
        assert red > 1.08 * blue, index


def test_yaw_turns_the_face_to_its_own_side():
    pack, person = load_pack(), _people(1)[0]
    for degrees, side in ((40, 1), (-40, -1)):
        rotation = head_rotation(math.radians(degrees), 0.0, 0.0)
        assert np.sign((rotation @ [0, 0, 1])[0]) == side
        shot = person.shot.__class__(
            **{**person.shot.__dict__, "yaw": math.radians(degrees), "pitch": 0.0, "roll": 0.0}
        )
        outfit = dress(pack, person, shot)
        nose_and_back = pack.morph(person.weights)[:, [pack.span_vertices[3], pack.span_vertices[2]]]
        columns = aim_camera(shot, outfit.eye_centre, outfit.head_height, 64).project(nose_and_back)[0]
        assert np.sign(columns[0] - columns[1]) == side


def test_mirrored_yaw_draws_another_picture_and_a_mirrored_person_the_mirror_image():
    person = next(p for p in _people(200) if p.looks.hair is None and abs(p.shot.yaw) > 0.4)
    change = lambda **values: person.__class__(**{**person.__dict__, **values})  # noqa: E731
    shot = person.shot.__class__(
        **{
            **person.shot.__dict__,
            "yaw": -person.shot.yaw,
            "roll": -person.shot.roll,
            "gaze": (-person.shot.gaze[0], person.shot.gaze[1]),
            "shift": (-person.shot.shift[0], person.shot.shift[1]),
            "light_direction": person.shot.light_direction * [-1, 1, 1],
            "backdrop": person.shot.backdrop.mirrored(),
        }
    )
    straight = draw(change(mirrored=False), 32).image.astype(int)
    turned = draw(change(mirrored=False, shot=shot), 32).image.astype(int)
    assert np.abs(straight - turned).mean() > 10
    assert np.abs(straight - turned[:, ::-1]).mean() < 4  # no head is quite symmetric


def test_labels_are_consistent_with_what_is_drawn():
    for person in _people(300):
        labels = person.attributes
        assert sum(labels[name] for name in HAIR_COLOURS) == (0 if labels["Bald"] else 1)
        assert labels["Wearing_Hat"] == (person.looks.hat is not None)
        assert labels["Mouth_Slightly_Open"] == person.shows_teeth
        assert not (labels["Bald"] and labels["Long_Hair"])


def test_labels_are_neither_rare_nor_universal():
    shares = np.mean([[p.attributes[n] for n in ATTRIBUTE_NAMES] for p in _people(600)], 0)
    for name, share in zip(ATTRIBUTE_NAMES, shares, strict=True):
        assert 0.008 < share < 0.9, name
    assert 0.4 < shares[ATTRIBUTE_NAMES.index("Male")] < 0.6


def test_hair_keeps_clear_of_the_eyes():
    pack, head = load_pack(), average_head()
    for name in pack.names("hair:"):
        x, y, z = garment(name).part.place(head, pack.scale(head))
        before_an_eye = (np.abs(x) < 0.45) & (y < 7.42) & (y > 7.1) & (z > 1.0)
        assert not before_an_eye.any(), name


def _make_default(cache: str, answers) -> None:  # type: ignore[no-untyped-def]
    import os

    os.environ["LIMNER_CACHE"] = cache
    answers.put(str(default_heads(16, 8)))


def test_default_heads_are_made_once_by_processes_that_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    racers = [context.Process(target=_make_default, args=(str(tmp_path), answers)) for _ in range(3)]
    for racer in racers:
        racer.start()
    folders = {answers.get(timeout=120) for _ in racers}
    for racer in racers:
        racer.join()
    assert len(folders) == 1
    folder = Path(folders.pop())
    assert open_dataset(folder).count == 8
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]
    written = (folder / "dataset.json").stat().st_mtime_ns
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    assert default_heads(16, 8) == folder
    assert (folder / "dataset.json").stat().st_mtime_ns == written


def test_default_heads_rejects_bad_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    with pytest.raises(LimnerError, match="resolution 20"):
        default_heads(20, 5)


def test_rasteriser_covers_each_sample_of_a_square_once():
    corners = np.array([[1.0, 5.0, 5.0, 1.0], [1.0, 1.0, 5.0, 5.0], [1.0, 2.0, 3.0, 2.0]], np.float32)
    triangles = np.array([[0, 0], [2, 3], [1, 2]], np.int32)
    fragments = rasterise(corners, triangles, 8, cull=True)
    inside = {row * 8 + column for row in range(1, 5) for column in range(1, 5)}
    assert set(fragments.sample.tolist()) == inside
    np.testing.assert_allclose(fragments.weights.sum(0), 1, atol=1e-6)
    expected_depth = 1 + (fragments.sample % 8 - 0.5) / 4 + (fragments.sample // 8 - 0.5) / 4
    np.testing.assert_allclose(fragments.depth, expected_depth, atol=1e-5)
    assert len(rasterise(corners, triangles[[0, 2, 1]], 8, cull=True)) == 0
    assert set(rasterise(corners, triangles[[0, 2, 1]], 8, cull=False).sample.tolist()) == inside


def test_nearest_keeps_the_front_triangle():
    corners = np.array([[0, 0, 9, 0, 0, 9], [0, 9, 0, 0, 9, 0], [5, 5, 5, 2, 2, 2]], np.float32)
    fragments = rasterise(corners, np.array([[0, 3], [1, 4], [2, 5]]), 4, cull=False)
    depths = np.full(16, FAR, np.float32)
    front = fragments.select(nearest(fragments, depths))
    assert set(front.triangle.tolist()) == {1}
    assert len(front) == 16
    np.testing.assert_allclose(depths, 2, atol=1e-6)


def _die(self: object, indices: range) -> None:
    import os

    os._exit(9)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked, and would not die so")
def test_killed_worker_is_an_error_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("limner.heads.make.HeadsJob.draw", _die)
    with pytest.raises(ResourceError, match="worker was killed"):
        make_heads(tmp_path / "set", count=200, resolution=16, workers=2)
    assert list(tmp_path.iterdir()) == []
