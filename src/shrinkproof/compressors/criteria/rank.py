"""Numerical ranks of very many small matrices, on all threads.

torch takes the singular values of a batch of matrices one after the other on one thread. Here the
batch is split over threads, and most matrices need no singular values: by Sylvester's law of
inertia the number of singular values above a threshold t is the number of positive pivots of
``A A^T - t^2 I``, factored in float64, where the products of float32 numbers are exact.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

# Shape suffixes: M matrices, H height, W width, K the smaller of the two.

EPSILON: Final = float(torch.finfo(torch.float32).eps)
# Numbers in one part of a batch: larger ones cost new memory pages, smaller ones calls.
_CHUNK: Final = 1 << 17
# Singular values in float32 are off by less than 3 epsilon of the largest where they are small
# (LAPACK's gesdd, measured on graded, singular and sparse matrices of 1 to 32 rows). A singular
# value outside this band around the threshold falls on the same side in both computations.
_BAND: Final = ((0.75, -2.0), (1.25, 4.0))
# Below 4 rows the band would reach down to the rounding errors of exact zeros.
_SMALLEST: Final = 4
# Squares and their sums of squares stay far from the ends of float64.
_RANGE: Final = (1e-30, 1e30)

# Up to so many rows counting pivots is faster than counting eigenvalues.
_PIVOTED: Final = 16

Count = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Computes ranks on several threads.

    Attributes:
        pool: the threads.
    """

    pool: ThreadPoolExecutor

    def __call__(self, count: Count, matrices_MHW: Tensor) -> Tensor:
        """Return the rank of each matrix, (M,) int64.

        The parts do not depend on the number of threads, so neither do the ranks.

        Args:
            count: `exact_ranks`, `fast_ranks` or `plain_ranks`.
            matrices_MHW: (M, H, W) float32 on the CPU, finite.
        """
        per_matrix = max(1, matrices_MHW[0].numel()) if len(matrices_MHW) else 1
        parts = matrices_MHW.split(max(1, _CHUNK // per_matrix))
        found = list(self.pool.map(count, parts))
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)


@contextmanager
def rank_threads() -> Iterator[Ranks]:
    """Give as many threads as torch uses, each of which runs torch on itself alone."""
    count = torch.get_num_threads()
    started = threading.Barrier(count)

    def settle() -> None:
        # The number is each thread's own; without it every thread would start threads.
        torch.set_num_threads(1)
        started.wait()

    with ThreadPoolExecutor(count, "ranks") as pool:
        for future in [pool.submit(settle) for _ in range(count)]:
            future.result()
        # Threads that others start later take over the number that was set last.
        torch.set_num_threads(count)
        yield Ranks(pool)


def plain_ranks(matrices_MHW: Tensor) -> Tensor:
    """Return torch's own answer, (M,) int64."""
    ranks: Tensor = torch.linalg.matrix_rank(matrices_MHW)
    return ranks


def exact_ranks(matrices_MHW: Tensor) -> Tensor:
    """Return the rank of each matrix, (M,) int64, equal to ``torch.linalg.matrix_rank``.

    A singular value counts if it is larger than ``epsilon * max(H, W)`` times the largest one,
    epsilon that of float32. Matrices with a singular value close to that threshold are given to
    torch, so that rounding decides as it does there.

    Args:
        matrices_MHW: (M, H, W) float32 on the CPU, finite.
    """
    longest = max(matrices_MHW.shape[1:])
    if min(matrices_MHW.shape[1:]) <= 1:
        return matrices_MHW.flatten(1).any(1).long()
    low, high = (EPSILON * (slope * longest + offset) for slope, offset in _BAND)
    ranks_M, gram, rest = _regular(matrices_MHW, high)
    if not len(rest):
        return ranks_M
    matrices = matrices_MHW[rest]
    norm, trace = gram.flatten(1).norm(dim=1), _trace(gram)
    # The largest eigenvalue lies between norm^2 / trace and norm.
    found = _above(gram, high**2 * norm)
    if longest < _SMALLEST:
        is_sure = found == _structural(matrices)
    else:
        is_sure = found == _above(gram, low**2 * norm**2 / trace)
    is_sure &= (trace > _RANGE[0]) & (trace < _RANGE[1])
    open_ = (~is_sure).nonzero().squeeze(1)
    if len(open_):
        found[open_] = plain_ranks(matrices[open_])
    ranks_M[rest] = found
    return ranks_M


def fast_ranks(matrices_MHW: Tensor) -> Tensor:
    """Return about the rank of each matrix, (M,) int64.

    Up to 16 rows, pivots of a factorization with exchanged rows (LU) are counted instead of
    singular values; above, eigenvalues as in `exact_ranks`, once. The largest singular value in the
    threshold is replaced by an upper bound, the Frobenius norm or the fourth root of the sum of
    all fourth powers. A pivot is no singular value, so matrices near the threshold may be off.

    Args:
        matrices_MHW: (M, H, W) float32 on the CPU, finite.
    """
    if min(matrices_MHW.shape[1:]) <= 1:
        return matrices_MHW.flatten(1).any(1).long()
    limit = EPSILON * max(matrices_MHW.shape[1:])
    if min(matrices_MHW.shape[1:]) <= _PIVOTED:
        return _pivots(matrices_MHW, limit)
    gram_MKK = _gram(matrices_MHW)
    return _above(gram_MKK, limit**2 * gram_MKK.flatten(1).norm(dim=1))


def _pivots(matrices_MHW: Tensor, limit: float) -> Tensor:
    """Return the number of pivots above a part of the Frobenius norm, (M,) int64.

    Columns are mixed by a fixed rotation first: rows are exchanged while factoring, but columns
    are not, and a column of zeros would hide what lies behind it.
    """
    wide = _wide(matrices_MHW)
    mixed = (wide.reshape(-1, wide.shape[2]) @ _rotation(wide.shape[2])).view(wide.shape)
    factors, _, _ = torch.linalg.lu_factor_ex(mixed)
    pivots_MK = factors.diagonal(dim1=1, dim2=2).abs()
    count: Tensor = (pivots_MK > limit * wide.flatten(1).norm(dim=1)[:, None]).sum(1)
    return count


@functools.lru_cache
def _rotation(size: int) -> Tensor:
    """Return a fixed random orthogonal matrix, (size, size) float64."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    rotation: Tensor = torch.linalg.qr(normal)[0]
    return rotation


def _regular(matrices_MHW: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """Find the matrices whose rows are zero or clearly independent.

    Returns:
        The rank of each matrix where it is found; Gram matrices and positions of the others.
    """
    gram_MKK = _gram(matrices_MHW)
    diagonal_MK = gram_MKK.diagonal(dim1=1, dim2=2)
    kept_MK = diagonal_MK.clone()
    is_row_MK = kept_MK > 0
    trace_M = kept_MK.sum(1)
    ranks_M = is_row_MK.sum(1)
    # The trace bounds the largest eigenvalue. A zero row becomes one with a pivot of its own.
    shifted_MK = torch.where(is_row_MK, kept_MK - (limit**2 * trace_M)[:, None], 1.0)
    diagonal_MK.copy_(shifted_MK)
    is_found_M = _is_positive(gram_MKK) & (trace_M > _RANGE[0]) & (trace_M < _RANGE[1])
    rest = (~(is_found_M | (trace_M == 0))).nonzero().squeeze(1)
    gram = gram_MKK[rest]
    gram.diagonal(dim1=1, dim2=2).copy_(kept_MK[rest])
    return ranks_M, gram, rest


def _gram(matrices_MHW: Tensor) -> Tensor:
    """Return ``A A^T`` along the shorter side, (M, K, K) float64."""
    wide = _wide(matrices_MHW)
    return torch.bmm(wide, wide.transpose(1, 2))


def _wide(matrices_MHW: Tensor) -> Tensor:
    """Return the matrices with the shorter side first, float64."""
    wide = matrices_MHW.double()
    return wide.transpose(1, 2) if wide.shape[1] > wide.shape[2] else wide


def _trace(gram_MKK: Tensor) -> Tensor:
    return gram_MKK.diagonal(dim1=1, dim2=2).sum(1)


def _structural(matrices_MHW: Tensor) -> Tensor:
    """Return an upper bound of each rank: the number of rows or of columns that are not zero."""
    is_nonzero = matrices_MHW != 0
    return torch.minimum(is_nonzero.any(2).sum(1), is_nonzero.any(1).sum(1))


def _is_positive(matrices_MKK: Tensor) -> Tensor:
    """Return which symmetric matrices are positive definite, (M,) bool."""
    _, failed_M = torch.linalg.cholesky_ex(matrices_MKK)
    positive: Tensor = failed_M == 0
    return positive


def _above(gram_MKK: Tensor, limit_M: Tensor) -> Tensor:
    """Return the number of eigenvalues above a limit, (M,) int64."""
    diagonal_MK = gram_MKK.diagonal(dim1=1, dim2=2)
    kept_MK = diagonal_MK.clone()
    diagonal_MK.sub_(limit_M[:, None])
    factors, pivots, _ = torch.linalg.ldl_factor_ex(gram_MKK)
    diagonal_MK.copy_(kept_MK)
    # Pivots below 0 come in pairs: blocks of 2 x 2 with one eigenvalue of each sign.
    is_single = pivots > 0
    is_positive = factors.diagonal(dim1=1, dim2=2) > 0
    count: Tensor = (is_single & is_positive).sum(1) + (~is_single).sum(1) // 2
    return count
