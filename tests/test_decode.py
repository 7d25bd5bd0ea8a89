"""The guarded decoder against more than 500 hostile, damaged and unusual files."""

from __future__ import annotations

import contextlib
import io
import sys
import time

import numpy as np
import pytest

from hostile import Case, cases, encode, photo
from limner.data import faults, pictures
from limner.data.faults import FAULTS, NOTES, PictureError
from limner.data.pictures import decode

CASES = list(cases())
REFUSED = [c for c in CASES if c.pixels is None]
EXOTIC = [c for c in CASES if c.pixels is not None]


def outcome(case: Case) -> str:
    """The fault, or "" if it decodes; anything but a `PictureError` goes through and fails the test."""
    error: PictureError | None = None
    try:
        picture = decode(case.data, case.name)
    except PictureError as caught:
        error = caught
    if error is not None:
        assert str(error).startswith(f"{case.name}: {error.fault}: ")
        assert str(error).endswith(FAULTS[error.fault])
        assert "\n" not in str(error)
        return error.fault
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.ndim == 3
    assert picture.pixels.shape[2] == 3
    assert set(picture.notes) <= set(NOTES)
    return ""


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 500
    assert len({c.kind.rstrip("0123456789") for c in CASES}) >= 43


def test_every_hostile_file_ends_in_its_named_fault() -> None:
    wrong, slow = [], []
    for case in REFUSED:
        start = time.process_time()
        found = outcome(case)
        if time.process_time() - start > 5:
            slow.append(case.kind)
        if found not in case.faults:
            wrong.append((case.kind, case.name, found, sorted(case.faults)))
    assert wrong == []
    assert slow == []


@pytest.mark.parametrize("case", EXOTIC, ids=lambda c: f"{c.kind}-{c.name}")
def test_an_unusual_file_decodes_to_its_pixels(case: Case) -> None:
    assert case.pixels is not None
    pixels, notes = decode(case.data, case.name)
    assert pixels.shape == case.pixels.shape
    difference = np.abs(pixels.astype(int) - case.pixels).max()
    assert difference <= case.tolerance
    assert case.notes <= set(notes)
    assert set(notes) <= set(NOTES)


def test_an_upright_eight_bit_file_has_no_notes() -> None:
    plain = next(c for c in EXOTIC if c.kind == "rgb-PNG")
    assert decode(plain.data, plain.name).notes == ()


def test_the_generator_is_deterministic() -> None:
    assert [hash(c.data) for c in cases()] == [hash(c.data) for c in CASES]


def test_no_flipped_bit_of_a_png_goes_unseen() -> None:
    rng = np.random.default_rng(5)
    image = photo(rng, 64, 64)
    data = encode(image, "PNG")
    for _ in range(500):
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            pixels = decode(bytes(flipped), "a.png").pixels
        except PictureError:
            continue
        np.testing.assert_array_equal(pixels, image)


def test_a_name_cannot_write_to_the_terminal() -> None:
    with pytest.raises(PictureError) as caught:
        decode(b"", "a\x1b[31m\n\udcff.jpg")
    assert str(caught.value).startswith(r"a\x1b[31m\n\udcff.jpg: zero-byte")


def test_every_fault_of_a_file_is_met_by_a_case() -> None:
    of_files = set(list(FAULTS)[: list(FAULTS).index("bomb") + 1])
    assert of_files - {"needs-extra"} <= {outcome(c) for c in REFUSED}


def heic(image: np.ndarray, **options: object) -> bytes:
    """A HEIC file, or skip the test where the extra `heic` is not installed."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    return encode(image, "HEIF", **options)


def test_heic_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    pictures._reads_heic.cache_clear()
    try:
        with pytest.raises(PictureError, match=r"a\.heic: needs-extra: HEIC; .*pip install 'limner\[heic\]'"):
            decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "a.heic")
    finally:
        pictures._reads_heic.cache_clear()


@pytest.mark.parametrize("name", ["a.HEIC", "a.heif", "a.jpg"])
def test_heic_decodes_to_its_pixels(name: str) -> None:
    image = photo(np.random.default_rng(0), 64, 48)
    pixels, notes = decode(heic(image, quality=95), name)
    assert np.abs(pixels.astype(int) - image).max() <= 12
    assert notes == (("wrong-extension",) if name == "a.jpg" else ())


def test_heic_of_16_bits_is_scaled() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = photo(np.random.default_rng(1), 64, 48)
    buffer = io.BytesIO()
    made = pillow_heif.from_bytes("RGB;16", (64, 48), (image.astype(np.uint16) * 257).tobytes())
    made.save(buffer, quality=95)
    assert np.abs(decode(buffer.getvalue(), "a.heic").pixels.astype(int) - image).max() <= 12


def test_a_damaged_heic_is_a_named_fault() -> None:
    rng = np.random.default_rng(2)
    data = heic(photo(rng, 64, 48), quality=90)
    for end in range(40, len(data), 97):
        with pytest.raises(PictureError) as caught:
            decode(data[:end], "a.heic")
        assert caught.value.fault == "truncated"
    for _ in range(60):
        flipped = bytearray(data)
        flipped[int(rng.integers(12, len(data)))] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(PictureError):  # a flipped bit may also decode, as in a JPEG
            decode(bytes(flipped), "a.heic")


def test_a_fault_survives_the_way_between_processes() -> None:
    error = PictureError("a.jpg", "bomb", "too large")
    kind, arguments = error.__reduce__()
    assert str(kind(*arguments)) == str(error)
    assert faults.PictureError is kind
