# SPDX-License-Identifier: Apache-2.0
"""Refinement: wavefix and SciPy's least squares on the same model and starts, the same minimum asserted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

from plane_waves import WAVELENGTH, add_noise, plane_wave_model, random_positions
from wavefix import ChannelModel, refine

Problem = tuple[ChannelModel, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def problem() -> Problem:
    model = plane_wave_model(0, antennas=32, subcarriers=64, waves=12)
    truth = random_positions(model, 20)
    starts = truth + np.random.default_rng(0).uniform(-0.05, 0.05, (20, 2)) * WAVELENGTH @ model.region.basis
    return model, add_noise(model.synthesize(truth), 10.0), truth, starts


@pytest.mark.benchmark(group="refine")
def test_wavefix(benchmark: Any, problem: Problem) -> None:
    model, channels, truth, starts = problem
    result = benchmark(refine, model, channels, starts)
    assert np.linalg.norm(result.position - truth, axis=1).max() < 0.05 * WAVELENGTH


@pytest.mark.benchmark(group="refine")
def test_scipy(benchmark: Any, problem: Problem) -> None:
    model, channels, truth, starts = problem
    basis = model.region.basis

    def solve() -> np.ndarray:
        found = []
        for channel, start in zip(channels, starts, strict=True):

            def residual(y: np.ndarray, channel: np.ndarray = channel, start: np.ndarray = start) -> np.ndarray:
                difference = channel - model.synthesize((start + y @ basis)[None])[0]
                return 1e4 * difference.ravel().view(np.float32).astype(np.float64)

            def jacobian(y: np.ndarray, start: np.ndarray = start) -> np.ndarray:
                slopes = model.synthesize((start + y @ basis)[None], jacobian=True)[1][0].reshape(3, -1)
                along = np.ascontiguousarray((basis @ slopes).astype(np.complex64))
                return -1e4 * along.view(np.float32).T.astype(np.float64)

            found.append(start + least_squares(residual, np.zeros(2), jac=jacobian).x @ basis)
        return np.array(found)

    assert np.linalg.norm(benchmark(solve) - truth, axis=1).max() < 0.05 * WAVELENGTH
