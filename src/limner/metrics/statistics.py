"""Reference statistics: mean and covariance of a dataset's features, in the field's `.npz` form, and a cache of them.

The field's files hold two arrays, `mu` [d] and `sigma` [d, d] (n - 1), and nothing of how they were made. limner writes
the same two, as float64, and beside them its `protocol` as JSON, which readers of the two do not notice. A file of
others is read as it is: its protocol is unknown, so its SHA-256 must stand on the card.

Only moments are kept. Kernel distance, precision, recall, density and coverage need the features themselves, which are
computed anew (2048 floats of 50,000 images are 400 MB).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limner.cache import cache_folder
from limner.data.layout import sha256_file
from limner.errors import DataError, LimnerError, ResourceError
from limner.metrics.frechet import check_covariance
from limner.metrics.moments import Moments

LARGEST_WIDTH = 8192
"""features; more would be a covariance of over half a gigabyte, which no extractor here has"""
PROTOCOL_KEY = "protocol"
MUST_AGREE = ("dataset_sha256", "crop", "dataset_resize", "resolution", "extractor", "extractor_sha256", "resize")
"""without these two numbers have nothing to do with each other; split, count and seed are choices and go on the card"""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What reference statistics are of. Two equal ones have equal statistics, so it is the key of the cache."""

    dataset: str
    dataset_sha256: str
    """of the manifest"""
    crop: str
    dataset_resize: str
    """how the images came to their resolution"""
    split: str
    resolution: int
    """side of the images, pixels"""
    count: int
    seed: int
    """of the choice of images"""
    extractor: str
    extractor_sha256: str
    resize: str
    """how images come to the network's size"""
    code_version: str


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of features, float64, and where they are from."""

    mean: Float[Tensor, "d"]
    covariance: Float[Tensor, "d d"]
    protocol: Protocol | None = None
    """None: from a file of others"""
    sha256: str | None = None
    """of the file they were read from; None where they were computed just now"""

    @classmethod
    def from_moments(cls, moments: Moments, protocol: Protocol | None = None) -> Statistics:
        return cls(moments.mean, moments.covariance, protocol)


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write `.npz` at `path`: all of it, or nothing.

    Raises:
        LimnerError: the path does not end in .npz, or the arrays are no mean and covariance.
        ResourceError: it cannot be written.
    """
    if path.suffix != ".npz":
        raise LimnerError(f"{path}: reference statistics are .npz files; name it {path.name}.npz")
    _check(statistics.mean, statistics.covariance, str(path))
    arrays = {"mu": statistics.mean.double().numpy(), "sigma": statistics.covariance.double().numpy()}
    if statistics.protocol is not None:
        arrays[PROTOCOL_KEY] = np.array(json.dumps(asdict(statistics.protocol), ensure_ascii=False))
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may fill one cache
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written ({error.strerror}); make room there") from error
    finally:  # also where a signal interrupts
        with contextlib.suppress(OSError):
            partial.unlink()


def read_statistics(path: Path) -> Statistics:
    """Statistics from a `.npz` file of limner or of others. Nothing in it is executed, or allocated unseen.

    Raises:
        DataError: not such a file, damaged, or its arrays are no mean [d] and covariance [d, d] of finite values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _read_array(archive, name, path) for name in ("mu", "sigma")}
            protocol = _read_protocol(archive, path)
        sha256 = sha256_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: damaged, or not a .npz file ({error}); get it again") from error
    mean, covariance = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
    try:
        _check(mean, covariance, str(path))
    except DataError:
        raise
    except LimnerError as error:
        raise DataError(f"{error}; get the file again") from error
    return Statistics(mean, covariance, protocol, sha256)


def check_agreement(statistics: Statistics, wanted: Protocol, where: str) -> None:
    """Refuse statistics of another dataset, extractor or way of resizing than `wanted`.

    Statistics without a protocol pass: nothing is known of them, and the card holds their file's SHA-256 instead.

    Raises:
        DataError: one line with every field that differs and both values.
    """
    if statistics.protocol is None:
        return
    pairs = [(name, getattr(statistics.protocol, name), getattr(wanted, name)) for name in MUST_AGREE]
    unlike = [f"{name} {theirs!r} ≠ {ours!r}" for name, theirs, ours in pairs if theirs != ours]
    if unlike:
        raise DataError(f"{where}: statistics of something else: {'; '.join(unlike)}; use those of this dataset")


def cache_path(protocol: Protocol) -> Path:
    """Where the statistics of this protocol are, or would be: one file for each, in limner's cache folder."""
    key = hashlib.sha256(json.dumps(asdict(protocol), sort_keys=True).encode()).hexdigest()
    return cache_folder() / "statistics" / f"{protocol.extractor}-{protocol.split}-{protocol.count}-{key[:24]}.npz"


