# SPDX-License-Identifier: Apache-2.0
"""synthesize: virtual sources (1) with gains and gates (3) in C++ against torch and NumPy, answers compared first.

The peers evaluate the whole batch: distances, gains and gates in float64, phasors and sums in complex64 as wavefix
does, either term by term or as products of two short phase tables. Work is counted as 8 operations an atom and entry;
the rates stand in ``extra_info``.
"""

from __future__ import annotations

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

SIZES: dict[str, dict[str, Any]] = {
    "64x64, 12 sources": {"antennas": 64, "subcarriers": 64, "sources": 12},
    "32x64, 24 sources": {"antennas": 32, "subcarriers": 64, "sources": 24},
    "128x256, 12 sources": {"antennas": 128, "subcarriers": 256, "sources": 12},
}
POSITIONS = 64
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


@pytest.mark.parametrize("threads", [1, 2])
def test_wavefix_jacobian(benchmark, case, threads) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize with Jacobian, {name}"
    shape = (POSITIONS, 3, len(model.antenna_positions), len(model.frequencies))
    out = np.empty((shape[0], *shape[2:]), np.complex64), np.empty(shape, np.complex64)
    benchmark(model.synthesize, positions, jacobian=True, out=out, threads=threads)
    assert difference(out[1][0], spherical_jacobian(file.tensors, positions[0])) < TOLERANCE
