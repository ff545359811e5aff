# SPDX-License-Identifier: Apache-2.0
"""Search: wavefix and NumPy's matrix product on the same entries, the same answer asserted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wavefix import ChannelDataset, Dictionary

SIZE, ANTENNAS, SUBCARRIERS, QUERIES = 5000, 16, 32, 32


@pytest.fixture(scope="module")
def data() -> tuple[ChannelDataset, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    parts = generator.standard_normal((2, SIZE, ANTENNAS, SUBCARRIERS), dtype=np.float32)
    entries = np.ascontiguousarray(parts[0] + 1j * parts[1])
    truth = generator.integers(0, SIZE, QUERIES)
    queries = entries[truth] + np.float32(0.5) * entries[(truth + 1) % SIZE]
    positions = generator.standard_normal((SIZE, 3))
    return ChannelDataset(entries, np.zeros((ANTENNAS, 3)), 3.5e9 + np.arange(SUBCARRIERS), positions), queries, truth


@pytest.mark.benchmark(group="search")
def test_wavefix(benchmark: Any, data: tuple[ChannelDataset, np.ndarray, np.ndarray]) -> None:
    dataset, queries, truth = data
    dictionary = Dictionary.from_measurements(dataset)
    indices, _ = benchmark(dictionary.search, queries)
    np.testing.assert_array_equal(indices[:, 0], truth)


@pytest.mark.benchmark(group="search")
def test_numpy(benchmark: Any, data: tuple[ChannelDataset, np.ndarray, np.ndarray]) -> None:
    dataset, queries, truth = data
    entries = dataset.channels.reshape(SIZE, -1)
    energies = np.sum(np.abs(entries) ** 2, axis=1)

    def search() -> np.ndarray:
        inner = queries.reshape(QUERIES, -1) @ entries.conj().T
        return np.argmin(energies - 2 * inner.real, axis=1)

    np.testing.assert_array_equal(benchmark(search), truth)
