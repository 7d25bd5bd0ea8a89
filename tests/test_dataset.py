"""A dataset on disk: written whole or not at all, read back bit for bit, and every damage named."""

from __future__ import annotations

import errno
import json
import os
import pickle  # only to send a Dataset to another process and back
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from limner.data import layout
from limner.data.dataset import Dataset, open_dataset
from limner.data.writer import DatasetWriter
from limner.errors import DataError, LimnerError, ResourceError, RunLockedError


def noise(count: int, resolution: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)


def writer(folder: Path, count: int, resolution: int, names: tuple[str, ...] = ()) -> DatasetWriter:
    return DatasetWriter(
        folder,
        name="noise",
        count=count,
        resolution=resolution,
        crop="whole",
        resize="none",
        source={"kind": "test"},
        attribute_names=names,
    )


def small_dataset(folder: Path, count: int = 7, resolution: int = 16) -> Dataset:
    with writer(folder, count, resolution, ("Smiling", "Young")) as out:
        out.write(0, noise(count, resolution))
        return out.finish(
            attributes=np.arange(count * 2).reshape(count, 2) % 2,
            pose=np.linspace(-1, 1, count * 3, dtype=np.float32).reshape(count, 3),
            splits=np.array([0, 1, 2, 0, 0, 0, 0][:count]),
            source_files=[(f"ø{i},\n.jpg", f"{i:064x}") for i in range(count)],
        )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "faces")
    again = open_dataset(tmp_path / "faces", verify=True)
    assert again == data
    assert (data.count, data.resolutions, data.attribute_names) == (7, (4, 8, 16), ("Smiling", "Young"))
    np.testing.assert_array_equal(data.images(16), noise(7, 16))
    rows = np.array([6, 0, 6, 3])
    np.testing.assert_array_equal(data.read(16, rows), noise(7, 16)[rows])
    np.testing.assert_array_equal(data.attributes(), np.arange(14).reshape(7, 2) % 2)
    np.testing.assert_allclose(data.pose(), np.linspace(-1, 1, 21).reshape(7, 3), atol=1e-6)
    assert [data.indices(s).tolist() for s in ("train", "valid", "test")] == [[0, 3, 4, 5, 6], [1], [2]]
    assert data.indices("all").tolist() == list(range(7))
    assert data.indices("train").dtype == np.int64
    sources = data.sources()
    assert sources is not None
    assert sources[3] == ("ø3,\n.jpg", f"{3:064x}")
    assert not list(tmp_path.glob("*.partial"))
    assert {p.name for p in data.folder.iterdir()} == {*data.files, "dataset.json"}


def test_each_level_is_the_rounded_mean_of_the_one_above(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "faces")
    for above, below in ((16, 8), (8, 4)):
        blocks = data.images(above).astype(np.float64).reshape(7, below, 2, below, 2, 3)
        np.testing.assert_array_equal(data.images(below), np.rint(blocks.mean(axis=(2, 4))))


def test_halving_neither_brightens_nor_overflows() -> None:
    white = np.full((1, 4, 4, 3), 255, dtype=np.uint8)
    assert (layout.halve(white) == 255).all()
    drift = layout.halve(noise(64, 64)).astype(float).mean() - noise(64, 64).astype(float).mean()
    assert abs(drift) < 0.02  # rounding every half up gives 0.125


def test_manifest_hash_is_that_of_the_file_and_changes_with_the_pixels(tmp_path: Path) -> None:
    first, second = small_dataset(tmp_path / "a"), small_dataset(tmp_path / "b")
    assert first.manifest_hash == second.manifest_hash == layout.sha256_file(tmp_path / "a" / "dataset.json")
    with writer(tmp_path / "c", 7, 16) as out:
        out.write(0, noise(7, 16, seed=1))
        assert out.finish().manifest_hash != first.manifest_hash


def test_encoded_levels_are_lossless_and_read_in_any_order(tmp_path: Path) -> None:
    images = noise(3, 512)
    with writer(tmp_path / "big", 3, 512) as out:
        out.write(0, images[:2])
        with pytest.raises(DataError, match="row 0 after row 1"):
            out.write(0, images[:1])
        out.write(2, images[2:])
        data = out.finish()
    rows = np.array([2, 0, 2])
    np.testing.assert_array_equal(data.read(512, rows), images[rows])
    np.testing.assert_array_equal(data.read(256, rows), layout.halve(images)[rows])
    assert data.read(512, np.array([], dtype=int)).shape == (0, 512, 512, 3)
    with pytest.raises(DataError, match="stored encoded"):
        data.images(512)
    assert json.loads((data.folder / "dataset.json").read_text())["encoded_resolutions"] == [512]


