"""Sets of heads on disk: several views of a person, the arrays of ground truth, splits by person, 512²."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limner.data import layout
from limner.data.dataset import Dataset, open_dataset
from limner.data.info import info
from limner.data.writer import DatasetWriter
from limner.errors import DataError, LimnerError
from limner.heads import default_heads, make_heads
from limner.heads.geometry import head_rotation
from limner.heads.landmarks import landmark_points, picture_order
from limner.heads.make import RENDERER_VERSION, split_of
from limner.heads.pack import load_pack
from limner.heads.person import ATTRIBUTE_NAMES, Person, sample_person
from limner.heads.raster import rasterise
from limner.heads.render import Drawing, draw, render_head

COUNT = 6


def _truth() -> dict[str, np.ndarray]:
    light = np.random.default_rng(0).normal(size=(COUNT, 3))
    return {
        "identity": np.arange(COUNT) // 2,
        "landmarks": np.linspace(-0.2, 1.1, COUNT * 10).reshape(COUNT, 5, 2),
        "light": light / np.linalg.norm(light, axis=1, keepdims=True),
    }


def _write(folder: Path, **truth: np.ndarray) -> Dataset:
    made = {"count": COUNT, "resolution": 8, "crop": "whole", "resize": "none", "source": {"kind": "test"}}
    with DatasetWriter(folder, name="noise", **made) as writer:  # type: ignore[arg-type]
        writer.write(0, np.zeros((COUNT, 8, 8, 3), np.uint8))
        return writer.finish(**truth)


def test_identity_landmarks_and_light_are_read_back(tmp_path: Path) -> None:
    truth = _truth()
    data = _write(tmp_path / "set", **truth)
    for values, name in ((data.identity(), "identity"), (data.landmarks(), "landmarks"), (data.light(), "light")):
        assert values is not None
        assert values.dtype == (np.int64 if name == "identity" else np.float32)
        np.testing.assert_allclose(values, truth[name], atol=1e-6)
        assert f"{name}.npy" in data.files


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    data = _write(tmp_path / "set")
    assert (data.identity(), data.landmarks(), data.light()) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("identity", lambda v: v[:, None], r"identity.npy: got \(6, 1\), expected \(6,\)"),
        ("identity", lambda v: v + 0.5, "identity.npy: has float64 values, expected integers"),
        ("identity", lambda v: v - 1, "identity.npy: has values below 0"),
        ("landmarks", lambda v: v[:, :4], r"landmarks.npy: got \(6, 4, 2\), expected \(6, 5, 2\)"),
        ("landmarks", lambda v: v * np.nan, "landmarks.npy: has values that are not finite"),
        ("light", lambda v: v[:5], r"light.npy: got \(5, 3\), expected \(6, 3\)"),
        ("light", lambda v: v / 0.0, "light.npy: has values that are not finite"),
        ("light", lambda v: v * 1.01, "light.npy: has rows not of length 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_wrong_truth_is_refused_and_leaves_nothing(tmp_path: Path, name: str, change, fault: str) -> None:  # type: ignore[no-untyped-def]
    truth = _truth()
    with pytest.raises(DataError, match=fault) as caught:
        _write(tmp_path / "set", **{**truth, name: change(truth[name])})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["identity", "landmarks", "light"])
def test_a_changed_array_is_found(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / "set", **_truth()).folder / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    open_dataset(tmp_path / "set")
    with pytest.raises(DataError, match=f"{name}.npy: changed since it was written"):
        open_dataset(tmp_path / "set", verify=True)
    np.save(path, np.zeros((COUNT, 7)))
    with pytest.raises(DataError, match=f"{name}.npy: is float64"):
        open_dataset(tmp_path / "set")


def test_info_says_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "set", **_truth())
    info(tmp_path / "set")
    said = capsys.readouterr().out
    assert "3 people, 2 pictures of each" in said
    assert "left eye, right eye, nose" in said
    assert "aside" in said


def _drawn(index: int, resolution: int = 64, **shot: object) -> tuple[Person, Drawing]:
    """Person `index` of set 2 with this shot, straight on unless it says otherwise."""
    person = sample_person(load_pack(), 2, index, 0, 0.0)
    changed = replace(person.shot, **{"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "shift": (0.0, 0.0), **shot})
    person = replace(person, shot=changed)
    return person, draw(person, resolution)


def test_landmarks_are_in_the_picture_and_in_order() -> None:
    for index in range(40):
        landmarks = render_head(2, index, 16).landmarks
        assert landmarks.shape == (5, 2)
        assert ((landmarks > 0) & (landmarks < 1)).all(), index
        left_eye, right_eye, nose, left_corner, right_corner = landmarks
        assert left_eye[0] < right_eye[0], index
        assert left_corner[0] < right_corner[0], index
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1]), index


def test_who_faces_the_camera_has_the_nose_between_the_eyes() -> None:
    for index in range(20):
        left_eye, right_eye, nose, left_corner, right_corner = _drawn(index)[1].landmarks()
        width = right_eye[0] - left_eye[0]
        assert abs((left_eye[0] + right_eye[0]) / 2 - nose[0]) < 0.12 * width, index
        assert abs((left_corner[0] + right_corner[0]) / 2 - nose[0]) < 0.15 * width, index
        assert 0.15 < width < 0.4, index


def test_turning_the_head_moves_the_nose_to_that_side() -> None:
    for degrees in (-90, -40, 40, 90):
        left_eye, right_eye, nose, *_ = _drawn(3, yaw=math.radians(degrees))[1].landmarks()
        aside = nose[0] - (left_eye[0] + right_eye[0]) / 2
        assert np.sign(aside) == np.sign(degrees), degrees


def test_landmarks_of_a_mirrored_person_are_the_mirrored_landmarks() -> None:
    for yaw in (0.0, 0.6, -1.2):
        person, drawing = _drawn(5, yaw=yaw, roll=0.1, shift=(0.02, 0.01))
        shot = replace(person.shot, yaw=-yaw, roll=-0.1, shift=(-0.02, 0.01))
        mirrored = draw(replace(person, shot=shot, mirrored=not person.mirrored), 64).landmarks()
        expected = drawing.landmarks()[[1, 0, 2, 4, 3]] * [-1, 1] + [1, 0]
        np.testing.assert_allclose(mirrored, expected, atol=1e-5)


def test_landmarks_lie_on_the_parts_they_name() -> None:
    """Eyes: what is drawn there is an eyeball. Nose, mouth: skin, and the lips' line is between the corners."""
    eyes = load_pack().parts["eyes"].mesh
    for index in range(20):
        person, drawing = _drawn(index, 128)
        surface = next(s for s in drawing.outfit.surfaces if s.mesh.triangles.shape == eyes.triangles.shape)
        seen = rasterise(drawing.camera.project(surface.vertices), surface.mesh.triangles, 256, cull=True)
        shown = np.zeros(256 * 256, bool)
        shown[seen.sample] = True
        shown = shown.reshape(256, 256)[:, :: -1 if person.mirrored else 1]
        for x, y in drawing.landmarks()[:2]:
            assert shown[int(y * 256) - 2 : int(y * 256) + 3, int(x * 256) - 2 : int(x * 256) + 3].all(), index


