# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plane_waves import WAVELENGTH, plane_wave_model, random_positions
from reference import dictionary as reference
from wavefix import ChannelDataset, Dictionary, ShapeError, _core

SIMILARITIES = ("phase_sensitive", "phase_insensitive")


def random_channels(generator: np.random.Generator, n: int, antennas: int, subcarriers: int) -> np.ndarray:
    parts = generator.standard_normal((2, n, antennas, subcarriers)).astype(np.float32)
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def measured(channels: np.ndarray, subspace: bool = True) -> Dictionary:
    antennas, subcarriers = channels.shape[1:]
    positions = np.arange(3.0 * len(channels)).reshape(-1, 3)
    return Dictionary.from_measurements(
        ChannelDataset(channels, np.zeros((antennas, 3)), 3.5e9 + np.arange(subcarriers), positions),
        subspace=subspace,
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_search_is_the_exhaustive_search(similarity: str, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**31))
    size, n = data.draw(st.integers(1, 200)), data.draw(st.integers(0, 9))
    antennas, subcarriers = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    k = data.draw(st.integers(1, min(size, 5)))
    generator = np.random.default_rng(seed)
    entries = random_channels(generator, size, antennas, subcarriers)
    queries = random_channels(generator, n, antennas, subcarriers)
    queries[: n // 2] = entries[generator.integers(0, size, n // 2)]  # some at distance zero
    indices, distances = measured(entries).search(queries, similarity, k)  # type: ignore[arg-type]
    wanted_indices, wanted_distances = reference.search(queries, entries, similarity, k)
    # d_PI takes the root of a difference that vanishes at zero distance: eps becomes its root.
    np.testing.assert_allclose(distances, wanted_distances, rtol=1e-12, atol=1e-7)
    distinct = np.diff(np.sort(reference.distances(queries, entries, similarity), axis=1), axis=1, append=np.inf) > 1e-7
    clear = distinct[:, :k].all(axis=1)
    np.testing.assert_array_equal(indices[clear], wanted_indices[clear])


def test_near_ties_are_resolved_in_float64() -> None:
    generator = np.random.default_rng(5)
    base = random_channels(generator, 1, 16, 32)
    steps = np.linspace(1.0, 1.0 + 3e-6, 40)  # beyond float32 sums over 512 entries
    entries = (base * generator.permutation(steps)[:, None, None]).astype(np.complex64)
    for similarity in SIMILARITIES[:1]:
        indices, _ = measured(entries).search(base, similarity, 5)  # type: ignore[arg-type]
        wanted, _ = reference.search(base, entries, similarity, 5)
        np.testing.assert_array_equal(indices, wanted)


def test_equal_entries_come_by_lower_index() -> None:
    entries = np.repeat(random_channels(np.random.default_rng(1), 1, 2, 3), 50, axis=0)
    indices, _ = measured(entries).search(entries[:2], k=4)
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3]] * 2)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_generated_entries_are_found_for_any_tile_size(similarity: str) -> None:
    model = plane_wave_model(3, extent=3.0)
    queries = model.synthesize(random_positions(model, 7))
    answers = []
    for limit in (1, 200_000, 64 << 20):
        dictionary = Dictionary.from_model(model, WAVELENGTH / 4, memory_limit=limit)
        answers.append(dictionary.search(queries, similarity, 3))  # type: ignore[arg-type]
    grid = dictionary.positions(np.arange(len(dictionary)))
    wanted_indices, wanted_distances = reference.search(queries, model.synthesize(grid), similarity, 3)
    for indices, distances in answers:
        np.testing.assert_array_equal(indices, wanted_indices)
        np.testing.assert_allclose(distances, wanted_distances, rtol=1e-9)


def test_batch_and_threads_do_not_change_a_bit() -> None:
    model = plane_wave_model(4, extent=4.0)
    queries = model.synthesize(random_positions(model, 9))
    dictionary = Dictionary.from_model(model, WAVELENGTH / 4)
    indices, distances = dictionary.search(queries, k=2, threads=1)
    for threads in (0, 2, 3):
        again = dictionary.search(queries, k=2, threads=threads)
        np.testing.assert_array_equal(again[0], indices)
        np.testing.assert_array_equal(again[1], distances)
    single = [dictionary.search(queries[i : i + 1], k=2) for i in range(9)]
    np.testing.assert_array_equal(np.concatenate([d for _, d in single]), distances)


