# SPDX-License-Identifier: Apache-2.0
"""Dictionary search written out: every distance in float64, then a stable sort."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def distances(queries: NDArray, entries: NDArray, similarity: str) -> NDArray[np.float64]:
    """Distances [n, size], docs/equations.md (4) and (5)."""
    q = queries.reshape(len(queries), entries[0].size).astype(np.complex128)
    f = entries.reshape(len(entries), -1).astype(np.complex128)
    if similarity == "phase_sensitive":
        return np.array([[np.sqrt(np.sum(np.abs(a - b) ** 2)) for b in f] for a in q]).reshape(len(q), len(f))
    norms = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(f, axis=1)[None, :]
    correlation = np.abs(q @ f.conj().T) / np.where(norms > 0, norms, 1.0)
    return np.sqrt(np.maximum(0.0, 2.0 - 2.0 * correlation))


def search(
    queries: NDArray, entries: NDArray, similarity: str, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    table = distances(queries, entries, similarity)
    indices = np.argsort(table, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(table, indices, axis=1)
