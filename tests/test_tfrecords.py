"""TFRecords of the PGGAN kind → a dataset: exact levels, labels, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import random
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from limner import cli
from limner.data import layout
from limner.data.crc32c import crc32c
from limner.data.dataset import Dataset, open_dataset
from limner.data.decoding import squares
from limner.data.example import ExampleError, bytes_value, int64_values, parse_example
from limner.data.faults import PictureError
from limner.data.prepare import open_source, prepare
from limner.data.record_file import open_record_file
from limner.data.record_levels import RecordLevels, Records
from limner.data.tfrecords import open_tfrecords
from limner.errors import DataError, LimnerError
from pggan_records import (
    bytes_feature,
    example,
    int64_feature,
    level_path,
    message,
    pggan_levels,
    picture_payload,
    pictures,
    record,
    slow_crc32c,
    varint,
    write_records,
)

COUNT = 12


@pytest.fixture
def levels() -> dict[int, np.ndarray]:
    return pggan_levels(pictures(COUNT, 32))


@pytest.fixture
def source(tmp_path: Path, levels: dict[int, np.ndarray]) -> Path:
    return write_records(tmp_path / "records", levels)


def rows(images: np.ndarray) -> np.ndarray:
    """(n, C, r, r) → (n, r, r, C)."""
    return images.transpose(0, 2, 3, 1)


def read_all(source: Path) -> list[PictureError]:
    """The faults of all records."""
    opened = open_tfrecords(source)
    assert opened is not None
    assert isinstance(opened.photos, Records)
    work = RecordLevels(opened.photos, max(opened.photos.files))
    return [square.fault for square in work.make(range(work.count)) if square.fault]


def replace_record(path: Path, number: int, payload: bytes) -> int:
    """Put another payload, rightly signed, in the place of a record; gives the byte where it starts."""
    file, data = open_record_file(path), path.read_bytes()
    start, end = file.offsets[number : number + 2]
    path.write_bytes(data[:start] + record(payload) + data[end:])
    return int(start)


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # these four: RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc_of_known_data(data: bytes, crc: int) -> None:
    assert slow_crc32c(data) == crc
    assert crc32c(np.frombuffer(data, dtype=np.uint8)[None])[0] == crc


def test_crc_of_every_kind_of_length() -> None:
    rng = np.random.default_rng(0)
    for length in [*range(12), *range(288, 297), *range(443, 449), 580, 581, 1161, 5000]:
        data = rng.integers(0, 256, (3, length), dtype=np.uint8)
        assert crc32c(data).tolist() == [slow_crc32c(row.tobytes()) for row in data], length


def test_every_level_is_as_stored(tmp_path: Path, source: Path, levels: dict[int, np.ndarray]) -> None:
    data = prepare(source, tmp_path / "out", workers=1)
    assert data.resolutions == (4, 8, 16, 32)
    for resolution, images in levels.items():
        np.testing.assert_array_equal(data.images(resolution), rows(images))
    ours = layout.halve(layout.halve(rows(levels[32])))
    assert (ours != rows(levels[8])).any(), "the two pyramids differ, or this test shows nothing"
    assert (data.name, data.crop, data.resize) == ("faces", "as-stored", "as-stored")
    assert data.source["levels"] == {"stored": [4, 8, 16, 32], "made": []}
    assert data.source["notes"] == {}
    assert [name for name, _ in data.sources() or ()] == [f"faces-rxx.tfrecords:{k}" for k in range(COUNT)]
    open_dataset(data.folder, verify=True)


def test_every_number_of_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_records(tmp_path / "records", pggan_levels(pictures(40, 8)))
    one, two = (prepare(source, tmp_path / f"out{n}", workers=n) for n in (1, 2))
    assert one.manifest_hash == two.manifest_hash


def test_missing_levels_are_made_and_said(
    tmp_path: Path, source: Path, levels: dict[int, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    level_path(source, 16).unlink()
    level_path(source, 4).unlink()
    data = prepare(source, tmp_path / "out", workers=1)
    np.testing.assert_array_equal(data.images(16), layout.halve(rows(levels[32])))
    np.testing.assert_array_equal(data.images(8), rows(levels[8]))
    np.testing.assert_array_equal(data.images(4), layout.halve(rows(levels[8])))
    assert "8², 32² as stored; 4², 16² made from the level above" in capsys.readouterr().out
    assert data.source["levels"] == {"stored": [8, 32], "made": [4, 16]}
    smaller = prepare(source, tmp_path / "small", resolution=16, workers=1)
    np.testing.assert_array_equal(smaller.images(16), layout.halve(rows(levels[32])))
    np.testing.assert_array_equal(smaller.images(8), rows(levels[8]))


def test_a_split_is_the_same_at_every_resolution(tmp_path: Path) -> None:
    source = write_records(tmp_path / "records", pggan_levels(pictures(60, 16)))

    def splits(resolution: int) -> list[list[int]]:
        data = prepare(
            source,
            tmp_path / f"out{resolution}",
            resolution=resolution,
            workers=1,
            test_fraction=0.3,
            valid_fraction=0.2,
        )
        return [data.indices(split).tolist() for split in layout.SPLITS]

    assert splits(16) == splits(4)
    assert all(splits(8))


def test_any_record_can_be_read_alone(source: Path, levels: dict[int, np.ndarray]) -> None:
    file = open_record_file(level_path(source, 8))
    assert len(file) == COUNT
    for k, payload in zip((7, 0, 11, 7), file.read((7, 0, 11, 7), 1000), strict=True):
        assert isinstance(payload, memoryview)
        assert payload == picture_payload(levels[8][k])


def test_nothing_is_loaded_whole(tmp_path: Path) -> None:
    source = write_records(tmp_path / "records", {64: np.tile(pictures(20, 64), (20, 1, 1, 1))})
    size = level_path(source, 64).stat().st_size
    crc32c(np.zeros((1, 300), np.uint8))  # makes its tables
    tracemalloc.start()
    try:
        opened = open_tfrecords(source)
        assert opened is not None
        assert isinstance(opened.photos, Records)
        assert sum(len(some) for some in squares(RecordLevels(opened.photos, 64), 1)) == 400
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()


def test_above_256_levels_are_encoded_exactly(tmp_path: Path) -> None:
    levels = pggan_levels(pictures(2, 512))
    data = prepare(write_records(tmp_path / "records", levels), tmp_path / "out", workers=1, test_fraction=0.0)
    assert data.resolutions == (4, 8, 16, 32, 64, 128, 256, 512)
    for resolution in data.resolutions:
        np.testing.assert_array_equal(data.read(resolution, np.arange(2)), rows(levels[resolution]))


def test_grey_records_become_rgb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = pggan_levels(pictures(6, 8, channels=1))
    data = prepare(write_records(tmp_path / "records", levels), tmp_path / "out", workers=1, test_fraction=0.0)
    np.testing.assert_array_equal(data.images(8), np.repeat(rows(levels[8]), 3, axis=3))
    assert "6 one channel, made three" in capsys.readouterr().out


@pytest.mark.parametrize("write", ["data first", "unpacked shape"])
def test_other_ways_to_write_the_same(tmp_path: Path, write: str) -> None:
    images = pictures(3, 4)
    path = level_path(tmp_path / "records", 4)
    path.parent.mkdir()
    for chw in images:
        shape, data = int64_feature(chw.shape, packed=write != "unpacked shape"), bytes_feature(chw.tobytes())
        features = {"data": data, "shape": shape} if write == "data first" else {"shape": shape, "data": data}
        with path.open("ab") as file:
            file.write(record(example(features)))
    made = prepare(path, tmp_path / "out", workers=1, test_fraction=0.0)
    np.testing.assert_array_equal(made.images(4), rows(images))


# Labels


def prepare_labelled(tmp_path: Path, source: Path, labels: np.ndarray) -> Dataset:
    with (source / "faces-rxx.labels").open("wb") as file:
        np.save(file, labels)
    return prepare(source, tmp_path / "out", workers=1)


def test_labels_of_0_and_1_become_attributes(tmp_path: Path, source: Path) -> None:
    labels = np.eye(3, dtype=np.float32)[np.arange(COUNT) % 3]
    data = prepare_labelled(tmp_path, source, labels)
    assert data.attribute_names == ("label_0", "label_1", "label_2")
    np.testing.assert_array_equal(data.attributes(), labels.astype(np.uint8))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.full((COUNT, 2), 0.5, np.float32), "values other than 0 and 1"),
        (np.full((COUNT, 2), np.nan, np.float32), "values other than 0 and 1"),
        (np.ones(COUNT, np.float32), "its shape is"),
        (np.ones((COUNT, 0), np.float32), "its shape is"),
        (np.full((COUNT, 1), "1"), "its values are <U1"),
    ],
)
def test_other_labels_are_left_out_and_said(
    tmp_path: Path, source: Path, labels: np.ndarray, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare_labelled(tmp_path, source, labels).attributes() is None
    said = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(said) == 1
    assert "faces-rxx.labels" in said[0]
    assert reason in said[0]


def test_labels_must_fit_the_records(tmp_path: Path, source: Path) -> None:
    with pytest.raises(DataError, match=r"faces-rxx.labels: has 11 rows, but there are 12 records"):
        prepare_labelled(tmp_path, source, np.ones((COUNT - 1, 2), np.float32))


def npy_of(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>quota</html>", npy_of("(10**15, 40)"), npy_of("(1000000000000, 40)"), npy_of("()") + b"1234"],
)
def test_labels_that_are_no_array(tmp_path: Path, source: Path, content: bytes) -> None:
    (source / "faces-rxx.labels").write_bytes(content)
    with pytest.raises(DataError, match=r"faces-rxx.labels: (is not a NumPy array|has no rows)"):
        prepare(source, tmp_path / "out", workers=1)


def test_pickled_labels_do_not_run(tmp_path: Path, source: Path) -> None:
    with (source / "faces-rxx.labels").open("wb") as file:
        np.save(file, np.array([{"a": 1}] * COUNT, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"faces-rxx.labels: is not a NumPy array"):
        prepare(source, tmp_path / "out", workers=1)


# Faults


CHW = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
SHAPE, DATA = int64_feature((3, 8, 8)), bytes_feature(CHW.tobytes())
BAD_PAYLOADS = {
    "another size": (picture_payload(np.zeros((3, 16, 16), np.uint8)), r"its shape is \(3, 16, 16\)"),
    "not square": (picture_payload(np.zeros((3, 4, 16), np.uint8)), r"its shape is \(3, 4, 16\)"),
    "channels last": (picture_payload(np.zeros((8, 8, 3), np.uint8)), r"its shape is \(8, 8, 3\)"),
    "two dimensions": (picture_payload(np.zeros((8, 8), np.uint8)), r"its shape is \(8, 8\)"),
    "four channels": (picture_payload(np.zeros((4, 8, 8), np.uint8)), r"its shape is \(4, 8, 8\)"),
    "negative": (example({"shape": int64_feature((3, -8, -8)), "data": DATA}), r"its shape is \(3, -8, -8\)"),
    "many dimensions": (example({"shape": int64_feature((1,) * 99), "data": DATA}), "more than 16 numbers"),
    "float pixels": (picture_payload(CHW.astype(np.float32)), "768 bytes of pixels, expected 192"),
    "too few pixels": (example({"shape": SHAPE, "data": bytes_feature(bytes(191))}), "191 bytes of pixels"),
    "no shape": (example({"data": DATA}), "has the features data, expected data, shape"),
    "no data": (example({"shape": SHAPE}), "has the features shape, expected"),
    "nothing": (b"", r"has the features \(none\)"),
    "unknown": (example({"shape": SHAPE, "data": DATA, "label": SHAPE}), "has the features data, label, shape"),
    "jpeg": (example({"image/encoded": DATA}), "has the features image/encoded"),
    "shape of floats": (example({"shape": message(2, message(1, b"1234")), "data": DATA}), "field 2 where only 'int64"),
    "two strings": (example({"shape": SHAPE, "data": message(1, message(1, b"a") * 2)}), "has 2 strings"),
    "twice": (message(1, 2 * message(1, message(1, b"data") + message(2, DATA))), "the feature 'data' twice"),
    "not an example": (b"\xff" * 40, "more than 64 bits"),
    "terminal codes": (example({"\x1b[31m": DATA}), r"\\x1b\[31m"),
    "too large": (bytes(300_000), "300,000 bytes, expected at most"),
}


@pytest.mark.parametrize("what", BAD_PAYLOADS)
def test_a_bad_record_is_named(tmp_path: Path, source: Path, what: str) -> None:
    payload, reason = BAD_PAYLOADS[what]
    start = replace_record(level_path(source, 8), 5, payload)
    with pytest.raises(
        DataError, match=rf"^faces-r03.tfrecords:record 5 \(byte {start}\): bad-record: .*{reason}"
    ) as caught:
        prepare(source, tmp_path / "out", workers=1)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_every_flipped_bit_of_a_record_is_noticed(tmp_path: Path) -> None:
    source = write_records(tmp_path / "records", {4: pictures(2, 4)})
    path = level_path(source, 4)
    whole, end = path.read_bytes(), int(open_record_file(path).offsets[1])
    for bit in range(8 * end):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = open_record_file(path).read(range(2), 1000)
            faults = [str(fault) for fault in found if isinstance(fault, PictureError)]
        except DataError as error:
            faults = [str(error)]
        assert len(faults) == 1
        assert "faces-r02.tfrecords:record 0 (byte 0)" in faults[0]


def damage(source: Path, rng: random.Random) -> str:
    """Do something bad to one of the files."""
    path = rng.choice(sorted(source.iterdir()))
    data, offsets = bytearray(path.read_bytes()), open_record_file(path).offsets
    kind = rng.choice(("flip", "burst", "cut", "cut between records", "lost record", "lost bytes", "zeroed"))
    at = rng.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "burst":
        data[at : at + 8] = rng.randbytes(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "cut between records":
        del data[offsets[rng.randrange(COUNT)] :]
    elif kind == "lost record":
        k = rng.randrange(COUNT)
        del data[offsets[k] : offsets[k + 1]]
    elif kind == "lost bytes":
        del data[at : at + rng.randint(1, 20)]
    else:
        data[at : at + 64] = b"\xa5" * 64
    path.write_bytes(data)
    return f"{kind} in {path.name} at {at}"


def test_500_random_damages_are_noticed(tmp_path: Path) -> None:
    source = write_records(tmp_path / "records", pggan_levels(pictures(COUNT, 8)))
    whole = {path: path.read_bytes() for path in source.iterdir()}
    for seed in range(500):
        what = damage(source, random.Random(seed))
        try:
            faults = [str(fault) for fault in read_all(source)]
        except DataError as error:
            faults = [str(error)]
        assert faults, what
        assert all("record " in fault and "(byte " in fault and "\n" not in fault for fault in faults), (what, faults)
        for path, data in whole.items():
            path.write_bytes(data)
    assert not read_all(source)


def test_unequal_counts_are_refused(source: Path) -> None:
    path = level_path(source, 16)
    end = int(open_record_file(path).offsets[9])
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match=rf"r04.tfrecords: ends before record 9 \(byte {end}\), but .* has 12 records"):
        read_all(source)


def test_a_length_beyond_the_file_costs_nothing(tmp_path: Path) -> None:
    path = level_path(tmp_path, 4)
    length = struct.pack("<Q", 1 << 62)
    path.write_bytes(length + record(length)[12 + 8 :][:4] + bytes(100))
    with pytest.raises(DataError, match=r"record 0 \(byte 0\): the file ends within it, at byte 112"):
        read_all(tmp_path)


def test_levels_that_do_not_belong_together(tmp_path: Path, source: Path, levels: dict[int, np.ndarray]) -> None:
    replace_record(level_path(source, 8), 3, picture_payload(255 - levels[8][3]))
    with pytest.raises(DataError, match=r"faces-r03.tfrecords:record 3 \(byte \d+\): other-picture: .* than faces-r04"):
        prepare(source, tmp_path / "out", workers=1)


def test_levels_by_another_filter_are_kept_and_counted(
    tmp_path: Path, source: Path, levels: dict[int, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    other = levels[8].copy()
    other[3] = levels[32][3, :, 1::4, 1::4]
    write_records(source, {8: other})
    data = prepare(source, tmp_path / "out", workers=1)
    np.testing.assert_array_equal(data.images(8), rows(other))
    assert "1 a stored level is not the mean of the one above, kept as stored" in capsys.readouterr().out


def test_a_record_can_be_left_out_of_all_levels(tmp_path: Path, source: Path, levels: dict[int, np.ndarray]) -> None:
    replace_record(level_path(source, 8), 5, b"")
    np.save(source / "labels", np.zeros(1))
    with (source / "faces-rxx.labels").open("wb") as file:
        np.save(file, np.eye(COUNT, dtype=np.float32))
    data = prepare(source, tmp_path / "out", workers=1, bad_files="skip")
    for resolution, images in levels.items():
        np.testing.assert_array_equal(data.images(resolution), np.delete(rows(images), 5, axis=0))
    np.testing.assert_array_equal(data.attributes(), np.delete(np.eye(COUNT, dtype=np.uint8), 5, axis=0))
    assert data.source["skipped"][0]["file"].startswith("faces-r03.tfrecords:record 5")


# Hostile messages


def test_hostile_messages_are_refused_or_read(source: Path, levels: dict[int, np.ndarray]) -> None:
    rng, whole = random.Random(0), picture_payload(levels[4][0])
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.choice(
                (rng.randbytes(2), varint(1 << rng.randrange(64)), b"\xff" * 9)
            )
        try:
            for feature in parse_example(memoryview(bytes(data))).values():
                for value in (int64_values, bytes_value):
                    try:
                        value(feature)
                    except ExampleError:
                        continue
        except ExampleError:
            continue


# Which files


def test_a_file_stands_for_its_set(tmp_path: Path, source: Path) -> None:
    write_records(source, pggan_levels(pictures(5, 8)), name="others-r05")
    with pytest.raises(DataError, match=r"several data sets \(faces, others-r05\); name a file"):
        prepare(source, tmp_path / "out")
    assert prepare(level_path(source, 4), tmp_path / "a", workers=1).count == COUNT
    assert prepare(level_path(source, 4, "others-r05"), tmp_path / "b", workers=1).resolutions == (4, 8)


def test_other_files_are_not_looked_at(source: Path) -> None:
    (source / "preview.png").write_bytes(b"x")
    shutil.copy(level_path(source, 4), source / "faces-r11.tfrecords")
    opened = open_source(source)
    assert opened.kind == "tfrecords"
    assert opened.photos.ignored == ("faces-r11.tfrecords", "preview.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("faces.tfrecords", b"x", "is not named NAME-rRR.tfrecords"),
        ("faces.tfrecord-00000-of-00010", b"x", "is not named NAME-rRR.tfrecords"),
        ("faces-r11.tfrecords", b"x", "has no records of 4² to 1024²"),
        ("faces-r02.tfrecords", b"", "the file is empty; fetch it again"),
        ("faces-r02.tfrecords", b"x", r"record 0 \(byte 0\): the file ends within it, at byte 1"),
        ("faces-r02.tfrecords", b"<html>quota exceeded</html>", "the file does not begin with a TFRecord"),
        ("faces-r02.tfrecords", bytes(1000), "the file does not begin with a TFRecord"),
        ("faces-r02.tfrecords", gzip.compress(bytes(1000), mtime=0), "is packed by gzip"),
    ],
)
def test_files_that_are_no_records(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*{message}" if "r11" not in name else message):
        prepare(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "center"}, "--crop center: TFRecords are squares"),
        ({"resize": "box"}, "--resize box: TFRecords are squares"),
        ({"resolution": 64}, "the largest records are faces-r05.tfrecords, 32²"),
        ({"resolution": 24}, "choose a power of two from 4 to 32"),
        ({"resolution": 0}, "choose a power of two from 4 to 32"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, source: Path, options: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(LimnerError, match=message):
        prepare(source, tmp_path / "out", **options)


def test_the_command_line(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["data", "prepare", str(source), str(out), "--resolution", "16"]) == 0
    assert cli.main(["data", "check", str(source), "--dataset", str(out)]) == 0
    assert "made from exactly these files" in capsys.readouterr().out
    assert cli.main(["data", "info", str(out)]) == 0
    assert "tfrecords" in capsys.readouterr().out
    replace_record(level_path(source, 16), 4, picture_payload(pictures(99, 16)[98]))
    level_path(source, 8).unlink()
    level_path(source, 4).unlink()
    level_path(source, 32).unlink()
    assert cli.main(["data", "check", str(source), "--dataset", str(out)]) == 3
    assert "its source is not what it was" in capsys.readouterr().err
    path = level_path(source, 16)
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    assert cli.main(["data", "check", str(source)]) == 3
    said = capsys.readouterr()
    assert "faces-r04.tfrecords:record 11 (byte " in said.out
    assert "1 of 12 pictures cannot be used" in said.err
