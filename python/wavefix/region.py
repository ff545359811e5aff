# SPDX-License-Identifier: Apache-2.0
"""The search space: the affine hull of the training positions, a line, a plane or a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefix._core import DataError

_FLAT = 1e-6  # an extent below this fraction of the largest one (or below a micrometer) is rounding, not a dimension
_ROUNDING = 3e-5  # of vectors: positions of antennas are often kept as float32


@dataclass(frozen=True, eq=False)
class Region:
    """Positions ``origin + basis.T @ y`` with ``lower <= y <= upper``.

    Attributes:
        origin: ``[3]`` meters, a point of the hull (the middle of the training positions).
        basis: ``[d, 3]`` orthonormal rows, ``d`` = 1, 2 or 3.
        lower: ``[d]`` meters, the least coordinate ``y`` of the training positions.
        upper: ``[d]`` meters, the greatest.
    """

    origin: NDArray[np.float64]
    basis: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        return len(self.basis)

    @property
    def middle(self) -> NDArray[np.float64]:
        """``[d]``: the center of the bounds."""
        return (self.lower + self.upper) / 2

    @property
    def half_extent(self) -> NDArray[np.float64]:
        """``[d]``: half of the bounds' extent, at least 1e-9 m."""
        half: NDArray[np.float64] = np.maximum((self.upper - self.lower) / 2, 1e-9)
        return half

    def coordinates(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """``y [n, d]`` of ``positions [n, 3]`` (what lies off the hull is dropped)."""
        y: NDArray[np.float64] = (np.asarray(positions, dtype=np.float64) - self.origin) @ self.basis.T
        return y

    def positions(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[n, 3]`` from ``y [n, d]``."""
        x: NDArray[np.float64] = self.origin + np.asarray(coordinates, dtype=np.float64) @ self.basis
        return x

    @classmethod
    def spanned_by(cls, positions: NDArray[np.float64]) -> Region:
        """The affine hull of ``positions [n, 3]`` and its bounds there.

        The basis follows the scene's axes where it can: a horizontal plane gets x and y, a line its own direction.

        Raises:
            DataError: fewer than two distinct positions.
        """
        positions = np.asarray(positions, dtype=np.float64)
        origin = (positions.min(axis=0) + positions.max(axis=0)) / 2
        centered = positions - positions.mean(axis=0)
        _, singular, rows = np.linalg.svd(centered, full_matrices=False)
        spread = singular / np.sqrt(max(len(positions), 1))
        dimension = int(np.count_nonzero(spread > max(_FLAT * spread.max(initial=0.0), 1e-6)))
        if dimension == 0:
            raise DataError(f"positions: expected at least two distinct locations, got {len(positions)} at one place")
        origin = positions.mean(axis=0) + (origin - positions.mean(axis=0)) @ rows[:dimension].T @ rows[:dimension]
        basis = _along_axes(rows[:dimension])
        y = (positions - origin) @ basis.T
        return cls(origin, basis, y.min(axis=0), y.max(axis=0))


def row_space(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal rows ``[r, 3]`` that span ``vectors [n, 3]`` (rounding apart), along the axes where possible."""
    _, singular, rows = np.linalg.svd(vectors, full_matrices=False)
    rank = int(np.count_nonzero(singular > max(_ROUNDING * singular.max(initial=0.0), 1e-9)))
    return _along_axes(rows[:rank])


def _along_axes(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Another orthonormal basis of the rows' span: the scene's axes projected on it, the best aligned first."""
    basis: list[NDArray[np.float64]] = []
    projector = rows.T @ rows
    for _ in range(len(rows)):
        remaining = projector - sum((np.outer(b, b) for b in basis), np.zeros((3, 3)))
        axis = int(np.argmax(np.round(np.diag(remaining), 9)))
        vector = remaining[axis] / np.linalg.norm(remaining[axis])
        basis.append(vector)
    order = np.argsort([int(np.argmax(np.abs(b))) for b in basis], kind="stable")
    return np.array([basis[i] for i in order]).reshape(len(rows), 3)