def test_a_damaged_encoded_image_is_named(tmp_path: Path) -> None:
    with writer(tmp_path / "big", 2, 512) as out:
        out.write(0, noise(2, 512))
        data = out.finish()
    path = data.folder / "images-0512.bin"
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 255
    path.write_bytes(content)
    data.read(512, np.array([0]))
    with pytest.raises(DataError, match=r"images-0512\.bin: row 1 is damaged"):
        data.read(512, np.array([0, 1]))


def test_rows_may_come_in_any_order_and_fewer_than_announced(tmp_path: Path) -> None:
    images = noise(5, 8)
    with writer(tmp_path / "faces", 9, 8) as out:
        out.write(3, images[3:])
        out.write(0, images[:3])
        data = out.finish(count=5)
    assert data.count == 5
    for r, expected in ((8, images), (4, layout.halve(images))):
        np.testing.assert_array_equal(data.images(r), expected)
        assert (data.folder / f"images-{r:04d}.npy").stat().st_size == 128 + 5 * r * r * 3


def test_fewer_encoded_images_than_announced(tmp_path: Path) -> None:
    with writer(tmp_path / "big", 3, 512) as out:
        out.write(0, noise(2, 512))
        data = out.finish(count=2)
    np.testing.assert_array_equal(data.read(512, np.array([1])), noise(2, 512)[1:])


def test_a_missing_row_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with writer(tmp_path / "faces", 4, 8) as out:
        out.write(0, noise(2, 8))
        out.write(3, noise(1, 8))
        with pytest.raises(DataError, match="row 2 of 4 was never written"):
            out.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"attributes": np.full((4, 2), 2)}, "values other than 0 … 1"),
        ({"attributes": np.zeros((4, 3))}, r"got \(4, 3\), expected \(4, 2\)"),
        ({"splits": np.full(4, 3)}, "values other than 0 … 2"),
        ({"pose": np.full((4, 3), np.nan)}, "not finite"),
        ({"source_files": [("a", "b")]}, "1 source files for 4 images"),
    ],
)
def test_wrong_columns_are_refused(tmp_path: Path, extra: dict[str, object], message: str) -> None:
    with writer(tmp_path / "faces", 4, 4, ("a", "b")) as out:
        out.write(0, noise(4, 4))
        with pytest.raises(DataError, match=message):
            out.finish(**extra)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with writer(tmp_path / "faces", 4, 8) as out:
            out.write(0, noise(2, 8))
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_wrong_images_are_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "faces", 4, 8) as out:
        for bad in (noise(1, 4), noise(1, 8).astype(np.float32), noise(1, 8)[0]):
            with pytest.raises(DataError, match="rows are uint8"):
                out.write(0, bad)
        with pytest.raises(DataError, match="rows 3 to 5 do not fit 4"):
            out.write(3, noise(2, 8))


@pytest.mark.parametrize("resolution", [2, 48, 0, -8, 2048])
def test_only_powers_of_two_from_4_to_1024(tmp_path: Path, resolution: int) -> None:
    with pytest.raises(LimnerError, match="power of two"):
        writer(tmp_path / "faces", 4, resolution)


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    small_dataset(tmp_path / "faces")
    with pytest.raises(LimnerError, match="already exists"):
        writer(tmp_path / "faces", 4, 8)
    (tmp_path / "empty").mkdir()
    small_dataset(tmp_path / "empty")


def test_two_writers_of_one_dataset(tmp_path: Path) -> None:
    with writer(tmp_path / "faces", 4, 8), pytest.raises(RunLockedError, match="another process is writing"):
        writer(tmp_path / "faces", 4, 8)


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    code = (
        "import os, numpy as np; from pathlib import Path; from limner.data.writer import DatasetWriter\n"
        f"w = DatasetWriter(Path({str(tmp_path / 'faces')!r}), name='x', count=4, resolution=64, crop='', resize='',"
        " source={})\n"
        "w.write(0, np.zeros((2, 64, 64, 3), np.uint8)); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with pytest.raises(DataError, match=r"only faces\.partial exists"):
        open_dataset(tmp_path / "faces")
    small_dataset(tmp_path / "faces")
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]
    assert not (tmp_path / "faces" / "images-0064.npy").exists()