def low_rank_channels(generator: np.random.Generator, n: int, rank: int, rest: float) -> np.ndarray:
    """[n, 8, 16] channels near `rank` directions, with `rest` of their norm elsewhere."""
    basis = np.linalg.qr(random_channels(generator, rank, 8, 16).reshape(rank, -1).T)[0].T
    weights = random_channels(generator, n, 1, rank).reshape(n, rank) / np.sqrt(rank)
    noise = random_channels(generator, n, 8, 16).reshape(n, -1) / np.sqrt(128)
    return (weights @ basis + rest * noise).reshape(n, 8, 16).astype(np.complex64)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("rest", [0.0, 0.01, 0.1], ids=["no tail", "small tail", "large tail"])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e12])
def test_a_subspace_changes_no_answer(similarity: str, rest: float, scale: float) -> None:
    generator = np.random.default_rng(11)
    entries = low_rank_channels(generator, 700, 12, rest) * np.float32(scale)
    entries[generator.integers(0, 700, 20)] = 0
    entries[300:340] = entries[300]  # ties
    entries[400:440] = entries[400] * np.linspace(1.0, 1.0 + 3e-6, 40, dtype=np.float32)[:, None, None]  # near ties
    entries[500:520] *= np.float32(1e-6)
    elsewhere = random_channels(generator, 20, 8, 16) * np.float32(scale)
    queries = np.concatenate(
        [entries[295:305], entries[396:406], entries[[0, 510]], elsewhere, entries[:20] + 0.1 * elsewhere]
    )
    queries = queries.astype(np.complex64)
    dictionary = measured(entries)
    assert dictionary.rank > 0
    for k in (1, 7, 60):
        indices, distances = dictionary.search(queries, similarity, k)  # type: ignore[arg-type]
        wanted, wanted_distances = measured(entries, subspace=False).search(queries, similarity, k)  # type: ignore[arg-type]
        np.testing.assert_array_equal(indices, wanted)
        np.testing.assert_array_equal(distances, wanted_distances)
        _, reference_distances = reference.search(queries, entries, similarity, k)
        np.testing.assert_allclose(distances, reference_distances, rtol=1e-9, atol=1e-7 * max(scale, 1))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("decay", [0.0, 0.06], ids=["no direction leads", "few directions lead"])
def test_leading_coordinates_change_no_answer(similarity: str, decay: float) -> None:
    """Entries and queries near each other, where many blocks are left after the leading coordinates, and far away."""
    generator = np.random.default_rng(6)
    basis = np.linalg.qr(random_channels(generator, 64, 8, 8).reshape(64, -1))[0]
    entries = random_channels(generator, 1500, 8, 8).reshape(1500, 64) * np.exp(-decay * np.arange(64)) @ basis
    entries *= generator.lognormal(0, 0.3, (1500, 1))
    near = (
        entries[:60] + 0.3 * np.std(entries[:60], axis=1, keepdims=True) * random_channels(generator, 60, 64, 1)[..., 0]
    )
    queries = np.concatenate([near, random_channels(generator, 20, 64, 1)[..., 0]])
    entries, queries = (x.reshape(-1, 8, 8).astype(np.complex64) for x in (entries, queries))
    dictionary = measured(entries)
    assert dictionary.rank == (64 if decay > 0.05 else 0)
    for k in (1, 5):
        indices, distances = dictionary.search(queries, similarity, k)  # type: ignore[arg-type]
        wanted, wanted_distances = reference.search(queries, entries, similarity, k)
        np.testing.assert_array_equal(indices, wanted)
        np.testing.assert_allclose(distances, wanted_distances, rtol=1e-9)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("near", [True, False], ids=["near entries", "far from all"])
