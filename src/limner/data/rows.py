"""What is known of each row of a dataset: the arrays beside the images, checked before they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from limner.data import layout
from limner.errors import DataError


@dataclass(frozen=True)
class RowArray:
    """One array of the rows. `columns`: its axes after the first, -1 for one a label; `fault`: what is wrong with
    values that have this type and shape, or None.
    """

    dtype: type
    columns: tuple[int, ...]
    fault: Callable[[np.ndarray], str | None]

    def shape(self, count: int, labels: int) -> tuple[int, ...]:
        """The array's shape for `count` rows with `labels` attributes."""
        return (count, *(labels if columns == -1 else columns for columns in self.columns))


def _fault_of_codes(limit: int) -> Callable[[np.ndarray], str | None]:
    def fault(values: np.ndarray) -> str | None:
        return None if np.isin(values, np.arange(limit)).all() else f"has values other than 0 … {limit - 1}"

    return fault


def _fault_of_numbers(values: np.ndarray) -> str | None:
    return None if np.isfinite(values).all() else "has values that are not finite"


def _fault_of_directions(values: np.ndarray) -> str | None:
    lengths = np.sqrt(np.square(values.astype(np.float64)).sum(-1))
    return _fault_of_numbers(values) or (None if (np.abs(lengths - 1) < 1e-3).all() else "has rows not of length 1")


def _fault_of_people(values: np.ndarray) -> str | None:
    if not np.issubdtype(values.dtype, np.integer):
        return f"has {values.dtype} values, expected integers"
    return "has values below 0" if (values < 0).any() else None


ROW_ARRAYS = {
    "splits": RowArray(np.uint8, (), _fault_of_codes(len(layout.SPLITS))),
    "attributes": RowArray(np.uint8, (-1,), _fault_of_codes(2)),
    "pose": RowArray(np.float32, (3,), _fault_of_numbers),
    "identity": RowArray(np.int64, (), _fault_of_people),
    "landmarks": RowArray(np.float32, (len(layout.LANDMARKS), 2), _fault_of_numbers),
    "light": RowArray(np.float32, (3,), _fault_of_directions),
}
"""by name; the array `pose` is the file `pose.npy`"""


def checked_rows(where: str, name: str, values: np.ndarray, count: int, labels: int) -> np.ndarray:
    """`values` of the array `name` as they are stored, for `count` rows with `labels` attributes.

    Raises:
        DataError: they have another shape, or values that this array may not have; `where` begins the message.
    """
    array, given = ROW_ARRAYS[name], np.asarray(values)
    expected = array.shape(count, labels)
    if given.shape != expected:
        raise DataError(f"{where}: got {given.shape}, expected {expected}")
    if fault := array.fault(given):
        raise DataError(f"{where}: {fault}")
    return given.astype(array.dtype)
