"""CRC32C (Castagnoli, RFC 3720 B.4) of many rows of bytes at once, in NumPy alone.

A CRC is the remainder of a message, read as a polynomial over GF(2), so equal remainders may stand in for each other.

- For this polynomial x^(8·290) has the remainder of x^(8·136) + x^(8·113) + x^(8·107) + x^(8·32) + 1. So the front of
  a message may be XORed into five places behind it and dropped. Squaring doubles every exponent and keeps the identity,
  so half of a long message goes in one sweep. The identity was found by a search; tests hold it against known CRCs.
- What is left, at most 290 bytes, is halved until one word remains: the left neighbour, moved on by the distance
  between the two (a linear map, two tables of 65,536), is XORed into the right one.

It checks 855 MB/s of rows of 12 kB and 1,565 of long ones (`python benchmarks/tfrecords.py`); compiled packages are
seven times as fast, but this is a fifth of what reading a record takes, so none is asked for.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_TOP, _REST = 290, (136, 113, 107, 32, 0)
"""bytes: x^(8·290) has the remainder of the sum of x^(8·e) over the rest"""
_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8


def crc32c(rows: np.ndarray) -> np.ndarray:
    """(k, n) uint8 → (k,) uint32: the CRC32C of each row."""
    count, length = rows.shape
    padding = -length % 4  # zeros in front change nothing: the register starts at 0 here, its first ones go to the data
    message = np.zeros((count, padding + length), dtype=np.uint8)
    message[:, padding:] = rows
    message[:, padding : padding + 4] ^= 0xFF
    left = _ONES >> min(8 * length, 32)  # what of the register's first ones the message is too short to meet
    return _remainder(_folded(message)) ^ np.uint32(left ^ _ONES)


def masked(crc: np.ndarray) -> np.ndarray:
    """The form in which TFRecord files store a CRC, so that a CRC over data with CRCs in it still tells."""
    return ((crc >> 15) | (crc << 17)) + np.uint32(_MASK_DELTA)


def _folded(message: np.ndarray) -> np.ndarray:
    """A shorter message of the same remainder, (k, at most some 290 bytes, a multiple of 4); overwrites its input."""
    start, length = 0, message.shape[1]
    for scale in (2**j for j in reversed(range(length.bit_length()))):
        while length - start > _TOP * scale:
            size = min((_TOP - _REST[0]) * scale, length - start - _TOP * scale)
            for exponent in _REST:
                place = start + (_TOP - exponent) * scale
                message[:, place : place + size] ^= message[:, start : start + size]
            start += size
    whole = start - start % 4
    message[:, whole:start] = 0  # folded already
    return np.ascontiguousarray(message[:, whole:])


def _remainder(message: np.ndarray) -> np.ndarray:
    """(k, 4·m) uint8 → (k,) uint32."""
    words = message.view("<u4").astype(np.uint32)
    if not words.shape[1]:
        return np.zeros(len(words), dtype=np.uint32)
    step = 0
    while words.shape[1] > 1:
        odd = words.shape[1] % 2  # then the first word has no left neighbour, and stays
        halved = _moved(words[:, odd::2], step) ^ words[:, odd + 1 :: 2]
        words, step = np.concatenate([words[:, :odd], halved], axis=1), step + 1
    return _moved(words[:, 0], 0)


def _moved(words: np.ndarray, step: int) -> np.ndarray:
    """The register after 2^step more words of zeros."""
    low, high = _tables(step)
    return low.take(words & 0xFFFF) ^ high.take(words >> 16)


@lru_cache
def _tables(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each lower and each upper half of a register goes in 2^step words."""
    bits = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    if step:
        bits = _moved(_moved(bits, step - 1), step - 1)
    else:
        for _ in range(32):
            bits = (bits >> 1) ^ np.where(bits & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return _sums(bits[:16]), _sums(bits[16:])


def _sums(bits: np.ndarray) -> np.ndarray:
    """(16,) → (65536,): the XOR of every choice of them."""
    table = np.zeros(1, dtype=np.uint32)
    for bit in bits:
        table = np.concatenate([table, table ^ bit])
    return table