def read_cached(protocol: Protocol) -> Statistics | None:
    """The cached statistics of exactly this protocol; None where there are none, or the file is damaged."""
    path = cache_path(protocol)
    if not path.is_file():
        return None
    try:
        found = read_statistics(path)
    except DataError:
        return None  # made again and written over
    return found if found.protocol == protocol else None


def _read_array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """One member, after its header was judged: NumPy's own reader allocates what a header claims."""
    if f"{name}.npy" not in archive.namelist():
        raise DataError(f"{path}: has no array {name!r}; reference statistics hold 'mu' and 'sigma'")
    with archive.open(f"{name}.npy") as file:
        shape, transposed, dtype = _read_header(file)
        rank = {"mu": 1, "sigma": 2}[name]
        if dtype.kind != "f" or len(shape) != rank or not all(0 < side <= LARGEST_WIDTH for side in shape):
            wanted = f"floats [{', '.join('d' * rank)}], d up to {LARGEST_WIDTH}"
            raise DataError(f"{path}: {name} is {dtype} {list(shape)}, expected {wanted}; use another file")
        size = int(np.prod(shape)) * dtype.itemsize
        data = file.read(size + 1)
    if len(data) != size:
        raise DataError(f"{path}: {name} holds {len(data)} bytes, its header says {size}; get the file again")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if transposed else "C")


def _read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"array format {version}")
    shape, transposed, dtype = readers[version](file)
    return shape, transposed, dtype


def _read_protocol(archive: zipfile.ZipFile, path: Path) -> Protocol | None:
    if f"{PROTOCOL_KEY}.npy" not in archive.namelist():
        return None
    with archive.open(f"{PROTOCOL_KEY}.npy") as file:
        shape, _, dtype = _read_header(file)
        if dtype.kind != "U" or shape != () or dtype.itemsize > 1 << 20:
            raise DataError(f"{path}: {PROTOCOL_KEY} is {dtype} {list(shape)}, expected text; get the file again")
        text = str(np.frombuffer(file.read(dtype.itemsize + 1), dtype)[0])  # to the end, where the checksum is
    content = json.loads(text)
    hints = get_type_hints(Protocol)
    names = {entry.name for entry in fields(Protocol)}
    if not isinstance(content, dict) or set(content) != names:
        raise DataError(f"{path}: {PROTOCOL_KEY} has other fields than this limner's; compute the statistics again")
    wrong = [name for name in names if type(content[name]) is not hints[name]]
    if wrong:
        raise DataError(
            f"{path}: {PROTOCOL_KEY}: {wrong[0]} is {content[wrong[0]]!r:.60}; compute the statistics again"
        )
    return Protocol(**content)


def _check(mean: Tensor, covariance: Tensor, where: str) -> None:
    if mean.ndim != 1 or not bool(torch.isfinite(mean).all()):
        raise LimnerError(f"{where}: a mean that is not [d] or not finite")
    check_covariance(covariance, where)
    if len(covariance) != len(mean):
        raise LimnerError(f"{where}: mu of {len(mean)} features and sigma of {len(covariance)}; they do not belong")
