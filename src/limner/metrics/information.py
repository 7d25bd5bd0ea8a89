"""How much discrete variables tell of binary ones: mutual information in nats, with its exact value by chance.

    I(C; A)  = Σ p(c, a) ln p(c, a) / (p(c) p(a))                                   (1)
    E        = the mean of (1) over all orders of the rows of A                     (2)
    share    = (I − E) / (H − E)                                                    (3)

The plug-in estimate (1) is never below 0, and for independent variables about (ways − 1)/2n above it. In a random order
the cell (c, 1) of the table is hypergeometric, so that (2) needs no shuffling: it is a sum over the cell's values, and
exact for rare attributes too, where first-order corrections are not. This is the adjustment of Vinh, Epps and Bailey
2010 (JMLR 11, "Information theoretic measures for clusterings comparison"), normalised by the attribute's entropy
alone, since the question is how much of the attribute the code tells: (3) is 1 where it tells all, 0 on average where
it tells nothing, and may come out below 0. H is the entropy of A in the sample, or a larger one that is given: that of
the attribute as it should vary, of which whoever shows it three times in a thousand tells little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_LEAST_ENTROPY = 1e-12
"""nats above chance below which there is nothing to tell"""


@dataclass(frozen=True)
class Tables:
    """Of c codes and a attributes of n samples, how often each way of a code and each attribute came together."""

    together: Float[Tensor, "k a"]
    """samples of this way that have this attribute; the ways of all codes below each other"""
    ways: Float[Tensor, "k"]
    """samples of this way"""
    having: Float[Tensor, "a"]
    """samples that have this attribute"""
    code: Int64[Tensor, "k"]
    """whose way it is"""
    count: int
    """n"""


def tabulate(codes: Int64[Tensor, "n c"], ways: Sequence[int], attributes: Bool[Tensor, "n a"]) -> Tables:
    """Count; values of code i are 0 … ways[i] − 1."""
    columns = [torch.nn.functional.one_hot(codes[:, i], ways[i]) for i in range(len(ways))]
    members = torch.cat(columns, dim=1).double()
    having = attributes.double()
    code = torch.repeat_interleave(torch.arange(len(ways)), torch.tensor(ways))
    return Tables(members.T @ having, members.sum(0), having.sum(0), code, len(codes))


def information(tables: Tables) -> Float[Tensor, "c a"]:
    """(1) for every code and attribute, as counted."""
    joint = _x_ln_x(tables.together) + _x_ln_x(tables.ways[:, None] - tables.together)
    return _from_cells(tables, joint)


def expected_information(tables: Tables) -> Float[Tensor, "c a"]:
    """(2): what independent variables of the same frequencies have on average in a sample of this size."""
    counts = torch.arange(tables.count + 1, dtype=torch.float64)
    ln_factorials, x_ln_x = torch.lgamma(counts + 1), _x_ln_x(counts)
    joint = [
        [_mean_of_cells(int(way), int(having), tables.count, ln_factorials, x_ln_x) for having in tables.having]
        for way in tables.ways
    ]
    return _from_cells(tables, torch.tensor(joint, dtype=torch.float64))


def entropy(tables: Tables) -> Float[Tensor, "a"]:
    """H(A) of every attribute, nats."""
    shares = torch.stack([tables.having, tables.count - tables.having]) / tables.count
    return -_x_ln_x(shares).sum(0)


def shares(
    tables: Tables, chance: Float[Tensor, "c a"], least_entropy: Float[Tensor, "a"] | float = 0.0
) -> Float[Tensor, "c a"]:
    """(3) for every code and attribute, `chance` being (2), H at least `least_entropy`; 0 where nothing varies."""
    room = entropy(tables).clamp_min(torch.as_tensor(least_entropy, dtype=torch.float64)) - chance
    above = information(tables) - chance
    return torch.where(room > _LEAST_ENTROPY, above / room.clamp_min(_LEAST_ENTROPY), 0.0)


def _from_cells(tables: Tables, joint: Float[Tensor, "k a"]) -> Float[Tensor, "c a"]:
    """(1) from Σ over the two cells of each way of m ln m, m being a cell's count."""
    n = tables.count
    each = joint - _x_ln_x(tables.ways)[:, None]
    summed = torch.zeros(int(tables.code.max()) + 1, joint.shape[1], dtype=joint.dtype).index_add(0, tables.code, each)
    margins = _x_ln_x(tables.having) + _x_ln_x(n - tables.having)
    return (summed - margins) / n + _x_ln_x(torch.tensor(n, dtype=torch.float64)) / n


def _mean_of_cells(way: int, having: int, count: int, ln_factorials: Tensor, x_ln_x: Tensor) -> float:
    """E[m ln m + (way − m) ln(way − m)], m hypergeometric: of `way` drawn from `count`, those that `have` it."""
    least, most = max(0, way + having - count), min(way, having)
    ln_ways = _ln_choose(having, least, most, ln_factorials)
    ln_ways = ln_ways + _ln_choose(count - having, way - most, way - least, ln_factorials).flip(0)
    chance = (ln_ways - _ln_choose(count, way, way, ln_factorials)).exp()
    cells = x_ln_x[least : most + 1] + x_ln_x[way - most : way - least + 1].flip(0)
    return float(chance @ cells)


def _ln_choose(of: int, first: int, last: int, ln_factorials: Tensor) -> Tensor:
    """ln of the binomial coefficients of `of` over first … last."""
    rest = ln_factorials[of - last : of - first + 1].flip(0)
    return ln_factorials[of] - ln_factorials[first : last + 1] - rest


def _x_ln_x(x: Tensor) -> Tensor:
    return torch.xlogy(x, x)
