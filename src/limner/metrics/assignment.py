"""The best one-to-one matching: rows and columns paired so that the sum of their gains is as large as it can be.

The shortest augmenting path form of the Hungarian method (Kuhn 1955; Munkres 1957): one row at a time is given a
column, along the path that costs least under prices which keep every earlier pair optimal. O(m² n), exact.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError


def best_matching(gains: Float[Tensor, "m n"]) -> list[tuple[int, int]]:
    """min(m, n) pairs (row, column), no row and no column twice, in the order of rows; their gains sum to the most.

    Raises:
        LimnerError: a gain that is not finite.
    """
    if not torch.isfinite(gains).all():
        raise LimnerError("gains: hold values that are not finite, of which no sum is the largest")
    if gains.shape[0] > gains.shape[1]:
        return sorted((row, column) for column, row in best_matching(gains.T))
    costs: list[list[float]] = (-gains.double()).tolist()
    taken_by: dict[int, int] = {}
    row_prices, column_prices = [0.0] * gains.shape[0], [0.0] * gains.shape[1]
    for row in range(len(costs)):
        _give_a_column(row, costs, taken_by, row_prices, column_prices)
    return sorted((row, column) for column, row in taken_by.items())


def _give_a_column(
    row: int,
    costs: list[list[float]],
    taken_by: dict[int, int],
    row_prices: list[float],
    column_prices: list[float],
) -> None:
    """Pair one more row, re-pairing others along the cheapest path to a free column; keeps the prices feasible."""
    open_columns = set(range(len(column_prices)))
    distance = dict.fromkeys(open_columns, float("inf"))
    came_from: dict[int, int | None] = {}
    reached: list[tuple[int, float]] = []
    here, last, walked = row, None, 0.0
    while True:
        for column in open_columns:
            far = walked + costs[here][column] - row_prices[here] - column_prices[column]
            if far < distance[column]:
                distance[column], came_from[column] = far, last
        last = min(open_columns, key=lambda column: (distance[column], column))
        walked = distance[last]
        open_columns.remove(last)
        if last not in taken_by:
            break
        reached.append((last, walked))
        here = taken_by[last]
    row_prices[row] += walked
    for column, at in reached:
        row_prices[taken_by[column]] += walked - at
        column_prices[column] -= walked - at
    while last is not None:  # back along the path: each column goes to the row that the column before it had
        before = came_from[last]
        taken_by[last] = row if before is None else taken_by[before]
        last = before
