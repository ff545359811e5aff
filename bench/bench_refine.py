# SPDX-License-Identifier: Apache-2.0
"""Refinement: wavefix and SciPy's least squares on the same model and starts, the same minimum asserted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares

from known_maps import WAVELENGTH, street
from plane_waves import add_noise, plane_wave_model, random_positions
from wavefix import ChannelModel, refine

FULL = os.environ.get("WAVEFIX_BENCH") == "full"
SHAPES = [(16, 16)]
if FULL:
    SHAPES = [(8, 8), (32, 64), (64, 64), (128, 256)]
COUNT = 20 if FULL else 4


@dataclass(frozen=True)
class Problem:
    name: str
    model: ChannelModel
    channels: NDArray[np.complex64]
    truth: NDArray[np.float64]
    starts: NDArray[np.float64]


@pytest.fixture(scope="module", params=["spherical", "planar"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: "{}x{}".format(*shape))
def problem(request: pytest.FixtureRequest, kind: str) -> Problem:
    antennas, subcarriers = request.param
    if kind == "spherical":
        model = street(antennas=antennas, subcarriers=subcarriers, paths=12)
    else:
        model = plane_wave_model(0, antennas=antennas, subcarriers=subcarriers, waves=12)
    truth = random_positions(model, COUNT)
    starts = truth + np.random.default_rng(0).uniform(-0.05, 0.05, (COUNT, 2)) * WAVELENGTH @ model.region.basis
    channels = add_noise(model.synthesize(truth), 10.0)
    return Problem(f"refine, {kind}, {antennas}x{subcarriers}, 12 atoms", model, channels, truth, starts)


@pytest.mark.parametrize("threads", [1, 2])
def test_wavefix(benchmark: Any, problem: Problem, threads: int) -> None:
    benchmark.group = problem.name
    result = benchmark(refine, problem.model, problem.channels, problem.starts, threads=threads)
    assert np.linalg.norm(result.position - problem.truth, axis=1).max() < 0.1 * WAVELENGTH


def test_scipy(benchmark: Any, problem: Problem) -> None:
    benchmark.group = problem.name
    model, basis = problem.model, problem.model.region.basis

    def solve() -> NDArray[np.float64]:
        found = []
        for channel, start in zip(problem.channels, problem.starts, strict=True):
            scale = 1.0 / np.linalg.norm(channel)

            def residual(
                y: NDArray[np.float64], channel: Any = channel, start: Any = start, scale: float = scale
            ) -> NDArray[np.float64]:
                difference = channel - model.synthesize((start + y @ basis)[None])[0]
                return np.asarray(scale * difference.ravel().view(np.float32).astype(np.float64))

            def jacobian(y: NDArray[np.float64], start: Any = start, scale: float = scale) -> NDArray[np.float64]:
                slopes = model.synthesize((start + y @ basis)[None], jacobian=True)[1][0].reshape(3, -1)
                along = np.ascontiguousarray((basis @ slopes).astype(np.complex64))
                return np.asarray(-scale * along.view(np.float32).T.astype(np.float64))

            found.append(start + least_squares(residual, np.zeros(2), jac=jacobian, xtol=1e-10).x @ basis)
        return np.array(found)

    found = benchmark(solve)
    ours = refine(model, problem.channels, problem.starts).position
    assert np.linalg.norm(found - ours, axis=1).max() < 1e-3 * WAVELENGTH
