"""Open a dataset on disk (its layout: `limner.data.layout`); `limner.data.writer` writes one."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limner.data import layout
from limner.data.rows import ROW_ARRAYS
from limner.errors import DataError

_LARGEST_MANIFEST = 16 << 20


@dataclass(frozen=True)
class Dataset:
    """Images at several resolutions, with what is known of them; arrays are memory-mapped.

    Cheap to send to another process: it is opened there again by its path.
    """

    folder: Path
    name: str
    count: int
    """number of images n"""
    resolutions: tuple[int, ...]
    """4, 8, … R, pixels"""
    attribute_names: tuple[str, ...]
    crop: str
    resize: str
    source: dict[str, Any]
    files: dict[str, str]
    """SHA-256 of each file"""
    manifest_hash: str
    """SHA-256 of `dataset.json`, hex: it covers every byte of the dataset, since that lists the files' own"""
    _arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[Callable[[Path], Dataset], tuple[Path]]:
        return open_dataset, (self.folder,)

    def images(self, resolution: int) -> np.ndarray:
        """(n, r, r, 3) uint8, memory-mapped, read-only.

        Raises:
            DataError: the dataset lacks this resolution, or holds it encoded (then use `read`).
        """
        self._require(resolution)
        if resolution > layout.LARGEST_RAW:
            raise DataError(f"{self.folder}: images of {resolution}² are stored encoded; read them in batches")
        return self._array(layout.images_file(resolution), np.uint8, (self.count, resolution, resolution, 3))

    def read(self, resolution: int, indices: np.ndarray) -> np.ndarray:
        """The images of these rows, (k, r, r, 3) uint8, in this order; any resolution of the dataset.

        Raises:
            IndexError: a row outside 0 … n - 1.
            DataError: the dataset lacks this resolution, or an encoded image is damaged.
        """
        self._require(resolution)
        rows = np.asarray(indices, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= self.count):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a dataset of {self.count} images")
        if resolution <= layout.LARGEST_RAW:
            return np.take(np.asarray(self.images(resolution)), rows, axis=0)
        return self._decode(resolution, rows)

    def attributes(self) -> np.ndarray | None:
        """(n, a) uint8 of 0 and 1, columns in the order of `attribute_names`; None where not known."""
        return self._known("attributes")

    def pose(self) -> np.ndarray | None:
        """(n, 3) float32: yaw, pitch, roll in radians; None where not known."""
        return self._known("pose")

    def identity(self) -> np.ndarray | None:
        """(n,) int64: rows of one person have one number; None where not known."""
        return self._known("identity")

    def landmarks(self) -> np.ndarray | None:
        """(n, 5, 2) float32: `layout.LANDMARKS`, x right and y down as fractions of the side (outside 0 … 1 where out
        of the picture); None where not known.
        """
        return self._known("landmarks")

    def light(self) -> np.ndarray | None:
        """(n, 3) float32: unit direction to the light, x right, y up, z to the camera; None where not known."""
        return self._known("light")

    def indices(self, split: str) -> np.ndarray:
        """Rows of a split ("train", "valid", "test" or "all"), int64, ascending."""
        if split == "all":
            return np.arange(self.count, dtype=np.int64)
        if split not in layout.SPLITS:
            raise DataError(f"split '{split}': choose one of train, valid, test, all")
        splits = self._array("splits.npy", np.uint8, (self.count,))
        return np.flatnonzero(splits == layout.SPLITS.index(split)).astype(np.int64)

    def sources(self) -> list[tuple[str, str]] | None:
        """(file, SHA-256) of the photo each row was made from; None where not made from files."""
        if "sources.csv" not in self.files:
            return None
        with (self.folder / "sources.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [(row[0], row[1]) for row in csv.reader(file) if len(row) == 2]
        if len(rows) != self.count + 1:
            raise DataError(f"{self.folder}/sources.csv: {len(rows) - 1} rows for {self.count} images; prepare again")
        return rows[1:]

    def verify(self) -> None:
        """Read every file and compare its SHA-256 with the manifest's.

        Raises:
            DataError: naming the first file that changed.
        """
        for name, expected in self.files.items():
            if layout.sha256_file(self.folder / name) != expected:
                raise DataError(f"{self.folder}/{name}: changed since it was written (SHA-256); prepare it again")

    def _require(self, resolution: int) -> None:
        if resolution not in self.resolutions:
            have = ", ".join(map(str, self.resolutions))
            raise DataError(f"{self.folder}: has no images of {resolution}²; it has {have}")

    def _array(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = _map_array(self.folder / name, dtype, shape)
        return self._arrays[name]

    def _known(self, name: str) -> np.ndarray | None:
        array, file = ROW_ARRAYS[name], f"{name}.npy"
        shape = array.shape(self.count, len(self.attribute_names))
        return self._array(file, array.dtype, shape) if file in self.files else None

    def _decode(self, resolution: int, rows: np.ndarray) -> np.ndarray:
        path = self.folder / layout.images_file(resolution)
        offsets = self._array(layout.index_file(resolution), np.int64, (self.count + 1,))
        with path.open("rb") as file:
            encoded = []
            for row in rows:
                file.seek(offsets[row])
                encoded.append(file.read(offsets[row + 1] - offsets[row]))
        images = np.empty((len(rows), resolution, resolution, 3), dtype=np.uint8)

        def decode(k: int) -> None:
            try:
                images[k] = layout.decode_png(encoded[k])
            except Exception as error:  # Pillow raises half a dozen kinds for damaged files
                raise DataError(f"{path}: row {rows[k]} is damaged ({error}); prepare the dataset again") from error

        # A pool per call, since one kept across a fork would wait for threads that no longer exist.
        with ThreadPoolExecutor(min(len(rows), os.cpu_count() or 1) or 1) as pool:
            list(pool.map(decode, range(len(rows))))
        return images


def open_dataset(folder: str | Path, *, verify: bool = False) -> Dataset:
    """Open a dataset, checking that every file is there with the shape it should have.

    Args:
        folder: the dataset.
        verify: also read all of it and compare SHA-256s.

    Raises:
        DataError: not a dataset, of an unknown format, or with files missing, cut short or changed.
    """
    folder = Path(folder)
    manifest, digest = _read_manifest(folder)
    dataset = Dataset(
        folder=folder,
        name=str(manifest["name"]),
        count=manifest["count"],
        resolutions=tuple(manifest["resolutions"]),
        attribute_names=tuple(manifest["attributes"]),
        crop=str(manifest["crop"]),
        resize=str(manifest["resize"]),
        source=manifest["source"],
        files=manifest["files"],
        manifest_hash=digest,
    )
    _check_files(dataset, manifest["splits"])
    if verify:
        dataset.verify()
    return dataset


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / layout.MANIFEST
    if not path.is_file():
        raise DataError(f"{folder}: {_why_not_a_dataset(folder)}")
    data = path.open("rb").read(_LARGEST_MANIFEST + 1)
    if len(data) > _LARGEST_MANIFEST:
        raise DataError(f"{path}: larger than {_LARGEST_MANIFEST >> 20} MiB, so not limner's")
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); prepare the dataset again") from error
    if isinstance(manifest, dict) and "format" not in manifest:  # as StyleGAN's, whose folders have photos
        raise DataError(
            f"{path}: is not limner's; make a dataset of the photos with `limner data prepare {folder} DEST`"
        )
    if not isinstance(manifest, dict) or manifest.get("format") != layout.FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise DataError(f"{path}: field 'format' is {found!r}, this limner reads '{layout.FORMAT}'; prepare it again")
    _check_manifest(path, manifest)
    return manifest, hashlib.sha256(data).hexdigest()


def _why_not_a_dataset(folder: Path) -> str:
    if not folder.exists():
        if folder.with_name(folder.name + ".partial").is_dir():
            return f"only {folder.name}.partial exists, so its preparation did not end; prepare it again"
        return "no such folder; make a dataset with `limner data prepare` or `limner data heads`"
    if not folder.is_dir():
        return "not a dataset folder; make one from photos with `limner data prepare`"
    return "has no dataset.json, so it is not a dataset; make one from photos with `limner data prepare`"


def _check_manifest(path: Path, manifest: dict[str, Any]) -> None:
    def require(name: str, good: bool, expected: str) -> None:
        if not good:
            raise DataError(f"{path}: field '{name}' is {str(manifest.get(name))[:80]!r}, expected {expected}")

    def is_list(name: str, kind: type) -> bool:
        return isinstance(manifest.get(name), list) and all(isinstance(v, kind) for v in manifest[name])

    for name in ("name", "crop", "resize"):
        require(name, isinstance(manifest.get(name), str), "text")
    count = manifest.get("count")
    require("count", isinstance(count, int) and not isinstance(count, bool) and count > 0, "a number of images")
    good = is_list("resolutions", int) and bool(manifest["resolutions"])
    require("resolutions", good and layout.is_level(manifest["resolutions"][-1]), "4, 8, … R")
    resolutions = layout.levels(manifest["resolutions"][-1])
    require("resolutions", tuple(manifest["resolutions"]) == resolutions, str(list(resolutions)))
    encoded = [r for r in resolutions if r > layout.LARGEST_RAW]
    require("encoded_resolutions", manifest.get("encoded_resolutions") == encoded, str(encoded))
    require("attributes", is_list("attributes", str), "a list of names")
    require("source", isinstance(manifest.get("source"), dict), "an object")
    splits = manifest.get("splits")
    require("splits", isinstance(splits, dict) and set(splits) == set(layout.SPLITS), "train, valid and test")
    files = manifest.get("files")
    good = isinstance(files, dict) and all(isinstance(h, str) and len(h) == 64 for h in files.values())
    require("files", good and all(Path(n).name == n for n in files or {}), "a SHA-256 per file name")
    missing = set(layout.image_files(resolutions)) - set(files or {})
    require("files", not missing and "splits.npy" in (files or {}), ", ".join(sorted(missing)) or "splits.npy")


def _check_files(dataset: Dataset, split_counts: dict[str, int]) -> None:
    for name in dataset.files:
        if not (dataset.folder / name).is_file():
            raise DataError(f"{dataset.folder}/{name}: missing; prepare the dataset again")
    for resolution in dataset.resolutions:
        if resolution <= layout.LARGEST_RAW:
            dataset.images(resolution)
        else:
            _check_index(dataset, resolution)
    for name in ROW_ARRAYS:
        dataset._known(name)
    for split in layout.SPLITS:
        found = len(dataset.indices(split))
        if found != split_counts[split]:
            raise DataError(
                f"{dataset.folder}/splits.npy: has {found} rows of split '{split}', "
                f"dataset.json says {split_counts[split]}; prepare the dataset again"
            )


def _check_index(dataset: Dataset, resolution: int) -> None:
    offsets = dataset._array(layout.index_file(resolution), np.int64, (dataset.count + 1,))
    path = dataset.folder / layout.images_file(resolution)
    if offsets[0] != 0 or (np.diff(offsets) <= 0).any() or offsets[-1] != path.stat().st_size:
        raise DataError(f"{path}: its size or index is not what was written; prepare the dataset again")


def _map_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the dataset again") from error
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise DataError(f"{path}: is {found}, expected {np.dtype(dtype)} {shape}; prepare the dataset again")
    if not array.flags.c_contiguous:
        raise DataError(f"{path}: is stored column by column, which limner does not write; prepare the dataset again")
    return array
