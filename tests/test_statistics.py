"""Reference statistics: the field's files both ways, hostile ones refused, and a cache keyed by everything."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.errors import DataError, LimnerError, ResourceError
from limner.metrics import statistics as module
from limner.metrics.moments import Moments
from limner.metrics.statistics import (
    MUST_AGREE,
    Protocol,
    Statistics,
    cache_path,
    check_agreement,
    read_cached,
    read_statistics,
    write_statistics,
)

PROTOCOL = Protocol(
    dataset="heads",
    dataset_sha256="a" * 64,
    crop="none",
    dataset_resize="2×2 means",
    split="train",
    resolution=64,
    count=200,
    seed=0,
    extractor="probe",
    extractor_sha256="b" * 64,
    resize="none",
    code_version="1",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path / "cache"))


def features(seed: int = 0, width: int = 6) -> Tensor:
    return torch.randn(200, width, generator=torch.Generator().manual_seed(seed))


def moments(seed: int = 0) -> Moments:
    return Moments.from_features(features(seed))


def write_arrays(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# --- files ---


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "heads.npz"
    statistics = Statistics.from_moments(moments(), PROTOCOL)
    write_statistics(path, statistics)
    found = read_statistics(path)
    assert torch.equal(found.mean, statistics.mean)
    assert torch.equal(found.covariance, statistics.covariance)
    assert found.protocol == PROTOCOL
    assert found.sha256 is not None
    assert [p.name for p in tmp_path.iterdir()] == ["heads.npz"]


def test_others_can_read_it(tmp_path: Path) -> None:
    """As the field's programs do: `with np.load(path) as f: f["mu"][:], f["sigma"][:]`, without pickles."""
    write_statistics(tmp_path / "a.npz", Statistics.from_moments(moments(), PROTOCOL))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(file["mu"][:], features().double().mean(0), rtol=1e-12)
        np.testing.assert_allclose(file["sigma"][:], np.cov(features().double().numpy(), rowvar=False), rtol=1e-9)
        assert json.loads(str(file["protocol"]))["extractor"] == "probe"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_files_of_others_are_read(tmp_path: Path, compressed: bool, dtype: str) -> None:
    """Compressed or not, single or double, either byte order, in Fortran's order."""
    rows = features().numpy()
    mu, sigma = rows.mean(0).astype(dtype), np.asfortranarray(np.cov(rows, rowvar=False).astype(dtype))
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", mu=mu, sigma=sigma, more=np.zeros(3))
    found = read_statistics(tmp_path / "a.npz")
    assert found.protocol is None
    assert found.covariance.dtype == torch.float64
    np.testing.assert_allclose(found.covariance, sigma.astype(float), rtol=1e-12)


def bad_archives() -> dict[str, dict[str, np.ndarray]]:
    good, mu = np.eye(3), np.zeros(3)
    skewed, spoilt = good.copy(), good.copy()
    skewed[0, 1], spoilt[1, 1] = 0.5, np.nan
    objects = np.array([{}], dtype=object)
    return {
        "no array 'sigma'": {"mu": mu},
        "no array 'mu'": {"sigma": good},
        "mu of 3 features and sigma of 4": {"mu": mu, "sigma": np.eye(4)},
        "sigma is float64 \\[3\\]": {"mu": mu, "sigma": mu},
        "mu is int64": {"mu": np.zeros(3, dtype=int), "sigma": good},
        "mu is object": {"mu": objects, "sigma": good},
        "not symmetric": {"mu": mu, "sigma": skewed},
        "not finite": {"mu": mu, "sigma": spoilt},
        "mean that is not": {"mu": mu + np.inf, "sigma": good},
        "negative variance": {"mu": mu, "sigma": -good},
        "sigma is float64 \\[2, 3\\]|not|\\[d, d\\]": {"mu": mu, "sigma": np.zeros((2, 3))},
        "protocol is float64": {"mu": mu, "sigma": good, "protocol": mu},
        "other fields": {"mu": mu, "sigma": good, "protocol": np.array('{"dataset": "x"}')},
        "damaged": {"mu": mu, "sigma": good, "protocol": np.array("{")},
    }


