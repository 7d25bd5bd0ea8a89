"""Sets of heads on disk: several views of a person, the arrays of ground truth, splits by person, 512²."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limner.data.dataset import Dataset, open_dataset
from limner.data.info import info
from limner.data.writer import DatasetWriter
from limner.errors import DataError

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
