# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from plane_waves import WAVELENGTH, add_noise, plane_wave_model, random_positions
from wavefix import (
    STRATEGIES,
    ChannelDataset,
    ChannelModel,
    DataError,
    FingerprintLocalizer,
    Fixes,
    Localizer,
    ShapeError,
    Status,
    position_error_bound,
)


@pytest.fixture(scope="module")
def model() -> ChannelModel:
    return plane_wave_model(0, waves=10)


def errors(fixes: Fixes, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(fixes.position - truth, axis=1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_finds_users_without_noise(model: ChannelModel, strategy: str) -> None:
    truth = random_positions(model, 100)
    fixes = Localizer(model, strategy).locate(model.synthesize(truth))
    if strategy.startswith("off_grid"):
        # the paper's strategies may end in a neighboring minimum; most do not
        assert np.mean(errors(fixes, truth) < 1e-4 * WAVELENGTH) >= 0.9
        assert np.all(fixes.status[errors(fixes, truth) < 1e-4 * WAVELENGTH] == Status.OK)
    else:
        assert np.median(errors(fixes, truth)) < 0.125 * WAVELENGTH / np.sqrt(2)


@pytest.mark.parametrize("dimension", [1, 3])
def test_lines_and_volumes(dimension: int) -> None:
    model = plane_wave_model(1, waves=12, dimension=dimension, extent=2.0)
    truth = random_positions(model, 20)
    fixes = Localizer(model).locate(model.synthesize(truth))
    assert np.mean(errors(fixes, truth) < 1e-4 * WAVELENGTH) >= 0.9
    across = np.eye(3) - model.region.basis.T @ model.region.basis
    np.testing.assert_allclose(fixes.covariance @ across, 0.0, atol=1e-20)


def test_error_and_covariance_agree_with_the_bound(model: ChannelModel) -> None:
    truth = random_positions(model, 600)
    fixes = Localizer(model).locate(add_noise(model.synthesize(truth), 12.0))
    right = errors(fixes, truth) < WAVELENGTH / 4
    assert right.mean() > 0.9
    difference = (fixes.position - truth)[right] @ model.region.basis.T
    spread = model.region.basis @ fixes.covariance[right] @ model.region.basis.T
    nees = np.einsum("ni,nij,nj->n", difference, np.linalg.inv(spread), difference)
    low, high = chi2.ppf([1e-4, 1 - 1e-4], 2 * right.sum()) / right.sum()
    assert low < nees.mean() < high
    bound = position_error_bound(model, truth[right], 12.0)
    rmse_ratio = np.sqrt(np.mean(errors(fixes, truth)[right] ** 2) / np.mean(bound**2))
    assert 0.9 < rmse_ratio < 1.1


def test_shifting_the_scene_shifts_the_fixes() -> None:
    model, moved = plane_wave_model(2), plane_wave_model(2, shift=(-40.0, 25.0, 3.0))
    truth = random_positions(model, 30)
    channels = add_noise(model.synthesize(truth), 20.0)
    here, there = Localizer(model).locate(channels), Localizer(moved).locate(channels)
    np.testing.assert_allclose(there.position - here.position, [[-40.0, 25.0, 3.0]] * 30, atol=1e-6)
    np.testing.assert_array_equal(there.status, here.status)


def test_batch_and_threads_do_not_change_a_bit(model: ChannelModel) -> None:
    channels = add_noise(model.synthesize(random_positions(model, 17)), 5.0)
    localizer = Localizer(model)
    wanted = localizer.locate(channels, threads=1)
    parts = [localizer.locate(channels[i : i + 4], threads=2) for i in range(0, 17, 4)]
    for name in ("position", "covariance", "status", "residual", "ambiguity"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(wanted, name))


def test_bad_queries_get_a_status_and_leave_the_others(model: ChannelModel) -> None:
    channels = model.synthesize(random_positions(model, 5))
    localizer = Localizer(model)
    wanted = localizer.locate(channels)
    channels[1, 2, 3] = np.nan
    channels[2] = 0.0
    channels[4, 0, 0] = np.inf
    fixes = localizer.locate(channels)
    assert [Status(s) for s in fixes.status[[1, 2, 4]]] == [Status.INVALID_INPUT] * 3
    assert np.isnan(fixes.position[[1, 2, 4]]).all()
    np.testing.assert_array_equal(fixes.position[[0, 3]], wanted.position[[0, 3]])
    np.testing.assert_array_equal(fixes.status[[0, 3]], wanted.status[[0, 3]])


def test_what_the_model_cannot_explain_is_a_poor_fit(model: ChannelModel) -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((2, 8, 8, 12)).astype(np.float32)
    fixes = Localizer(model).locate((1e-4 * (noise[0] + 1j * noise[1])).astype(np.complex64))
    assert set(fixes.status.tolist()) <= {Status.POOR_FIT, Status.OUTSIDE_REGION}
    assert (fixes.residual > 0.5).all()


def test_wrong_minima_are_poor_fits_at_any_noise_level() -> None:
    model = plane_wave_model(0, waves=10, antennas=16, subcarriers=32)
    truth = random_positions(model, 400)
    for snr_db in (10.0, 25.0, 40.0):
        # a coarse grid, so that many fixes end in a wrong minimum
        fixes = Localizer(model, "off_grid_pi_ps_circles", grid_spacing=0.5, starts=1).locate(
            add_noise(model.synthesize(truth), snr_db)
        )
        wrong = errors(fixes, truth) > WAVELENGTH / 4
        assert wrong.sum() > 50
        assert np.mean(fixes.status[wrong] == Status.OK) < 0.02
        assert np.mean(fixes.status[~wrong] == Status.OK) > 0.98


def test_twin_minima_are_ambiguous() -> None:
    # two waves along one axis: the channel repeats itself every half wavelength but for the slow turn over the band
    model = plane_wave_model(0, waves=2, dimension=1, extent=8.0, twins=True)
    truth = random_positions(model, 60, fill=0.5)
    fixes = Localizer(model).locate(add_noise(model.synthesize(truth), 0.0))
    wrong = errors(fixes, truth) > WAVELENGTH / 4
    assert np.mean(fixes.status[wrong] == Status.OK) < 0.05
    assert np.mean(fixes.ambiguity > 0.5) > 0.3


def test_users_outside_are_not_ok(model: ChannelModel) -> None:
    outside = random_positions(model, 30)
    outside[:, 0] = model.region.origin[0] + model.region.upper[0] + 0.1 * WAVELENGTH
    channels = model.synthesize(outside)
    strict = Localizer(model, region_margin=0.0).locate(channels)
    found = errors(strict, outside) < 0.01 * WAVELENGTH
    assert found.mean() > 0.8
    assert (strict.status[found] == Status.OUTSIDE_REGION).all()
    lenient = Localizer(model, region_margin=0.2).locate(channels)
    assert (lenient.status[found] == Status.OK).all()


def test_an_empty_batch_is_empty(model: ChannelModel) -> None:
    fixes = Localizer(model).locate(np.zeros((0, 8, 12), np.complex64))
    assert len(fixes) == 0
    assert fixes.covariance.shape == (0, 3, 3)


def test_out_is_filled(model: ChannelModel) -> None:
    channels = model.synthesize(random_positions(model, 3))
    localizer = Localizer(model)
    out = Fixes(np.empty((3, 3)), np.empty((3, 3, 3)), np.empty(3, np.uint8), np.empty(3), np.empty(3))
    assert localizer.locate(channels, out=out) is out
    np.testing.assert_array_equal(out.position, localizer.locate(channels).position)
    with pytest.raises(ShapeError, match=r"out\.position"):
        localizer.locate(channels[:2], out=out)


def test_localizers_can_be_pickled_and_copied(model: ChannelModel) -> None:
    localizer = Localizer(model, "off_grid_naive", circles=2, max_iterations=7)
    channels = model.synthesize(random_positions(model, 3))
    for twin in (pickle.loads(pickle.dumps(localizer)), copy.deepcopy(localizer)):
        assert twin.options.strategy == "off_grid_naive"
        assert (twin.options.circles, twin.options.refine.max_iterations) == (2, 7)
        np.testing.assert_array_equal(twin.locate(channels).position, localizer.locate(channels).position)


def test_fixes_survive_a_file(model: ChannelModel, tmp_path: Path) -> None:
    fixes = Localizer(model).locate(model.synthesize(random_positions(model, 3)))
    fixes.save(tmp_path / "fixes.npz")
    np.testing.assert_array_equal(Fixes.load(tmp_path / "fixes.npz").covariance, fixes.covariance)
    np.savez(tmp_path / "other.npz", position=fixes.position)
    with pytest.raises(DataError, match="missing: covariance"):
        Fixes.load(tmp_path / "other.npz")


def test_options_are_checked(model: ChannelModel) -> None:
    with pytest.raises(ShapeError, match=r"strategy: expected float_fix, on_grid_naive.*, got best"):
        Localizer(model, "best")
    with pytest.raises(ValueError, match="synchronization"):
        Localizer(model, synchronization="none")
    with pytest.raises(TypeError, match=r"radius: unknown option; known ones: .*circle_spacing"):
        Localizer(model, radius=1)
    with pytest.raises(TypeError, match="circles: expected int"):
        Localizer(model, circles="three")
    for name, value in {
        "grid_spacing": 0.0,
        "circles": -1,
        "local_radius": np.nan,
        "max_step": 0.0,
        "poor_fit_factor": -1.0,
    }.items():
        with pytest.raises(ShapeError, match=name):
            Localizer(model, **{name: value})
    with pytest.raises(ShapeError, match=r"channels: expected shape \(n, 8, 12\), got \(2, 12, 8\)"):
        Localizer(model).locate(np.zeros((2, 12, 8), np.complex64))


@pytest.mark.parametrize("similarity", ["phase_sensitive", "phase_insensitive"])
def test_fingerprints_average_their_neighbors(model: ChannelModel, similarity: str) -> None:
    positions = random_positions(model, 40)
    data = ChannelDataset(model.synthesize(positions), model.antenna_positions, model.frequencies, positions)
    fixes = FingerprintLocalizer(data, k=1, similarity=similarity).locate(data.channels)  # type: ignore[arg-type]
    np.testing.assert_array_equal(fixes.position, positions)
    queries = data.channels[:4].copy()
    queries[3] = np.nan
    three = FingerprintLocalizer(data, k=3, similarity=similarity)  # type: ignore[arg-type]
    indices, _ = three.dictionary.search(queries, similarity, 3)  # type: ignore[arg-type]
    fixes = three.locate(queries)
    np.testing.assert_allclose(fixes.position[0], positions[indices[0]].mean(axis=0))
    assert fixes.status.tolist() == [Status.OK, Status.OK, Status.OK, Status.INVALID_INPUT]
    assert fixes.residual[0] == 0.0
    with pytest.raises(ShapeError, match="k: expected 1 to 40"):
        FingerprintLocalizer(data, k=41)


@pytest.mark.parametrize("options", [{"grid_spacing": 0.002}, {"starts": 100, "circle_spacing": 0.01, "circles": 10}])
def test_a_signal_ends_a_long_call_within_a_second(model: ChannelModel, options: dict[str, float]) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    localizer = Localizer(model, "off_grid_pi_ps_circles", **options)
    channels = model.synthesize(random_positions(model, 40))
    previous = signal.signal(signal.SIGALRM, stop)
    try:
        begin = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            localizer.locate(channels)
        assert time.monotonic() - begin < 1.3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
