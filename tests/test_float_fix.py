# SPDX-License-Identifier: Apache-2.0
"""``float_fix`` on scenes whose map is known exactly, against the Cramer-Rao bound and refinement from the truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from damaged_maps import deep_street, learned
from known_maps import WAVELENGTH, street
from plane_waves import add_noise, plane_wave_model
from wavefix import ChannelModel, Fixes, Localizer, ShapeError, Status, position_error_bound, refine

# One in 10 000 of the statistical checks may fail by chance, once and for all: the seeds are fixed.
CHANCE = 1e-4


def users(model: ChannelModel, n: int, seed: int = 0) -> NDArray[np.float64]:
    region = model.region
    y = np.random.default_rng(seed).uniform(region.lower, region.upper, (n, len(region.lower)))
    return np.ascontiguousarray(region.origin + y @ region.basis)


def errors(fixes: Fixes, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(fixes.position - truth, axis=1)


def search_failures(
    model: ChannelModel, channels: NDArray[np.complex64], fixes: Fixes, truth: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Fixes in another minimum than refinement from the truth reaches, and not a better one."""
    energy = np.sum(np.abs(channels.astype(np.complex128)) ** 2, axis=(1, 2))
    best = refine(model, channels, truth)
    elsewhere = np.linalg.norm(fixes.position - best.position, axis=1) > WAVELENGTH / 16
    return elsewhere & (fixes.residual * energy > best.cost)


def check_against_the_bound(model: ChannelModel, snr_db: float, n: int) -> None:
    truth = users(model, n)
    channels = add_noise(model.synthesize(truth), snr_db, seed=1)
    fixes = Localizer(model).locate(channels)
    assert not search_failures(model, channels, fixes, truth).any()
    right = errors(fixes, truth) < WAVELENGTH / 4
    assert right.mean() > 0.98
    difference = (fixes.position - truth)[right] @ model.region.basis.T
    spread = model.region.basis @ fixes.covariance[right] @ model.region.basis.T
    nees = np.einsum("ni,nij,nj->n", difference, np.linalg.inv(spread), difference)
    low, high = chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], 2 * right.sum()) / right.sum()
    assert low < nees.mean() < high
    # Squared errors over squared bounds have at most one degree of freedom each, so that their mean is within
    # 1.1^2 up to the same quantile of chi2(n).
    bound = position_error_bound(model, truth[right], snr_db)
    ratio = np.mean((errors(fixes, truth)[right] / bound) ** 2)
    assert ratio < 1.1**2 * chi2.ppf(1 - CHANCE, right.sum()) / right.sum()


@pytest.mark.parametrize("snr_db", [5.0, 20.0])
def test_errors_reach_the_bound_and_covariances_are_honest(snr_db: float) -> None:
    check_against_the_bound(street(), snr_db, 150)


@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [0.0, 5.0, 10.0, 20.0, 30.0])
@pytest.mark.parametrize(
    "scene",
    [
        {"antennas": 64, "subcarriers": 64, "size": 10.0},
        {"antennas": 64, "subcarriers": 64, "size": 10.0, "line_of_sight": False, "paths": 6},
        {"antennas": 64, "subcarriers": 64, "size": 10.0, "gates": True},
        {"antennas": 32, "subcarriers": 64, "size": 5.0, "line_of_sight": False},
    ],
)
def test_errors_reach_the_bound_in_large_scenes(scene: dict, snr_db: float) -> None:
    check_against_the_bound(street(**scene), snr_db, 500)


@pytest.mark.parametrize(
    "scene",
    [
        {},
        {"line_of_sight": False, "paths": 6},
        {"gates": True},
        {"antennas": 32, "subcarriers": 8, "bandwidth": 10e6},
    ],
)
def test_no_search_fails_without_noise(scene: dict) -> None:
    model = street(**scene)
    truth = users(model, 60)
    channels = model.synthesize(truth)
    fixes = Localizer(model).locate(channels)
    assert not search_failures(model, channels, fixes, truth).any()
    # float32 channels hold the position to 1e-7 of a turn times what the paths' geometry costs
    assert np.all(errors(fixes, truth) < 1e-4 * WAVELENGTH)
    assert np.all(fixes.status == Status.OK)
    assert np.median(np.linalg.norm(fixes.float_position - truth, axis=1)) < WAVELENGTH


def fix_with_a_learned_map(
    seed: int, n: int, snr_db: float | None, **damage: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], float]:
    """Which searches fail, which fixes are wrong (by more than 3 cm), which are ok; the validation error, (10)."""
    scene = deep_street(seed)
    known = scene.model()
    model = learned(scene, users(known, 300, seed=1), seed=seed, **damage)
    truth = users(known, n)
    channels = known.synthesize(truth)
    if snr_db is not None:
        channels = add_noise(channels, snr_db, seed=2)
    fixes = Localizer(model).locate(channels)
    failed = search_failures(model, channels, fixes, truth)
    return failed, errors(fixes, truth) > 0.03, fixes.status == Status.OK, model.validation_nmse