@pytest.mark.parametrize("rest", [0.02, 3.0], ids=["subspace", "noise"])
def test_threads_batch_and_order_change_no_bit_of_stored_entries(similarity: str, near: bool, rest: float) -> None:
    """Far from all, the leading coordinates exclude nothing, and are left out after some queries."""
    generator = np.random.default_rng(12)
    entries = low_rank_channels(generator, 3000, 12, rest)
    entries[[40, 900, 2000, 2999]] = entries[40]  # ties, for several threads
    queries = random_channels(generator, 150, 8, 16)
    if near:
        queries = (entries[100:250] + 0.05 * queries).astype(np.complex64)  # none of the ties, which a product may part
    queries[:3] = entries[40]
    dictionary = measured(entries)
    assert (dictionary.rank > 0) == (rest < 0.1)
    for k in (1, 4):
        indices, distances = dictionary.search(queries, similarity, k, threads=1)  # type: ignore[arg-type]
        np.testing.assert_array_equal(indices[:3], [[40, 900, 2000, 2999][:k]] * 3)
        wanted, wanted_distances = reference.search(queries[3:23], entries, similarity, k)
        np.testing.assert_array_equal(indices[3:23], wanted)
        np.testing.assert_allclose(distances[3:23], wanted_distances, rtol=1e-9)
        for threads in (2, 3, 8):
            for batch in (1, 37, 150):
                order = generator.permutation(150)[: 10 if batch == 1 else 150]
                parts = [order[i : i + batch] for i in range(0, len(order), batch)]
                again = [dictionary.search(queries[part], similarity, k, threads) for part in parts]  # type: ignore[arg-type]
                np.testing.assert_array_equal(np.concatenate([i for i, _ in again]), indices[order])
                np.testing.assert_array_equal(np.concatenate([d for _, d in again]), distances[order])


def uneven_channels(generator: np.random.Generator, n: int) -> np.ndarray:
    """[n, 7, 9] channels; one number of every third holds nearly everything, and bytes lose most of the others."""
    channels = random_channels(generator, n, 7, 9)
    channels[::3, 2, 5] += np.float32(30.0) * random_channels(generator, len(channels[::3]), 1, 1)[:, 0, 0]
    channels[::50] = 0
    return channels


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e15])
def test_what_bytes_lose_changes_no_answer(similarity: str, scale: float) -> None:
    generator = np.random.default_rng(13)
    entries = uneven_channels(generator, 2000) * np.float32(scale)
    near = entries[:40] + np.float32(0.3 * scale) * random_channels(generator, 40, 7, 9)
    queries = np.concatenate([near, uneven_channels(generator, 100) * np.float32(scale)])
    dictionary = measured(entries, subspace=False)
    for k in (1, 4):
        wanted, wanted_distances = reference.search(queries, entries, similarity, k)
        for _ in range(2):  # leading numbers are left out after some queries
            indices, distances = dictionary.search(queries, similarity, k)  # type: ignore[arg-type]
            clear = np.diff(wanted_distances, axis=1, prepend=-1.0).min(axis=1) > 0
            np.testing.assert_array_equal(indices[clear], wanted[clear])
            np.testing.assert_allclose(distances, wanted_distances, rtol=1e-9)


def test_a_subspace_is_taken_only_where_it_pays() -> None:
    generator = np.random.default_rng(3)
    assert measured(random_channels(generator, 700, 8, 16)).rank == 0  # energy everywhere
    assert measured(low_rank_channels(generator, 100, 8, 0.0)).rank == 0  # few entries
    assert measured(np.zeros((700, 8, 16), np.complex64)).rank == 0
    assert measured(low_rank_channels(generator, 700, 8, 0.001)).rank == 8
    assert measured(low_rank_channels(generator, 700, 8, 0.001), subspace=False).rank == 0


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_many_equal_entries_are_settled_in_bounded_lists(similarity: str) -> None:
    generator = np.random.default_rng(8)
    entries = np.repeat(low_rank_channels(generator, 4, 4, 0.0), 2000, axis=0)[generator.permutation(8000)]
    for subspace in (False, True):
        indices, distances = measured(entries, subspace=subspace).search(entries[:9], similarity, 3)  # type: ignore[arg-type]
        for query, found in enumerate(indices):
            equal = np.flatnonzero((entries == entries[query]).all(axis=(1, 2)))
            np.testing.assert_array_equal(found, equal[:3])
        np.testing.assert_allclose(distances, 0, atol=1e-7)


