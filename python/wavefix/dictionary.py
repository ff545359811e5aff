# SPDX-License-Identifier: Apache-2.0
"""Dictionary search: the entries most similar to a query."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix.arrays import as_array
from wavefix.channel_model import ChannelModel
from wavefix.dataset import ChannelDataset

Similarity = Literal["phase_sensitive", "phase_insensitive"]


class Dictionary:
    """Channels with known positions: measured fingerprints, or a model's channels on a grid.

    A model's channels are generated tile by tile at each search, so the memory is bounded by ``memory_limit``
    however fine the grid is. Safe to share between threads.
    """

    def __init__(self, entries: _core.Dictionary, source: tuple[Any, ...] | None = None) -> None:
        self._entries = entries
        self._source = source

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is None:
            raise TypeError("a Dictionary of measurements has no pickle; pickle the ChannelDataset that it holds")
        return Dictionary.from_model, self._source

    def __copy__(self) -> Dictionary:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Dictionary:
        return self

    @classmethod
    def from_measurements(cls, data: ChannelDataset, *, subspace: bool = True) -> Dictionary:
        """The fingerprints of ``data`` (copied).

        ``subspace`` looks for the few directions that hold nearly all of their energy. Searches then cost a small part
        of an exhaustive one, with the same answer; looking costs as much as an exhaustive search of some hundred
        queries, so leave it out for fewer.

        Raises:
            DataError: ``data`` has no positions.
        """
        return cls(_core.Dictionary.from_measurements(data.known_positions(), data.channels, subspace))

    @classmethod
    def from_model(cls, model: ChannelModel, spacing: float, memory_limit: int = 64 << 20) -> Dictionary:
        """The channels of ``model`` on a grid of ``spacing`` meters over its region.

        ``memory_limit`` bounds the bytes that a search holds of queries and correlations.

        Raises:
            ShapeError: ``spacing`` is not positive, or gives more than 2^40 points.
        """
        return cls(_core.Dictionary.from_model(model._core, spacing, memory_limit), (model, spacing, memory_limit))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def rank(self) -> int:
        """Complex coordinates by which entries are compared first; 0 if these are the channels' own numbers."""
        return self._entries.rank

    @property
    def nbytes(self) -> int:
        """Bytes held between searches."""
        return self._entries.nbytes

    def search(
        self,
        queries: NDArray[np.complex64],
        similarity: Similarity = "phase_sensitive",
        k: int = 1,
        threads: int = 0,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The ``k`` entries nearest to each query, nearest first, equal ones by lower index.

        Args:
            queries: ``[n, n_antennas, n_subcarriers]`` complex64, C-contiguous.
            similarity: ``phase_sensitive`` is ``mu_PS = ||H - f||_F`` (4); ``phase_insensitive`` is ``d_PI`` (5), which
                ignores a complex factor common to the channel (docs/equations.md).
            k: number of entries.
            threads: 0 for all cores.

        Returns:
            Indices ``[n, k]`` and distances ``[n, k]``: those of an exhaustive search in float64. A query that is not
            finite gets index -1 and distance NaN.

        Raises:
            ShapeError, TypeError: ``queries`` does not fit the entries, or ``k`` exceeds their number.
            ValueError: unknown ``similarity``.
        """
        return self._entries.search(as_array("queries", queries), similarity, k, threads)

    def positions(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Positions ``[n, 3]`` in meters of the entries ``indices`` ``[n]``."""
        return self._entries.positions(as_array("indices", indices))