@pytest.mark.parametrize("snr_db", [None, 5.0])
def test_no_search_fails_with_a_learned_map(snr_db: float | None) -> None:
    failed, wrong, ok, nmse = fix_with_a_learned_map(0, 150, snr_db)
    assert 1e-4 < nmse < 1e-3
    assert not failed.any()  # of those paths 9 % and 13 % did when the box of candidates did not grow
    assert wrong.sum() <= 1
    assert not np.any(wrong & ok)


@pytest.mark.slow
@pytest.mark.parametrize("edges", [1.0, 4.0])
@pytest.mark.parametrize("snr_db", [None, 5.0])
def test_searches_hardly_ever_fail_with_learned_maps(snr_db: float | None, edges: float) -> None:
    runs = [fix_with_a_learned_map(seed, 1000, snr_db, edges=edges) for seed in range(6)]
    failed, wrong, ok = (np.concatenate([run[part] for run in runs]) for part in range(3))
    print(f"{snr_db} dB, edges {edges}: failed {failed.mean():.3%}, wrong {wrong.mean():.3%}", end="")
    print(f", of ok {wrong[ok].mean():.3%}")
    assert failed.mean() <= 1e-3
    # With -24 dB the likelihood of a wrong minimum is the higher one in places, and noise may hide that.
    assert wrong.mean() <= (5e-3 if edges == 1.0 else 3e-2)
    assert wrong[ok].mean() <= (2e-3 if edges == 1.0 or snr_db is None else 1e-2)


def test_a_line() -> None:
    model = street(basis=np.array([[0.6, 0.8, 0.0]]), lower=np.array([-2.0]), upper=np.array([2.0]))
    truth = users(model, 20)
    assert np.all(errors(Localizer(model).locate(model.synthesize(truth)), truth) < 1e-4 * WAVELENGTH)


@pytest.mark.parametrize(
    "scene",
    [
        {"paths": 2},  # fewer than the float solution needs to know its covariance
        # a horizontal array hardly tells heights
        {"basis": np.eye(3), "lower": np.array([-1.0, -1.0, -0.5]), "upper": np.array([1.0, 1.0, 0.5])},
    ],
)
def test_poor_geometry_costs_fixes_that_say_so(scene: dict) -> None:
    model = street(**scene)
    truth = users(model, 24)
    fixes = Localizer(model).locate(model.synthesize(truth))
    right = errors(fixes, truth) < 1e-3 * WAVELENGTH
    assert right.mean() > 0.75
    assert not np.any(fixes.status[~right] == Status.OK)


def test_batch_and_threads_do_not_change_a_bit() -> None:
    model = street()
    channels = add_noise(model.synthesize(users(model, 13)), 5.0)
    localizer = Localizer(model)
    wanted = localizer.locate(channels, threads=1)
    parts = [localizer.locate(channels[i : i + 4], threads=2) for i in range(0, 13, 4)]
    for name in ("position", "covariance", "status", "residual", "ambiguity", "float_position"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(wanted, name))


def test_a_scene_that_repeats_is_ambiguous() -> None:
    # Waves to and fro along one axis, so that half a wavelength further everything looks the same but the delays.
    model = plane_wave_model(0, twins=True, dimension=1, waves=8)
    fixes = Localizer(model).locate(add_noise(model.synthesize(users(model, 40)), 0.0))
    assert np.all(fixes.ambiguity > 0.5)
    inside = fixes.status != Status.OUTSIDE_REGION
    assert inside.sum() > 20
    assert np.mean(fixes.status[inside] == Status.AMBIGUOUS) > 0.9


def test_bad_and_foreign_channels_are_told() -> None:
    model, other = street(), street(seed=1)
    truth = users(model, 6)
    channels = model.synthesize(truth)
    foreign = other.synthesize(truth)
    wanted = Localizer(model).locate(channels)
    mixed = np.concatenate([channels[:2], foreign])
    mixed[1, 0, 0] = np.nan
    fixes = Localizer(model).locate(mixed)
    assert fixes.status[0] == Status.OK
    np.testing.assert_array_equal(fixes.position[0], wanted.position[0])
    assert fixes.status[1] == Status.INVALID_INPUT
    assert np.isnan(fixes.position[1]).all()
    assert np.isnan(fixes.float_position[1]).all()
    # The geometry is right and the gains are wrong: the float solution holds, no fix does.
    assert np.all(fixes.status[2:] == Status.POOR_FIT)
    assert np.all(np.linalg.norm(fixes.float_position[2:] - truth, axis=1) < 0.5)


@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_the_scale_of_channels_does_not_matter(scale: float) -> None:
    model = street(antennas=8, subcarriers=8, size=3.0)
    channels = model.synthesize(users(model, 4))
    wanted = Localizer(model).locate(channels)
    moved = Localizer(model).locate((scale * channels).astype(np.complex64))
    # gains are free in the float solution, whose ridge follows the energy
    np.testing.assert_allclose(moved.float_position, wanted.float_position, atol=0.1 * WAVELENGTH)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("coarse_spacing", -1.0),
        ("coarse_starts", 0),
        ("candidate_spacing", np.inf),
        ("candidate_radius", -0.1),
        ("max_candidates", 1),
        ("minima", 0),
        ("finalists", 0),
    ],
)
def test_options_are_checked(option: str, value: float) -> None:
    with pytest.raises(ShapeError, match=option):
        Localizer(street(antennas=4, subcarriers=4), **{option: value})
