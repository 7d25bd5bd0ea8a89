"""The heads as a CelebA tree: CelebA's formats to the letter, and our own reader finds in it what was drawn."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.data.celeba import HEADS_FILE
from limner.data.check import check
from limner.data.crops import CELEBA_BOXES, Crop
from limner.data.dataset import open_dataset
from limner.data.prepare import prepare
from limner.errors import LimnerError, ResourceError
from limner.heads import make_heads, render_head
from limner.heads.celeba_frame import TEMPLATE
from limner.heads.celeba_tables import CELEBA_ATTRIBUTES
from limner.heads.celeba_tree import make_celeba_tree
from limner.heads.person import ATTRIBUTE_NAMES

COUNT, VIEWS = 24, 2
TABLES = {
    "identity_CelebA.txt",
    "list_attr_celeba.txt",
    "list_bbox_celeba.txt",
    "list_eval_partition.txt",
    "list_landmarks_align_celeba.txt",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees") / "celeba"
    make_celeba_tree(folder, count=COUNT, views=VIEWS, seed=4, workers=2)
    return folder


def _table(folder: Path, name: str, header: bool) -> tuple[list[str], dict[str, list[int]]]:
    """A table as torchvision reads it: a space is a delimiter, those after it are skipped, the rest is integers."""
    with (folder / name).open(newline="") as file:
        lines = list(csv.reader(file, delimiter=" ", skipinitialspace=True))
    if header:
        assert lines[0] == [str(COUNT)]
    columns, rows = (lines[1], lines[2:]) if header else ([], lines)
    assert [row[0] for row in rows] == [f"{k + 1:06d}.jpg" for k in range(COUNT)]
    return columns, {row[0]: [int(value) for value in row[1:]] for row in rows}


def test_what_a_tree_holds(tree: Path) -> None:
    assert {p.name for p in tree.iterdir()} == {*TABLES, "img_align_celeba", HEADS_FILE}
    assert not list(tree.parent.glob("*.partial"))
    pictures = sorted((tree / "img_align_celeba").iterdir())
    assert [p.name for p in pictures] == [f"{k + 1:06d}.jpg" for k in range(COUNT)]
    for path in pictures:
        with Image.open(path) as picture:
            assert (picture.format, picture.size, picture.mode) == ("JPEG", (178, 218), "RGB")


def test_attributes_are_celebas_forty_in_its_order(tree: Path) -> None:
    assert len(CELEBA_ATTRIBUTES) == 40
    assert list(CELEBA_ATTRIBUTES) == sorted(CELEBA_ATTRIBUTES)
    columns, rows = _table(tree, "list_attr_celeba.txt", header=True)
    assert columns == [*CELEBA_ATTRIBUTES, ""]
    for k, bits in enumerate(rows.values()):
        drawn = render_head(4, k // VIEWS, 16, view=k % VIEWS).attributes
        assert bits == [1 if drawn.get(name) else -1 for name in CELEBA_ATTRIBUTES]
    told = json.loads((tree / HEADS_FILE).read_text())
    assert told["licence"] == "CC0-1.0"
    never = told["attributes without a label, -1 in every row"]
    assert set(never) == set(CELEBA_ATTRIBUTES) - set(ATTRIBUTE_NAMES)


def test_people_and_partitions(tree: Path) -> None:
    _, people = _table(tree, "identity_CelebA.txt", header=False)
    assert [row for (row,) in people.values()] == [k // VIEWS + 1 for k in range(COUNT)]
    _, parts = _table(tree, "list_eval_partition.txt", header=False)
    assert [part for (part,) in parts.values()] == [{8: 1, 9: 2}.get(k // VIEWS, 0) for k in range(COUNT)]


def test_landmarks_are_where_celebas_are(tree: Path) -> None:
    columns, rows = _table(tree, "list_landmarks_align_celeba.txt", header=True)
    assert columns[:4] == ["lefteye_x", "lefteye_y", "righteye_x", "righteye_y"]
    assert columns[4:-1] == ["nose_x", "nose_y", "leftmouth_x", "leftmouth_y", "rightmouth_x", "rightmouth_y"]
    points = np.array(list(rows.values())).reshape(COUNT, 5, 2)
    off = np.abs(points - TEMPLATE)[:, [0, 1, 3, 4]]
    assert off.mean() < 4
    assert off.max() < 15
    assert (np.abs(points[:, 0, 1] - points[:, 1, 1]) < 8).all()  # eyes are level


def test_landmarks_are_of_the_picture(tree: Path) -> None:
    """About a bare eye the picture is more varied than half-way between the eyes: lashes, iris, white."""
    _, rows = _table(tree, "list_landmarks_align_celeba.txt", header=True)
    _, bits = _table(tree, "list_attr_celeba.txt", header=True)
    bare = [name for name in rows if bits[name][CELEBA_ATTRIBUTES.index("Eyeglasses")] == -1]
    eyes, between = [], []
    for name in bare:
        pixels = np.asarray(Image.open(tree / "img_align_celeba" / name).convert("L")).astype(float)
        left, right = np.array(rows[name][:4]).reshape(2, 2)
        eyes += [pixels[y - 3 : y + 4, x - 6 : x + 7].std() for x, y in (left, right)]
        x, y = (left + right) // 2
        between.append(pixels[y - 3 : y + 4, x - 6 : x + 7].std())
    assert len(bare) > COUNT / 2
    assert np.median(eyes) > 1.5 * np.median(between)


def test_boxes_hold_the_landmarks(tree: Path) -> None:
    columns, rows = _table(tree, "list_bbox_celeba.txt", header=True)
    assert columns == ["image_id", "x_1", "y_1", "width", "height"]
    _, landmarks = _table(tree, "list_landmarks_align_celeba.txt", header=True)
    for name, (x, y, width, height) in rows.items():
        assert 0 <= x < x + width <= 178
        assert 0 <= y < y + height <= 218
        points = np.array(landmarks[name]).reshape(5, 2)
        assert ((points >= [x, y]) & (points <= [x + width, y + height])).all()


@pytest.mark.parametrize("crop", [*CELEBA_BOXES, "center", "whole"])
def test_our_own_reader_finds_what_was_drawn(tree: Path, tmp_path: Path, crop: Crop) -> None:
    data = prepare(tree, tmp_path / "out", resolution=32, crop=crop, workers=1)
    rows, labels = open_dataset(data.folder, verify=True), data.attributes()
    assert rows.attribute_names == CELEBA_ATTRIBUTES
    assert labels is not None
    drawn = [render_head(4, k // VIEWS, 16, view=k % VIEWS).attributes for k in range(COUNT)]
    for name in set(ATTRIBUTE_NAMES) & set(CELEBA_ATTRIBUTES):
        column = labels[:, CELEBA_ATTRIBUTES.index(name)]
        np.testing.assert_array_equal(column, [head[name] for head in drawn])
    assert [rows.indices(split).tolist() for split in ("valid", "test")] == [[16, 17], [18, 19]]
    assert rows.source["split"] == "official"
    assert rows.source["licence"] == "limner's built-in heads: CC0-1.0"


def test_rows_are_those_of_the_dataset(tree: Path, tmp_path: Path) -> None:
    make_heads(tmp_path / "heads", count=COUNT, resolution=16, views=VIEWS, seed=4, workers=1)
    heads, data = open_dataset(tmp_path / "heads"), prepare(tree, tmp_path / "out", resolution=16, workers=1)
    shared = [name for name in ATTRIBUTE_NAMES if name in CELEBA_ATTRIBUTES]
    ours, theirs = heads.attributes(), data.attributes()
    assert ours is not None
    assert theirs is not None
    for name in shared:
        np.testing.assert_array_equal(
            ours[:, ATTRIBUTE_NAMES.index(name)], theirs[:, CELEBA_ATTRIBUTES.index(name)], err_msg=name
        )
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(heads.indices(split), data.indices(split))


def test_check_finds_nothing_wrong(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(tree, workers=1)
    said = capsys.readouterr().out
    assert f"{COUNT}" in said
    assert "good" in said


def _digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_whatever_the_workers(tree: Path, tmp_path: Path) -> None:
    make_celeba_tree(tmp_path / "again", count=COUNT, views=VIEWS, seed=4, workers=1)
    assert _digest(tmp_path / "again") == _digest(tree)


def test_interrupted_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(self: object, rows: range) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("limner.heads.celeba_tree.TreeJob.draw", draw)
    with pytest.raises(KeyboardInterrupt):
        make_celeba_tree(tmp_path / "tree", count=2, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("limner.heads.celeba_tree._save", full)
    with pytest.raises(ResourceError, match="the disk is full") as caught:
        make_celeba_tree(tmp_path / "tree", count=1, workers=1)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"count": 0}, "count 0: "),
        ({"count": 1_000_000}, "count 1000000: CelebA's file names"),
        ({"views": 0}, "views 0: "),
        ({"yaw_range": 91.0}, "yaw range 91.0: "),
        ({"seed": -1}, "seed -1: "),
        ({"workers": 0}, "workers 0: "),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, settings: dict[str, int], fault: str) -> None:
    with pytest.raises(LimnerError, match=fault):
        make_celeba_tree(tmp_path / "tree", **{"count": 1, **settings})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept(tree: Path) -> None:
    before = _digest(tree)
    with pytest.raises(LimnerError, match="already exists"):
        make_celeba_tree(tree, count=1)
    assert _digest(tree) == before


def test_jpegs_are_of_high_quality(tree: Path) -> None:
    data = (tree / "img_align_celeba" / "000001.jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        assert max(picture.quantization[0]) < 16  # type: ignore[attr-defined]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("verb", ["celeba-tree", "heads"])
def test_a_signal_leaves_nothing(tmp_path: Path, verb: str) -> None:
    command = [sys.executable, "-m", "limner", "data", verb, str(tmp_path / "set"), "--count", "9000", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "set.partial").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # the first heads are being drawn
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by a signal; nothing was kept" in said
    assert said.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []
