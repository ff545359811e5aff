# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from plane_waves import WAVELENGTH, add_noise, plane_wave_model, random_positions
from wavefix import RefineOptions, ShapeError, position_error_bound, refine


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_refine_returns_to_the_truth(dimension: int) -> None:
    model = plane_wave_model(1, dimension=dimension)
    truth = random_positions(model, 50)
    offsets = np.random.default_rng(0).uniform(-0.08, 0.08, (50, dimension)) * WAVELENGTH
    result = refine(model, model.synthesize(truth), truth + offsets @ model.region.basis)
    assert result.converged.all()
    # float32 channels carry 6e-8 relative noise; a wavelength per cycle turns it into far less than 1e-6 wavelengths
    assert np.linalg.norm(result.position - truth, axis=1).max() < 1e-5 * WAVELENGTH


def test_refine_agrees_with_scipy() -> None:
    model = plane_wave_model(2)
    truth = random_positions(model, 12, fill=0.8)
    channels = add_noise(model.synthesize(truth), 10.0)
    result = refine(model, channels, truth)
    region = model.region
    for row in range(len(truth)):

        def residual(y: np.ndarray, row: int = row) -> np.ndarray:
            difference = channels[row] - model.synthesize((region.origin + y @ region.basis)[None])[0]
            return 1e4 * np.concatenate([difference.real.ravel(), difference.imag.ravel()]).astype(np.float64)

        def jacobian(y: np.ndarray) -> np.ndarray:
            _, slopes = model.synthesize((region.origin + y @ region.basis)[None], jacobian=True)
            along = np.einsum("dc,cjk->djk", region.basis, slopes[0]).reshape(len(y), -1)
            return -1e4 * np.concatenate([along.real, along.imag], axis=1).T.astype(np.float64)

        peer = least_squares(residual, (truth[row] - region.origin) @ region.basis.T, jac=jacobian, xtol=1e-14)
        np.testing.assert_allclose(result.position[row], region.origin + peer.x @ region.basis, atol=2e-6)
        np.testing.assert_allclose(result.cost[row], 2e-8 * peer.cost, rtol=1e-4)


def test_refine_never_raises_the_cost() -> None:
    model = plane_wave_model(3)
    truth = random_positions(model, 60)
    starts = random_positions(model, 60, seed=9)  # far away: into some local minimum
    channels = model.synthesize(truth)
    before = np.sum(np.abs(channels - model.synthesize(starts)) ** 2, axis=(1, 2))
    after = refine(model, channels, starts).cost
    assert (after <= before * (1 + 1e-6)).all()


def test_bound_is_what_the_jacobian_says() -> None:
    model = plane_wave_model(4)
    positions = random_positions(model, 6)
    channels, jacobian = model.synthesize(positions, jacobian=True)
    wanted = []
    for h, j in zip(channels.astype(np.complex128), jacobian.astype(np.complex128), strict=True):
        along = (model.region.basis @ j.reshape(3, -1)).T  # [n_antennas * n_subcarriers, dimension]
        variance = np.mean(np.abs(h) ** 2) / 10 ** (7.0 / 10)
        fisher = 2 / variance * np.real(along.conj().T @ along)  # (7)
        wanted.append(np.sqrt(np.trace(np.linalg.inv(fisher))))
    np.testing.assert_allclose(position_error_bound(model, positions, 7.0), wanted, rtol=1e-4)


def test_refine_reaches_the_bound() -> None:
    model = plane_wave_model(5)
    truth = random_positions(model, 1500)
    result = refine(model, add_noise(model.synthesize(truth), 15.0), truth)
    squared = np.sum((result.position - truth) ** 2, axis=1) / position_error_bound(model, truth, 15.0) ** 2
    # mean of 1500 ratios, each of variance at most 2 (a chi-square with at least one degree): four deviations
    assert abs(squared.mean() - 1.0) < 4 * np.sqrt(2 / 1500) + 0.02


def test_one_direction_alone_gives_no_bound() -> None:
    model = plane_wave_model(6, waves=1)  # one plane wave: moving along its front changes nothing
    assert np.isnan(position_error_bound(model, random_positions(model, 3), 10.0)).all()


def test_rows_that_are_not_finite_give_nan_and_leave_the_others() -> None:
    model = plane_wave_model(7)
    truth = random_positions(model, 4)
    channels = model.synthesize(truth)
    wanted = refine(model, channels, truth)
    channels[1, 0, 0] = np.nan
    starts = truth.copy()
    starts[2, 0] = np.inf
    result = refine(model, channels, starts)
    assert np.isnan(result.position[[1, 2]]).all()
    assert np.isnan(result.cost[[1, 2]]).all()
    assert not result.converged[[1, 2]].any()
    np.testing.assert_array_equal(result.position[[0, 3]], wanted.position[[0, 3]])


def test_what_does_not_fit_is_named() -> None:
    model = plane_wave_model()
    channels = np.zeros((2, 8, 12), np.complex64)
    with pytest.raises(ShapeError, match=r"starts: expected shape \(2, 3\)"):
        refine(model, channels, np.zeros((1, 3)))
    options = RefineOptions()
    options.max_step = 0.0
    with pytest.raises(ShapeError, match="max_step"):
        refine(model, channels, np.zeros((2, 3)), options)
    with pytest.raises(ShapeError, match="snr_db"):
        position_error_bound(model, np.zeros((1, 3)), np.inf)
    with pytest.raises(ValueError, match="threads"):
        refine(model, channels, np.zeros((2, 3)), threads=-1)