@pytest.mark.parametrize("message", bad_archives())
def test_what_is_no_statistics_is_refused(tmp_path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_statistics(write_arrays(tmp_path / "bad.npz", **bad_archives()[message]))
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_protocol_of_the_wrong_types_is_refused(tmp_path: Path) -> None:
    content = {entry.name: getattr(PROTOCOL, entry.name) for entry in fields(Protocol)} | {"count": "200"}
    arrays = {"mu": np.zeros(3), "sigma": np.eye(3), "protocol": np.array(json.dumps(content))}
    with pytest.raises(DataError, match="count is '200'"):
        read_statistics(write_arrays(tmp_path / "bad.npz", **arrays))


def test_a_header_that_claims_a_petabyte_allocates_nothing(tmp_path: Path) -> None:
    for claim in ((10**7, 10**7), (8192, 8192)):
        header = npy_bytes(np.zeros((3, 3))).replace(b"(3, 3), }", repr(claim).encode() + b", }")
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
            archive.writestr("mu.npy", npy_bytes(np.zeros(3)))
            archive.writestr("sigma.npy", header)
        with pytest.raises(DataError, match="bomb"):
            read_statistics(tmp_path / "bomb.npz")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """A flip in what is read is found by the archive's checksums; a cut file has no directory."""
    path = tmp_path / "a.npz"
    statistics = Statistics.from_moments(moments(), PROTOCOL)
    write_statistics(path, statistics)
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 8]) + data[place + 1 :])
        try:
            found = read_statistics(path)
        except DataError:
            refused += 1
        else:  # a date, say
            assert found.protocol in (PROTOCOL, None)  # a name changed in the directory: the file of others
            assert torch.equal(found.mean, statistics.mean)
            assert torch.equal(found.covariance, statistics.covariance)
    assert refused > 0.8 * len(range(0, len(data), 5))
    for content in (data[: len(data) // 2], b"", b"<html>", npy_bytes(np.eye(3))):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz"):
            read_statistics(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_statistics(tmp_path / "none.npz")


def test_a_damaged_stream_of_a_compressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, mu=np.arange(50.0), sigma=np.eye(50))
    data = path.read_bytes()
    for place in range(60, 140, 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        with pytest.raises(DataError, match=r"a\.npz"):
            read_statistics(path)


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = Statistics.from_moments(moments())

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez", fail)
    with pytest.raises(ResourceError, match="No space left"):
        write_statistics(tmp_path / "a.npz", statistics)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LimnerError, match=r"a\.npy\.npz"):
        write_statistics(tmp_path / "a.npy", statistics)


# --- agreement and cache ---


@pytest.mark.parametrize("name", MUST_AGREE)
def test_statistics_of_something_else_are_refused(name: str) -> None:
    changed = replace(PROTOCOL, **{name: 128 if name == "resolution" else "other"})
    with pytest.raises(DataError, match=f"ref.npz: statistics of something else: {name} .*other|128"):
        check_agreement(Statistics.from_moments(moments(), changed), PROTOCOL, "ref.npz")


def test_choices_may_differ_and_others_files_pass() -> None:
    chosen = replace(PROTOCOL, split="all", count=70000, seed=3)
    check_agreement(Statistics.from_moments(moments(), chosen), PROTOCOL, "ref.npz")
    check_agreement(Statistics.from_moments(moments()), PROTOCOL, "ref.npz")


def fill_cache(protocol: Protocol = PROTOCOL) -> Statistics:
    statistics = Statistics.from_moments(moments(), protocol)
    write_statistics(cache_path(protocol), statistics)
    return statistics


def test_the_cache_gives_back_what_was_put_in() -> None:
    assert read_cached(PROTOCOL) is None
    statistics, found = fill_cache(), read_cached(PROTOCOL)
    assert found is not None
    assert torch.equal(found.covariance, statistics.covariance)
    assert found.protocol == PROTOCOL


@pytest.mark.parametrize("name", [entry.name for entry in fields(Protocol)])
def test_everything_is_in_the_cache_key(name: str) -> None:
    value = getattr(PROTOCOL, name)
    other = replace(PROTOCOL, **{name: value + 1 if isinstance(value, int) else f"{value}x"})
    fill_cache()
    assert read_cached(PROTOCOL) is not None
    assert read_cached(other) is None
    # even where two keys meet in one file
    cache_path(PROTOCOL).rename(cache_path(other))
    assert read_cached(other) is None


def test_a_damaged_cache_counts_as_none() -> None:
    fill_cache()
    cache_path(PROTOCOL).write_bytes(b"PK damaged")
    assert read_cached(PROTOCOL) is None
    fill_cache()
    assert read_cached(PROTOCOL) is not None


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert read_cached(PROTOCOL) is None
    with pytest.raises(ResourceError, match="cannot be written"):
        fill_cache()
