# SPDX-License-Identifier: Apache-2.0
"""synthesize: virtual sources (1) with gains and gates (3) in C++ against torch and NumPy, answers compared first.

The peers evaluate the whole batch: distances, gains and gates in float64, phasors and sums in complex64 as wavefix
does, either term by term or as products of two short phase tables, these also compiled by torch. Work is counted as 8
operations an atom and entry; the rates stand in ``extra_info``.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import wavefix as wfx
from factories import ModelFile
from reference.spherical import spherical_channels, spherical_jacobian
from spherical_models import random_spherical_model
from wavefix.bench_peers import SphericalPeer

FULL = os.environ.get("WAVEFIX_BENCH") == "full"
SHAPES = [(16, 16, 4)]  # antennas, subcarriers, sources
if FULL:
    SHAPES = [(8, 8, 4), (32, 64, 24), (64, 64, 12), (64, 64, 64), (64, 64, 256), (128, 256, 12)]
SIZES: dict[str, dict[str, Any]] = {
    f"{a}x{k}, {n} sources": {"antennas": a, "subcarriers": k, "sources": n} for a, k, n in SHAPES
}
POSITIONS = 64 if FULL else 8
TOLERANCE = 1e-6


@pytest.fixture(scope="module", params=list(SIZES))
def case(request: pytest.FixtureRequest) -> tuple[str, ModelFile, wfx.ChannelModel, NDArray[np.float64]]:
    file = random_spherical_model(1, **SIZES[request.param])
    return request.param, file, wfx.ChannelModel.from_bytes(file.data), file.positions(POSITIONS)


def difference(got: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def rate(benchmark: Any, model: wfx.ChannelModel) -> None:
    work = 8 * POSITIONS * model.n_atoms * len(model.antenna_positions) * len(model.frequencies)
    benchmark.extra_info["GFLOP/s"] = work / benchmark.stats.stats.min / 1e9


@pytest.mark.parametrize("threads", [1, 2])
def test_wavefix(benchmark, case, threads) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize, {name}"
    out = np.empty((POSITIONS, len(model.antenna_positions), len(model.frequencies)), np.complex64)
    benchmark(model.synthesize, positions, out=out, threads=threads)
    rate(benchmark, model)
    assert difference(out[:2], spherical_channels(file.tensors, positions[:2])) < TOLERANCE


@pytest.mark.parametrize("tables", [False, True], ids=["terms", "tables"])
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_peer(benchmark, case, library, tables) -> None:
    name, _, model, positions = case
    benchmark.group = f"synthesize, {name}"
    peer = SphericalPeer(torch if library == "torch" else np, model, tables)
    with torch.no_grad():
        got = benchmark.pedantic(peer, (positions,), rounds=3, warmup_rounds=1)
    rate(benchmark, model)
    assert difference(np.asarray(got), model.synthesize(positions)) < TOLERANCE


@pytest.mark.skipif(not FULL, reason="compiling takes longer than all of the quick form")
def test_compiled_torch(benchmark, case) -> None:
    """torch.compile has no code for complex numbers and falls back to eager kernels for them."""
    name, _, model, positions = case
    benchmark.group = f"synthesize, {name}"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        compiled = torch.compile(SphericalPeer(torch, model, tables=True).__call__)
        got = benchmark.pedantic(compiled, (positions,), rounds=3, warmup_rounds=2)
    rate(benchmark, model)
    assert difference(np.asarray(got), model.synthesize(positions)) < TOLERANCE


@pytest.mark.parametrize("threads", [1, 2])
def test_wavefix_jacobian(benchmark, case, threads) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize with Jacobian, {name}"
    shape = (POSITIONS, 3, len(model.antenna_positions), len(model.frequencies))
    out = np.empty((shape[0], *shape[2:]), np.complex64), np.empty(shape, np.complex64)
    benchmark(model.synthesize, positions, jacobian=True, out=out, threads=threads)
    assert difference(out[1][0], spherical_jacobian(file.tensors, positions[0])) < TOLERANCE
