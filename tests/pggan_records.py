"""TFRecords as PGGAN writes them, by a writer of its own: a plain bitwise CRC, and protobuf by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hostile import photo
from limner.data.crc32c import crc32c


def slow_crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def quick_crc32c(data: bytes) -> int:
    """limner's own, for large records; the tests hold it against the slow one."""
    return int(crc32c(np.frombuffer(data, dtype=np.uint8)[None])[0])


def masked_crc(data: bytes) -> bytes:
    crc = slow_crc32c(data) if len(data) < 300 else quick_crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked_crc(length) + payload + masked_crc(payload)


def varint(value: int) -> bytes:
    value %= 1 << 64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def int64_feature(values: Sequence[int], packed: bool = True) -> bytes:
    if packed:
        return message(3, message(1, b"".join(map(varint, values))))
    return message(3, b"".join(varint(1 << 3) + varint(v) for v in values))


def bytes_feature(value: bytes) -> bytes:
    return message(1, message(1, value))


def example(features: dict[str, bytes]) -> bytes:
    entries = (message(1, message(1, name.encode()) + message(2, f)) for name, f in features.items())
    return message(1, b"".join(entries))


def picture_payload(chw: np.ndarray) -> bytes:
    return example({"shape": int64_feature(chw.shape), "data": bytes_feature(chw.tobytes())})


def pictures(count: int, side: int, channels: int = 3) -> np.ndarray:
    """(count, channels, side, side) uint8: smooth, and unlike each other."""
    made = [photo(np.random.default_rng(k), side, side)[..., :channels].transpose(2, 0, 1) for k in range(count)]
    return np.stack(made)


def pggan_levels(largest: np.ndarray) -> dict[int, np.ndarray]:
    """By resolution down to 4²: float means from the largest, each rounded half to even, as PGGAN does."""
    levels, floats = {largest.shape[-1]: largest}, largest.astype(np.float32)
    while floats.shape[-1] > 4:
        floats = floats.reshape(*floats.shape[:2], floats.shape[2] // 2, 2, floats.shape[3] // 2, 2).mean((3, 5))
        levels[floats.shape[-1]] = np.rint(floats).clip(0, 255).astype(np.uint8)
    return levels


def level_path(folder: Path, resolution: int, name: str = "faces") -> Path:
    return folder / f"{name}-r{resolution.bit_length() - 1:02d}.tfrecords"


def write_records(folder: Path, levels: dict[int, np.ndarray], name: str = "faces") -> Path:
    """A folder of one file per level."""
    folder.mkdir(parents=True, exist_ok=True)
    for resolution, images in levels.items():
        path = level_path(folder, resolution, name)
        path.write_bytes(b"".join(record(picture_payload(chw)) for chw in images))
    return folder