def test_a_kill_at_every_storage_call_leaves_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class CutError(BaseException):
        pass

    calls, limit = 0, 10**9
    fsync, rename = os.fsync, Path.rename

    def counted(function):  # type: ignore[no-untyped-def]
        def call(*arguments):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls > limit:
                raise CutError
            return function(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", counted(fsync))
    monkeypatch.setattr(Path, "rename", counted(rename))
    small_dataset(tmp_path / "whole")
    total = calls
    assert total > 8
    for limit in range(total):
        calls, folder = 0, tmp_path / f"cut{limit}"
        with pytest.raises(CutError):
            small_dataset(folder)
        if folder.exists():
            open_dataset(folder, verify=True)
        assert not folder.with_name(folder.name + ".partial").exists()


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match=r"needs [\d,]+ MB, [\d,]+ MB free"):
        writer(tmp_path / "faces", 10**9, 256)
    assert list(tmp_path.iterdir()) == []

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        small_dataset(tmp_path / "faces")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        writer(tmp_path / "file" / "faces", 4, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "limner-dataset-9"}, "field 'format' is 'limner-dataset-9'"),
        ({"count": 0}, "field 'count'"),
        ({"count": True}, "field 'count'"),
        ({"count": 8}, r"images-0004\.npy: is uint8 \(7, 4, 4, 3\), expected uint8 \(8, 4, 4, 3\)"),
        ({"resolutions": [4, 16]}, "field 'resolutions'"),
        ({"resolutions": []}, "field 'resolutions'"),
        ({"resolutions": [4, 8, 16, 32]}, "field 'files'"),
        ({"encoded_resolutions": [16]}, "field 'encoded_resolutions'"),
        ({"attributes": ["Smiling"]}, r"attributes\.npy: is uint8 \(7, 2\)"),
        ({"attributes": "Smiling"}, "field 'attributes'"),
        ({"splits": {"train": 7, "valid": 0, "test": 0}}, r"splits\.npy: has 5 rows of split 'train'"),
        ({"splits": {"train": 7}}, "field 'splits'"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "field 'files'"),
        ({"files": None}, "field 'files'"),
        ({"name": None}, "field 'name'"),
        ({"source": "photos"}, "field 'source'"),
    ],
)
def test_a_wrong_manifest_is_named_by_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    data = small_dataset(tmp_path / "faces")
    path = data.folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        open_dataset(data.folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "<html>", "[" * 100_000, "\xff"])
def test_a_manifest_that_is_not_json(tmp_path: Path, text: str) -> None:
    data = small_dataset(tmp_path / "faces")
    (data.folder / "dataset.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"dataset\.json: (not JSON|field 'format')"):
        open_dataset(data.folder)


def test_files_missing_cut_short_or_swapped(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "faces")
    path = data.folder / "images-0016.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"images-0016\.npy: cannot be read"):
        open_dataset(data.folder)
    np.save(path, np.zeros((7, 16, 16, 3), dtype=np.float32))
    with pytest.raises(DataError, match="is float32"):
        open_dataset(data.folder)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(DataError, match=r"images-0016\.npy: is an archive"):
        open_dataset(data.folder)
    path.unlink()
    with pytest.raises(DataError, match=r"images-0016\.npy: missing"):
        open_dataset(data.folder)


def test_a_pickled_object_array_is_not_loaded(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "faces")
    np.save(data.folder / "splits.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"splits\.npy: cannot be read"):
        open_dataset(data.folder)


def test_one_flipped_bit_is_found_by_verify(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "faces")
    for name in data.files:
        path = data.folder / name
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            data.verify()
        content[-1] ^= 1
        path.write_bytes(content)
    data.verify()


def test_wrong_requests_of_a_dataset(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "faces")
    with pytest.raises(DataError, match="no images of 64²; it has 4, 8, 16"):
        data.images(64)
    with pytest.raises(DataError, match="split 'dev'"):
        data.indices("dev")
    for row in (-1, 7):
        with pytest.raises(IndexError, match="dataset of 7 images"):
            data.read(16, np.array([row]))
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no dataset\.json"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="not a dataset folder"):
        open_dataset(data.folder / "splits.npy")


def test_the_arrays_are_read_only_and_not_copied(tmp_path: Path) -> None:
    images = small_dataset(tmp_path / "faces").images(16)
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_sending_a_dataset_to_another_process_sends_its_path(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "faces", resolution=16)
    data.images(16)
    sent = pickle.dumps(data)
    assert len(sent) < 1000
    assert pickle.loads(sent) == data


def test_read_from_several_threads(tmp_path: Path) -> None:
    with writer(tmp_path / "big", 4, 512) as out:
        out.write(0, noise(4, 512))
        data = out.finish()
    wrong: list[int] = []

    def check(row: int) -> None:
        if not (data.read(512, np.array([row]))[0] == noise(4, 512)[row]).all():
            wrong.append(row)

    threads = [threading.Thread(target=check, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_torch_is_imported() -> None:
    code = "import sys, limner.data.dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
