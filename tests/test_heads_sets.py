"""Sets of heads on disk: several views of a person, the arrays of ground truth, splits by person, 512²."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limner.data.dataset import Dataset, open_dataset
from limner.data.info import info
from limner.data.writer import DatasetWriter
from limner.errors import DataError
from limner.heads.pack import load_pack
from limner.heads.person import Person, sample_person
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
    for index in range(60):
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
