# SPDX-License-Identifier: Apache-2.0
"""search: wavefix, NumPy, torch and FAISS flat on the same entries and queries, the same answer asserted.

Entries are channels of twelve virtual sources over a square of 10 m, or noise, where no structure helps. The peers
compute all inner products: NumPy and torch by one complex product, FAISS by its exhaustive index of real vectors. What
they need of the entries alone (energies, the index) is computed beforehand, as is the subspace of wavefix.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wavefix import ChannelDataset, Dictionary
from wavefix.bench import random_sources

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its generated bindings warn on import
        import faiss
except ImportError:
    faiss = None

FULL = os.environ.get("WAVEFIX_BENCH") == "full"
# antennas, subcarriers, entries
SIZES = [(8, 8, 1000), (16, 32, 1000)]
BATCHES = [1, 16]
if FULL:
    SIZES = [(8, 8, 1000), (8, 8, 10_000), (8, 8, 1_000_000), (32, 64, 1000), (32, 64, 10_000), (32, 64, 100_000)]
    SIZES += [(64, 64, 10_000), (128, 256, 2000)]
    BATCHES = [1, 16, 256, 4096]
THREADS = [1, 2] if FULL else [2]


class Case:
    """Entries and noisy queries (10 dB) of one size."""

    def __init__(self, kind: str, antennas: int, subcarriers: int, entries: int, count: int = max(BATCHES)) -> None:
        self.kind, self.shape = kind, (antennas, subcarriers)
        generator = np.random.default_rng(0)
        if kind == "scene":
            model = random_sources(generator, antennas, subcarriers, extent=10.0)
            self.entries = model.synthesize(self.positions(generator, entries))
            queries = model.synthesize(self.positions(generator, count))
        else:
            self.entries = self.noise(generator, entries)
            queries = self.entries[generator.integers(0, entries, count)]
        level = np.sqrt(0.1 * np.mean(np.abs(queries) ** 2, axis=(1, 2), keepdims=True))
        self.queries = (queries + level * self.noise(generator, len(queries))).astype(np.complex64)
        flat = self.entries.reshape(entries, -1)
        self.energies = np.sum(np.abs(flat) ** 2, axis=1)
        data = ChannelDataset(
            self.entries, np.zeros((antennas, 3)), 3.5e9 + np.arange(subcarriers), np.zeros((entries, 3))
        )
        self.dictionary = Dictionary.from_measurements(data)

    def positions(self, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
        return np.concatenate([generator.uniform(-5, 5, (n, 2)), np.full((n, 1), 1.5)], axis=1)

    def noise(self, generator: np.random.Generator, n: int) -> NDArray[np.complex64]:
        parts = generator.standard_normal((2, n, *self.shape), dtype=np.float32) / np.float32(np.sqrt(2))
        return parts[0] + np.complex64(1j) * parts[1]


@pytest.fixture(scope="module", params=["scene", "noise"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: "{}x{}, {} entries".format(*size))
def case(request: pytest.FixtureRequest, kind: str) -> Case:
    return Case(kind, *request.param)


def run(benchmark: Any, case: Case, batch: int, threads: int, similarity: str, search: Any) -> NDArray[Any]:
    antennas, subcarriers = case.shape
    benchmark.group = (
        f"search, {case.kind}, {antennas}x{subcarriers}, {len(case.entries)} entries, "
        f"batch {batch}, {threads} threads, {similarity}"
    )
    benchmark.extra_info["rank"] = case.dictionary.rank
    return np.asarray(benchmark.pedantic(search, rounds=5 if FULL else 1, warmup_rounds=1 if FULL else 0))


def check(case: Case, queries: NDArray[Any], similarity: str, found: NDArray[Any]) -> None:
    """The cost of what was found is the least one, to the rounding of the peers' float32."""
    some = slice(0, min(len(queries), 16))
    wanted, distances = Dictionary.search(case.dictionary, queries[some], similarity)
    differing = np.flatnonzero(found[some] != wanted[:, 0])
    for query in differing:
        q, e = queries[query].astype(np.complex128), case.entries[found[query]].astype(np.complex128)
        correlation = abs(np.vdot(e, q)) / (np.linalg.norm(e) * np.linalg.norm(q))
        distance = np.linalg.norm(q - e) if similarity == "phase_sensitive" else np.sqrt(2 - 2 * correlation)
        assert distance <= distances[query, 0] * (1 + 1e-5)


@pytest.fixture(params=THREADS, ids=lambda n: f"{n} threads")
def threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    if faiss is not None:
        faiss.omp_set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("similarity", ["phase_sensitive", "phase_insensitive"])
class TestSearch:
    def test_wavefix(self, benchmark: Any, case: Case, batch: int, threads: int, similarity: str) -> None:
        queries = case.queries[:batch]

        def search() -> NDArray[Any]:
            return case.dictionary.search(queries, similarity, threads=threads)[0][:, 0]

        found = run(benchmark, case, batch, threads, similarity, search)
        flat = case.entries.reshape(len(case.entries), -1).astype(np.complex128)
        inner = queries[0].reshape(-1).conj().astype(np.complex128) @ flat.T
        costs = (
            case.energies - 2 * inner.real
            if similarity == "phase_sensitive"
            else -np.abs(inner) / np.sqrt(np.sum(np.abs(flat) ** 2, axis=1))
        )
        assert costs[found[0]] <= costs.min() + 1e-6 * np.abs(costs).max()

    def test_numpy(self, benchmark: Any, case: Case, batch: int, threads: int, similarity: str) -> None:
        """OPENBLAS_NUM_THREADS sets its threads, before Python starts; all by default."""
        queries, flat = case.queries[:batch], case.entries.reshape(len(case.entries), -1)
        norms = np.sqrt(case.energies)

        def search() -> NDArray[Any]:
            inner = queries.reshape(batch, -1).conj() @ flat.T
            if similarity == "phase_sensitive":
                return np.argmin(case.energies - 2 * inner.real, axis=1)
            return np.argmax(np.abs(inner) / norms, axis=1)

        check(case, queries, similarity, run(benchmark, case, batch, threads, similarity, search))

    def test_torch(self, benchmark: Any, case: Case, batch: int, threads: int, similarity: str) -> None:
        queries = torch.from_numpy(case.queries[:batch]).reshape(batch, -1)
        flat = torch.from_numpy(case.entries).reshape(len(case.entries), -1)
        energies = torch.from_numpy(case.energies)

        def search() -> torch.Tensor:
            inner = queries.conj() @ flat.T
            if similarity == "phase_sensitive":
                return torch.argmin(energies - 2 * inner.real, dim=1)
            return torch.argmax(inner.abs() / energies.sqrt(), dim=1)

        check(case, case.queries[:batch], similarity, run(benchmark, case, batch, threads, similarity, search))

    @pytest.mark.skipif(faiss is None, reason="faiss is not installed: the extra `bench` has it")
    def test_faiss(self, benchmark: Any, case: Case, batch: int, threads: int, similarity: str) -> None:
        if similarity != "phase_sensitive":
            pytest.skip("FAISS compares real vectors")
        vectors = case.entries.reshape(len(case.entries), -1).view(np.float32)
        index = faiss.IndexFlatL2(vectors.shape[1])
        index.add(vectors)
        queries = case.queries[:batch].reshape(batch, -1).view(np.float32)
        found = run(benchmark, case, batch, threads, similarity, lambda: index.search(queries, 1)[1][:, 0])
        check(case, case.queries[:batch], similarity, found)
