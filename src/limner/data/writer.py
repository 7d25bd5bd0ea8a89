"""Write a dataset: all of it or nothing (`limner.data.partial` says how)."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from limner.data import layout
from limner.data.dataset import Dataset, open_dataset
from limner.data.partial import PartialFolder, sync
from limner.data.rows import checked_rows
from limner.errors import DataError, LimnerError


class DatasetWriter:
    """Writes one dataset; a context manager.

    Without `finish`, or when an exception passes through, nothing is left behind.

    Args:
        folder: where the dataset shall be; must not exist, or be an empty folder.
        name: for people and cards.
        count: number of images n; `finish` may be given fewer.
        resolution: side R of the images that will be written, a power of two from 4 to 1024.
        crop: name of the crop that made them.
        resize: name of the resize rule that made them.
        source: what they were made from; goes to `dataset.json` as it is, so it must be JSON.
        attribute_names: names of the columns of the attributes given to `finish`.
        pyramid: how the lower levels came to be.

    Raises:
        LimnerError: the folder exists, or count or resolution make no dataset.
        ResourceError: the disk is too small or gets full.
        RunLockedError: another process is writing this dataset.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        count: int,
        resolution: int,
        crop: str,
        resize: str,
        source: dict[str, object],
        attribute_names: tuple[str, ...] = (),
        pyramid: str = layout.PYRAMID,
    ) -> None:
        if not layout.is_level(resolution):
            raise LimnerError(f"resolution {resolution}: choose a power of two from 4 to {layout.LARGEST}")
        if count < 1:
            raise LimnerError(f"{folder}: a dataset of {count} images; it needs at least one")
        self.folder = folder
        self.resolutions = layout.levels(resolution)
        self.count = count
        self._header: dict[str, object] = {"name": name, "source": source}
        self._header.update(crop=crop, resize=resize, pyramid=pyramid)
        self._attribute_names = attribute_names
        self._written = np.zeros(count, dtype=bool)
        self._offsets: dict[int, list[int]] = {r: [0] for r in self.resolutions if r > layout.LARGEST_RAW}
        self._files: dict[int, IO[bytes]] = {}
        self._partial = PartialFolder(folder, "dataset")
        try:
            self._partial.require_space(self._bytes_needed())
            self._open_files()
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, start: int, images: np.ndarray, lower: Mapping[int, np.ndarray] | None = None) -> None:
        """Rows start … start + k, (k, R, R, 3) uint8; the smaller levels are made from them.

        Any order, unless the dataset has encoded levels (above 256²): those must be written in order.

        Args:
            start: the first row.
            images: the largest level.
            lower: smaller levels that are to be as they are, (k, r, r, 3) uint8 by r; each one that is not among them
                is made from the one above.
        """
        top, lower = self.resolutions[-1], lower or {}
        for r, level in {**lower, top: images}.items():
            if level.dtype != np.uint8 or level.shape != (len(images), r, r, 3):
                raise DataError(f"{self.folder}: got {level.dtype} {level.shape}, but rows are uint8 (k, {r}, {r}, 3)")
        if start < 0 or start + len(images) > self.count:
            raise DataError(f"{self.folder}: rows {start} to {start + len(images)} do not fit {self.count} images")
        try:
            for resolution in reversed(self.resolutions):
                if resolution < top:
                    images = lower[resolution] if resolution in lower else layout.halve(images)
                self._write_level(resolution, start, images)
        except OSError as error:
            raise self._partial.storage_error(error) from error
        self._written[start : start + len(images)] = True

    def finish(
        self,
        *,
        attributes: np.ndarray | None = None,
        pose: np.ndarray | None = None,
        identity: np.ndarray | None = None,
        landmarks: np.ndarray | None = None,
        light: np.ndarray | None = None,
        splits: np.ndarray | None = None,
        source_files: Sequence[tuple[str, str]] | None = None,
        count: int | None = None,
    ) -> Dataset:
        """Write what is known of the images, make everything durable, and give the folder its name.

        Args:
            attributes: (n, a) of 0 and 1, or bool.
            pose: (n, 3) yaw, pitch, roll in radians.
            identity: (n,) integers from 0; rows of one person have one number.
            landmarks: (n, 5, 2) `layout.LANDMARKS` as fractions of the side; outside 0 … 1 where out of the picture.
            light: (n, 3) unit direction to the light: x right, y up, z to the camera.
            splits: (n,) 0 train, 1 valid, 2 test; all train when left out.
            source_files: (file, SHA-256) of each row.
            count: keep only the first so many rows (some files were skipped).
        """
        self._shorten(self.count if count is None else count)
        if splits is None:
            splits = np.zeros(self.count, dtype=np.uint8)
        known = {"attributes": attributes, "pose": pose, "identity": identity, "landmarks": landmarks, "light": light}
        try:
            for name, values in {"splits": splits, **known}.items():
                self._save_rows(name, values)
            self._save_sources(source_files)
            self._close_images()
            self._save_manifest(splits)
            self._partial.publish()
        except OSError as error:
            raise self._partial.storage_error(error) from error
        return open_dataset(self.folder)

    def discard(self) -> None:
        """Remove what was written, unless it was finished."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._partial.discard()

    def _bytes_needed(self) -> int:
        raw = sum(r * r * 3 for r in self.resolutions if r <= layout.LARGEST_RAW)
        encoded = sum(r * r * 3 // 2 for r in self.resolutions if r > layout.LARGEST_RAW)  # PNG of a photo: about half
        return self.count * (raw + encoded)

    def _open_files(self) -> None:
        for r in self.resolutions:
            file = self._files[r] = (self._partial.path / layout.images_file(r)).open("w+b")
            if r <= layout.LARGEST_RAW:
                file.write(_npy_header((self.count, r, r, 3)))

    def _write_level(self, resolution: int, start: int, images: np.ndarray) -> None:
        # Plain writes rather than a writable memory map: on a full disk a map dies of SIGBUS, a write says so.
        file = self._files[resolution]
        if resolution <= layout.LARGEST_RAW:
            header_bytes = len(_npy_header((self.count, resolution, resolution, 3)))
            file.seek(header_bytes + start * resolution * resolution * 3)
            file.write(np.ascontiguousarray(images).data)
            return
        offsets = self._offsets[resolution]
        if start != len(offsets) - 1:
            raise DataError(f"{self.folder}: row {start} after row {len(offsets) - 2}; above 256² rows go in order")
        with ThreadPoolExecutor(min(len(images), os.cpu_count() or 1) or 1) as pool:
            for encoded in pool.map(layout.encode_png, images):
                file.write(encoded)
                offsets.append(offsets[-1] + len(encoded))

    def _shorten(self, count: int) -> None:
        if not 1 <= count <= self.count or not self._written[:count].all():
            missing = int(np.argmin(self._written[:count])) if 1 <= count <= self.count else count
            raise DataError(f"{self.folder}: row {missing} of {count} was never written")
        if count == self.count:
            return
        for r, file in self._files.items():
            old, new = _npy_header((self.count, r, r, 3)), _npy_header((count, r, r, 3))
            if r > layout.LARGEST_RAW:
                del self._offsets[r][count + 1 :]
                file.truncate(self._offsets[r][-1])
                continue
            if len(old) != len(new):  # NumPy leaves room for any row count; this is here should it stop doing so
                raise LimnerError(f"{self.folder}: this NumPy writes .npy headers of varying length")
            file.seek(0)
            file.write(new)
            file.truncate(len(new) + count * r * r * 3)
        self.count = count

    def _save_rows(self, name: str, values: np.ndarray | None) -> None:
        if values is None:
            return
        file_name = f"{name}.npy"
        rows = checked_rows(f"{self.folder}/{file_name}", name, values, self.count, len(self._attribute_names))
        with (self._partial.path / file_name).open("wb") as file:
            np.save(file, rows, allow_pickle=False)
            sync(file)

    def _save_sources(self, source_files: Sequence[tuple[str, str]] | None) -> None:
        if source_files is None:
            return
        if len(source_files) != self.count:
            raise DataError(f"{self.folder}/sources.csv: {len(source_files)} source files for {self.count} images")
        path = self._partial.path / "sources.csv"
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("file", "sha256"))
            rows.writerows(source_files)
            sync(file)

    def _close_images(self) -> None:
        for resolution, offsets in self._offsets.items():
            with (self._partial.path / layout.index_file(resolution)).open("wb") as file:
                np.save(file, np.asarray(offsets, dtype=np.int64), allow_pickle=False)
                sync(file)
        for images in self._files.values():
            sync(images)
            images.close()
        self._files.clear()

    def _save_manifest(self, splits: np.ndarray) -> None:
        manifest: dict[str, object] = {
            "format": layout.FORMAT,
            **self._header,
            "count": self.count,
            "resolutions": self.resolutions,
            "encoded_resolutions": sorted(self._offsets),
            "splits": {split: int((splits == k).sum()) for k, split in enumerate(layout.SPLITS)},
            "attributes": list(self._attribute_names),
            "files": {name: layout.sha256_file(self._partial.path / name) for name in self._partial.names()},
        }
        with (self._partial.path / layout.MANIFEST).open("w", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
            sync(file)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()