def test_every_level_of_the_inner_loops_gives_the_same_answer() -> None:
    code = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from test_dictionary import low_rank_channels, measured, SIMILARITIES, uneven_channels
from wavefix import _core
assert _core.kernel_level() == sys.argv[2]
generator = np.random.default_rng(4)
entries = low_rank_channels(generator, 500, 10, 0.02)
queries = low_rank_channels(generator, 40, 12, 0.1)
found = [measured(entries, subspace=s).search(queries, name, 5) for s in (0, 1) for name in SIMILARITIES]
entries, queries = uneven_channels(generator, 3000), uneven_channels(generator, 40)
found += [measured(entries).search(queries, name, 5) for _ in range(2) for name in SIMILARITIES]
print(np.array([i for i, _ in found]).tobytes().hex(), np.array([d for _, d in found]).tobytes().hex())
"""
    answers = set()
    for level in _core.kernel_levels():
        environment = os.environ | {"WAVEFIX_KERNELS": level}
        command = [sys.executable, "-c", code, str(Path(__file__).parent), level]
        answers.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(answers) == 1
    assert len(answers.pop()) > 1000


def test_a_level_that_the_processor_lacks_is_an_error() -> None:
    code = "from wavefix import _core; _core.kernel_level()"
    environment = os.environ | {"WAVEFIX_KERNELS": "avx1024"}
    failed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "wavefix.Error: WAVEFIX_KERNELS: expected generic" in failed.stderr
    assert "got avx1024" in failed.stderr


def test_the_grid_covers_the_region_centered() -> None:
    model = plane_wave_model(0, extent=3.1)
    dictionary = Dictionary.from_model(model, WAVELENGTH / 2)
    y = (dictionary.positions(np.arange(len(dictionary))) - model.region.origin) @ model.region.basis.T
    assert len(dictionary) == 7 * 7
    np.testing.assert_allclose(y.min(0), -y.max(0), atol=1e-12)
    np.testing.assert_allclose(y.max(0), 1.5 * WAVELENGTH)


def test_a_query_that_is_not_finite_matches_nothing() -> None:
    entries = random_channels(np.random.default_rng(2), 20, 2, 3)
    queries = entries[:3].copy()
    queries[1, 0, 1] = np.nan
    indices, distances = measured(entries).search(queries)
    assert indices[:, 0].tolist() == [0, -1, 2]
    assert np.isnan(distances[1, 0])
    assert np.isfinite(distances[[0, 2]]).all()


def test_what_does_not_fit_is_named() -> None:
    dictionary = measured(random_channels(np.random.default_rng(2), 5, 2, 3))
    query = np.zeros((1, 2, 3), np.complex64)
    with pytest.raises(ShapeError, match=r"queries: expected shape \(n, 2, 3\), got \(1, 3, 2\)"):
        dictionary.search(np.zeros((1, 3, 2), np.complex64))
    with pytest.raises(TypeError, match="queries: expected dtype complex64, got complex128"):
        dictionary.search(query.astype(np.complex128))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="C-contiguous"):
        dictionary.search(np.zeros((1, 3, 2), np.complex64).transpose(0, 2, 1))
    for k in (0, 6, 2**40, 2**63):  # refused before arrays for the answer are made
        with pytest.raises(ShapeError, match=f"k: expected 1 to 5 entries, got {k}"):
            dictionary.search(query, k=k)
    with pytest.raises(ValueError, match="phase_sensitive or phase_insensitive"):
        dictionary.search(query, "cosine")  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="indices"):
        dictionary.positions(np.array([-1]))
    for spacing in (0.0, -1.0, np.nan):
        with pytest.raises(ShapeError, match="spacing"):
            Dictionary.from_model(plane_wave_model(), spacing)
    with pytest.raises(ShapeError, match=r"2\^40"):
        Dictionary.from_model(plane_wave_model(), 1e-9)