def test_an_open_mouth_lowers_its_corners_and_leaves_the_eyes() -> None:
    person, shut = _drawn(7)
    weights = person.weights.copy()
    weights[load_pack().target_index["fu/jawOpen"]] = 0.4
    opened = draw(replace(person, weights=weights), 64).landmarks() - shut.landmarks()
    assert (opened[3:, 1] > 0.01).all()
    assert np.abs(opened[:2]).max() < 0.01


def test_light_is_a_direction_from_which_the_face_is_lit() -> None:
    heads = [render_head(2, index, 32, yaw_range=0.0) for index in range(40)]
    light = np.stack([head.light for head in heads])
    np.testing.assert_allclose(np.square(light).sum(1), 1, atol=1e-5)
    cheeks = [head.image[14:22].astype(float).mean((0, 2)) for head in heads]
    sides = [row[17:23].mean() - row[9:15].mean() for row in cheeks]
    assert np.corrcoef(sides, light[:, 0])[0, 1] > 0.7


def test_views_of_a_person_are_neighbours_and_never_straddle_splits(tmp_path: Path) -> None:
    make_heads(tmp_path / "set", count=71, resolution=16, views=3, workers=1)
    data = open_dataset(tmp_path / "set")
    identity = data.identity()
    assert identity is not None
    np.testing.assert_array_equal(identity, np.arange(71) // 3)
    split_of_row = np.empty(71, int)
    for number, split in enumerate(layout.SPLITS):
        split_of_row[data.indices(split)] = number
    for person in range(24):
        assert len(set(split_of_row[identity == person])) == 1
        assert split_of_row[identity == person][0] == (2 if person % 10 == 9 else 1 if person == 8 else 0)
    assert data.source["views"] == 3


def test_a_row_is_a_view_of_its_person(tmp_path: Path) -> None:
    make_heads(tmp_path / "set", count=8, resolution=16, views=3, seed=5, yaw_range=90.0, workers=1)
    data = open_dataset(tmp_path / "set")
    pose, landmarks, light = data.pose(), data.landmarks(), data.light()
    for row in (0, 4, 5, 7):
        head = render_head(5, row // 3, 16, yaw_range=90.0, view=row % 3)
        assert (head.identity, head.view) == (row // 3, row % 3)
        np.testing.assert_array_equal(data.images(16)[row], head.image)
        for stored, known in ((pose, head.pose), (landmarks, head.landmarks), (light, head.light)):
            assert stored is not None
            np.testing.assert_array_equal(stored[row], np.asarray(known, np.float32))


def test_views_share_what_belongs_to_the_person() -> None:
    lasting = ("Male", "Young", "Wearing_Hat", "Long_Hair", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
    for person in range(4):
        views = [render_head(0, person, 16, view=view) for view in range(3)]
        for head in views[1:]:
            assert [head.attributes[n] for n in lasting] == [views[0].attributes[n] for n in lasting]
            assert head.pose != views[0].pose
            assert (head.light != views[0].light).any()
            assert (head.image != views[0].image).any()


def test_rows_do_not_depend_on_workers_or_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.heads.make._CHUNK_PIXELS", 16 * 16 * 10)  # ten heads at a time
    for name, count, workers in (("one", 41, 1), ("two", 60, 2)):
        make_heads(tmp_path / name, count=count, resolution=16, views=4, seed=1, workers=workers)
    one, two = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "two")
    np.testing.assert_array_equal(one.images(16), two.images(16)[:41])
    for first, second in (
        (one.attributes(), two.attributes()),
        (one.pose(), two.pose()),
        (one.identity(), two.identity()),
        (one.landmarks(), two.landmarks()),
        (one.light(), two.light()),
    ):
        assert first is not None
        assert second is not None
        np.testing.assert_array_equal(first, second[:41])
    np.testing.assert_array_equal(one.indices("test"), [i for i in two.indices("test") if i < 41])


def test_one_view_is_the_default_and_every_row_a_person(tmp_path: Path) -> None:
    make_heads(tmp_path / "set", count=12, resolution=16, workers=1)
    data = open_dataset(tmp_path / "set", verify=True)
    np.testing.assert_array_equal(data.identity(), np.arange(12))
    assert {f"{name}.npy" for name in ("attributes", "pose", "identity", "landmarks", "light")} <= set(data.files)


def test_splits_are_a_tenth_and_a_twentieth_of_the_people() -> None:
    splits = split_of(np.arange(1000))
    assert [(splits == k).sum() for k in range(3)] == [850, 50, 100]


@pytest.mark.parametrize("views", [0, -1])
def test_views_out_of_range_are_one_line(tmp_path: Path, views: int) -> None:
    with pytest.raises(LimnerError, match=f"views {views}: must be 1 or more"):
        make_heads(tmp_path / "set", count=2, resolution=16, views=views)
    assert list(tmp_path.iterdir()) == []


def test_heads_at_512_are_encoded_and_keep_their_pixels(tmp_path: Path) -> None:
    make_heads(tmp_path / "set", count=2, resolution=512, workers=2)
    data = open_dataset(tmp_path / "set", verify=True)
    assert data.resolutions == (4, 8, 16, 32, 64, 128, 256, 512)
    np.testing.assert_array_equal(data.read(512, np.array([1]))[0], render_head(0, 1, 512).image)
    small = data.images(64)[1].astype(float)
    assert np.abs(small - render_head(0, 1, 64).image).mean() < 4


def test_yaw_reaches_ninety_degrees_and_the_pose_is_as_drawn() -> None:
    """Turning the head by the recorded angles puts its landmarks where they are in the picture."""
    yaws = []
    for index in range(30):
        person = sample_person(load_pack(), 3, index, 0, math.radians(90))
        drawing = draw(person, 16)
        camera, side = drawing.camera, -1 if person.mirrored else 1
        points = landmark_points(load_pack(), drawing.outfit.head, drawing.outfit.scale) - camera.pivot[:, None]
        looking = picture_order((points * [[side], [1], [1]]).T, person.mirrored).T  # the head as it is seen
        yaw, pitch, roll = render_head(3, index, 16, yaw_range=90.0).pose
        errors = []
        for off in (0.0, 0.1, -0.1):
            x, y, z = head_rotation(yaw + off, pitch, roll) @ looking * camera.magnification
            errors.append(_misfit(np.stack([x, -y]) / (camera.distance - z), drawing.landmarks().T))
        assert errors[0] < 1e-4 < 1e-3 < min(errors[1:]), index
        yaws.append(yaw)
    assert 75 < np.degrees(np.abs(yaws)).max() <= 90


def _misfit(expected: np.ndarray, seen: np.ndarray) -> float:
    """Root mean square of what is left of `seen` (2, 5) after the best shift and scale of `expected` (2, 5)."""
    expected, seen = (points - points.mean(1, keepdims=True) for points in (expected, seen))
    scale = (expected * seen).sum() / np.square(expected).sum()
    return float(np.sqrt(np.square(seen - scale * expected).mean()))


def test_the_default_set_is_named_for_all_that_changes_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    folder = default_heads(16, 3)
    assert folder == tmp_path / "heads" / f"heads-v{RENDERER_VERSION}-views1-yaw45-16-3"
    monkeypatch.setattr("limner.heads.make.DEFAULT_VIEWS", 2)
    assert default_heads(16, 3) != folder


def test_the_page_explains_every_label() -> None:
    page = (Path(__file__).parents[1] / "docs" / "heads.md").read_text(encoding="utf-8")
    table = page[page.index("### Labels") : page.index("## How they are drawn")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in row.split("`")[1::2]) == sorted(ATTRIBUTE_NAMES)
