"""One record of the PGGAN kind → pixels: an Example of `shape`, int64 (C, H, W), and `data`, C·H·W bytes of uint8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limner.data.example import ExampleError, bytes_value, int64_values, parse_example

_MOST_FORMS = 4
"""writers put the two features in either order, so two are met"""


@dataclass(frozen=True)
class _Form:
    """The bytes around the pixels of a record that was read: where they are the same again, so is their meaning."""

    head: bytes
    pixels_bytes: int
    tail: bytes
    shape: tuple[int, ...]

    def pixels(self, payload: memoryview) -> np.ndarray | None:
        end = len(self.head) + self.pixels_bytes
        if len(payload) != end + len(self.tail) or payload[: len(self.head)] != self.head or payload[end:] != self.tail:
            return None
        return np.frombuffer(payload[len(self.head) : end], dtype=np.uint8).reshape(self.shape)


class PictureReader:
    """Reads records of one resolution; those that differ from one before in their pixels only are not parsed anew."""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution
        self._forms: list[_Form] = []

    def read(self, payload: memoryview) -> np.ndarray:
        """(C, r, r) uint8, C 3 or 1, without a copy.

        Raises:
            ExampleError: it is not such a record, or of another size.
        """
        for form in self._forms:
            pixels = form.pixels(payload)
            if pixels is not None:
                return pixels
        pixels = _parse(payload, self.resolution)
        if len(self._forms) < _MOST_FORMS:
            start = pixels.ctypes.data - np.frombuffer(payload, dtype=np.uint8).ctypes.data
            tail = bytes(payload[start + pixels.size :])
            self._forms.append(_Form(bytes(payload[:start]), pixels.size, tail, pixels.shape))
        return pixels


def _parse(payload: memoryview, resolution: int) -> np.ndarray:
    features = parse_example(payload)
    if set(features) != {"shape", "data"}:
        raise ExampleError(f"has the features {', '.join(sorted(features)) or '(none)'}, expected data, shape")
    shape = int64_values(features["shape"])
    if shape not in ((3, resolution, resolution), (1, resolution, resolution)):
        raise ExampleError(f"its shape is {shape}, expected (3, {resolution}, {resolution}) as the file's name says")
    data = bytes_value(features["data"])
    expected = shape[0] * resolution**2
    if len(data) != expected:
        raise ExampleError(f"has {len(data):,} bytes of pixels, expected {expected:,} for {shape} of uint8")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
