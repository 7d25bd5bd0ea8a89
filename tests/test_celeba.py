"""CelebA as downloaded, and in the forms it is found in: labels follow file names, and every fault has its row."""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hostile import encode, photo
from limner.data.celeba import open_celeba
from limner.data.check import check
from limner.data.prepare import open_source, prepare
from limner.data.sources import Source
from limner.errors import DataError

NAMES = [f"Attribute_{k}" for k in range(38)] + ["Smiling", "Young"]
COUNT = 6


def file_name(k: int) -> str:
    return f"{k + 1:06d}.jpg"


def bits(k: int) -> np.ndarray:
    """A different row of attributes for each picture."""
    return np.random.default_rng(k).integers(0, 2, 40).astype(np.uint8)


def attribute_lines(order: list[int]) -> list[str]:
    rows = [file_name(k) + " " + " ".join(f"{2 * int(b) - 1:2d}" for b in bits(k)) for k in order]
    return [str(len(rows)), " ".join(NAMES) + " ", *rows]


def text(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def pixels(k: int) -> np.ndarray:
    return photo(np.random.default_rng(100 + k), 178, 218)


def make_celeba(folder: Path, order: list[int] | None = None) -> Path:
    """Six pictures, told apart by their pixels, with tables in the form of the original."""
    order = list(range(COUNT)) if order is None else order
    (folder / "img_align_celeba").mkdir(parents=True)
    for k in range(COUNT):
        (folder / "img_align_celeba" / file_name(k)).write_bytes(encode(pixels(k), "JPEG", quality=95))
    (folder / "list_attr_celeba.txt").write_bytes(text(attribute_lines(order)))
    (folder / "list_eval_partition.txt").write_bytes(text([f"{file_name(k)} {k % 3}" for k in order]))
    return folder


def opened(folder: Path) -> Source:
    source = open_celeba(folder)
    assert source is not None
    return source


def check_labels(source: Source) -> None:
    """Every picture has the attributes and the split of its own number, taken from its name."""
    assert source.attribute_names == tuple(NAMES)
    assert source.splits is not None
    for name in source.photos.names:
        k = int(Path(name).stem) - 1
        np.testing.assert_array_equal(source.attributes[name], bits(k))
        assert source.splits[name] == k % 3


def test_as_downloaded(tmp_path: Path) -> None:
    source = opened(make_celeba(tmp_path / "celeba"))
    check_labels(source)
    assert source.crop == "celeba-pggan"
    assert source.notes == ()
    assert "non-commercial research" in source.licence


def test_rows_in_another_order(tmp_path: Path) -> None:
    order = list(range(COUNT))
    random.Random(1).shuffle(order)
    check_labels(opened(make_celeba(tmp_path / "celeba", order)))


def test_a_lost_picture_shifts_no_label(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path / "celeba")
    (folder / "img_align_celeba" / file_name(2)).unlink()
    source = opened(folder)
    assert len(source.photos.names) == COUNT - 1
    check_labels(source)
    assert any("1 rows have no picture (the first is 000003)" in note for note in source.notes)


def test_labels_reach_the_dataset_with_their_pixels(tmp_path: Path) -> None:
    order = [4, 2, 0, 5, 1, 3]
    folder = make_celeba(tmp_path / "celeba", order)
    (folder / "img_align_celeba" / file_name(1)).unlink()
    data = prepare(folder, tmp_path / "out", resolution=64, workers=1)
    kept = [0, 2, 3, 4, 5]
    assert [name for name, _ in data.sources() or []] == [file_name(k) for k in kept]
    assert data.attribute_names == tuple(NAMES)
    np.testing.assert_array_equal(data.attributes(), [bits(k) for k in kept])
    assert [data.indices(s).tolist() for s in ("train", "valid", "test")] == [[0, 2], [3], [1, 4]]
    assert data.crop == "celeba-pggan"
    assert data.source["split"] == "official"
    assert "non-commercial" in data.source["licence"]
    for row, k in enumerate(kept):
        expected = pixels(k)[57:185, 25:153].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(data.images(64)[row] - expected).mean() < 2


@pytest.mark.parametrize("place", ["itself", "zip", "zip-itself", "kaggle", "sorted", "renamed"])
def test_the_places_it_is_found_in(tmp_path: Path, place: str) -> None:
    folder = make_celeba(tmp_path / "celeba")
    asked = folder
    if place == "itself":
        asked = folder / "img_align_celeba"
    if place.startswith("zip"):
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for k in range(COUNT):
                path = folder / "img_align_celeba" / file_name(k)
                archive.write(path, f"img_align_celeba/{file_name(k)}")
        shutil.rmtree(folder / "img_align_celeba")
        asked = folder / "img_align_celeba.zip" if place == "zip-itself" else folder
    if place == "kaggle":
        (folder / "img_align_celeba").rename(folder / "inner")
        (folder / "img_align_celeba").mkdir()
        (folder / "inner").rename(folder / "img_align_celeba" / "img_align_celeba")
    if place == "sorted":
        for name, pattern in (("Img", "img_*"), ("Anno", "list_attr*"), ("Eval", "list_eval*")):
            (folder / name).mkdir()
            found = next(folder.glob(pattern))
            found.rename(folder / name / found.name)
    if place == "renamed":
        for path in (folder / "img_align_celeba").iterdir():
            path.rename(folder / path.name)
        (folder / "img_align_celeba").rmdir()
    source = open_source(asked)
    assert source.kind == "celeba"
    check_labels(source)


def test_without_tables(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path / "celeba")
    (folder / "list_attr_celeba.txt").unlink()
    (folder / "list_eval_partition.txt").unlink()
    source = opened(folder)
    assert source.attribute_names == ()
    assert source.splits is None
    assert len(source.notes) == 2
    data = prepare(folder, tmp_path / "out", resolution=16, workers=1)
    assert data.attributes() is None


def kaggle(lines: list[str]) -> list[str]:
    return ["image_id," + ",".join(lines[1].split()), *(",".join(line.split()) for line in lines[2:])]


Edit = Callable[[list[str]], bytes]
TOLERATED: dict[str, tuple[Edit, str]] = {
    "crlf": (lambda rows: text(rows).replace(b"\n", b"\r\n"), "CRLF"),
    "cr": (lambda rows: text(rows).replace(b"\n", b"\r"), "CRLF"),
    "bom": (lambda rows: b"\xef\xbb\xbf" + text(rows), "byte-order mark"),
    "tabs": (lambda rows: text(rows).replace(b" ", b"\t"), "tabs"),
    "no-final-newline": (lambda rows: text(rows)[:-1], "no final newline"),
    "kaggle": (lambda rows: text(kaggle(rows)), "Kaggle"),
    "kaggle-crlf-bom": (lambda rows: b"\xef\xbb\xbf" + text(kaggle(rows)).replace(b"\n", b"\r\n"), "Kaggle"),
    "blank-lines-at-the-end": (lambda rows: text([*rows, "", ""]), ""),
    "row-without-picture": (lambda rows: text(["7", *rows[1:], rows[-1].replace("000006", "000007")]), "no picture"),
    "non-ascii-name": (lambda rows: text(["7", *rows[1:], rows[-1].replace("000006", "zoë")]), "not ASCII"),
}


@pytest.mark.parametrize("form", TOLERATED)
def test_a_tolerated_form_is_read_and_noted(tmp_path: Path, form: str) -> None:
    edit, note = TOLERATED[form]
    folder = make_celeba(tmp_path / "celeba")
    (folder / "list_attr_celeba.txt").write_bytes(edit(attribute_lines(list(range(COUNT)))))
    source = opened(folder)
    check_labels(source)
    assert any(note in line for line in source.notes) or not note


def test_png_pictures_with_jpg_rows(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path / "celeba")
    for k in range(COUNT):
        path = folder / "img_align_celeba" / file_name(k)
        path.with_suffix(".png").write_bytes(encode(pixels(k), "PNG"))
        path.unlink()
    source = opened(folder)
    check_labels(source)
    assert any("6 pictures are not .jpg" in note for note in source.notes)


def replaced(row: int, old: str, new: str) -> Edit:
    def edit(lines: list[str]) -> bytes:
        lines[row - 1] = lines[row - 1].replace(old, new, 1)
        return text(lines)

    return edit


def smiling_is(value: str) -> Edit:
    def edit(lines: list[str]) -> bytes:
        fields = lines[4].split()
        fields[1 + NAMES.index("Smiling")] = value
        lines[4] = " ".join(fields)
        return text(lines)

    return edit


REFUSED: dict[str, tuple[Edit, str]] = {
    "html": (lambda rows: b"<!DOCTYPE html><html>Quota exceeded</html>", "row 1: is a web page"),
    "empty": (lambda rows: b"", "row 1: the file is empty"),
    "wrong-count": (replaced(1, "6", "202599"), "row 1: says 202599 pictures, the file has 6 rows"),
    "cut-short": (lambda rows: text(rows)[:-200], r"row 1: says 6 pictures|row \d: has \d+ values"),
    "no-count": (lambda rows: text(rows[1:]), "row 1: is 'Attribute_0.*expected the number of pictures"),
    "39-names": (replaced(2, "Smiling", ""), "row 2: names 39 attributes, expected 40"),
    "41-names": (replaced(2, "Smiling", "Smiling Frowning"), "row 2: names 41 attributes, expected 40"),
    "39-values": (lambda rows: text([*rows[:5], rows[5][:-3], *rows[6:]]), "row 6: has 39 values, expected 40"),
    "41-values": (lambda rows: text([*rows[:5], rows[5] + " 1", *rows[6:]]), "row 6: has 41 values, expected 40"),
    "value-0": (smiling_is("0"), "list_attr_celeba.txt:row 5: field 'Smiling' is '0', expected 1 or -1"),
    "value-yes": (smiling_is("yes"), "row 5: field 'Smiling' is 'yes', expected 1 or -1"),
    "value-escape": (smiling_is("\x1b[31m"), r"row 5: field 'Smiling' is '\\x1b\[31m'"),
    "duplicate-row": (lambda rows: text(["7", *rows[1:], rows[3]]), "row 9: '000002.jpg' has a row already, row 4"),
    "picture-without-row": (lambda rows: text(["5", *rows[1:-1]]), "has no row for '000006.jpg'"),
    "pictures-without-rows": (lambda rows: text(["2", *rows[1:4]]), "'000003.jpg' and 3 more pictures"),
    "latin-1": (lambda rows: text(rows[:4]) + b"zo\xeb.jpg\n", "row 5: byte .* is not UTF-8"),
    "kaggle-value-0": (lambda rows: text(kaggle(rows)).replace(b",1", b",0", 1), r"row [2-7]: .* is '0'"),
    "kaggle-39": (lambda rows: text(kaggle(rows)[:3]) + b"000003.jpg,1\n", "row 4: has 1 values, expected 40"),
    "kaggle-40-names": (lambda rows: text(kaggle(rows)).replace(b",Young", b"", 1), "row 1: names 39 attributes"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_a_wrong_form_is_refused_by_row(tmp_path: Path, form: str) -> None:
    edit, message = REFUSED[form]
    folder = make_celeba(tmp_path / "celeba")
    (folder / "list_attr_celeba.txt").write_bytes(edit(attribute_lines(list(range(COUNT)))))
    with pytest.raises(DataError, match=message) as caught:
        prepare(folder, tmp_path / "out", workers=1)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"000001.jpg 3\n", "list_eval_partition.txt:row 1: field 'partition' is '3', expected 0, 1 or 2"),
        (b"000001.jpg 0\n000001.jpg 1\n", "row 2: '000001.jpg' has a row already"),
        (b"000001.jpg\n", "row 1: has 0 values, expected 1"),
        (b"000001.jpg 0\n", "has no row for '000002.jpg' and 4 more"),
        (b"<html>", "row 1: is a web page"),
    ],
)
def test_a_wrong_partition_is_refused_by_row(tmp_path: Path, content: bytes, message: str) -> None:
    folder = make_celeba(tmp_path / "celeba")
    (folder / "list_eval_partition.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(folder)


def test_kaggle_partition(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path / "celeba")
    (folder / "list_eval_partition.txt").unlink()
    rows = "".join(f"{file_name(k)},{k % 3}\n" for k in (3, 1, 5, 0, 4, 2))
    (folder / "list_eval_partition.csv").write_text("image_id,partition\n" + rows)
    check_labels(opened(folder))


def test_two_pictures_with_one_row(tmp_path: Path) -> None:
    folder = make_celeba(tmp_path / "celeba")
    (folder / "img_align_celeba" / "000001.png").write_bytes(encode(pixels(0), "PNG"))
    with pytest.raises(DataError, match="have one row"):
        opened(folder)


def test_a_picture_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_celeba(tmp_path / "celeba")
    (folder / "img_align_celeba" / file_name(3)).write_bytes(encode(pixels(3)[:200], "JPEG"))
    with pytest.raises(DataError, match="1 of 6 pictures cannot be used"):
        check(folder, workers=1)
    assert "000004.jpg: wrong-size: 178×200" in capsys.readouterr().out
    check(folder, crop="center", workers=1)
