# SPDX-License-Identifier: Apache-2.0
"""``float_fix`` on scenes whose map is known exactly, against the Cramer-Rao bound and refinement from the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.stats import binom, chi2

from damaged_maps import blocked, deep_street, learned, twinned
from known_maps import WAVELENGTH, C, street
from plane_waves import add_noise
from proof import CHANCE, Proof, band, errors, prove, search_failures, squared_errors_by_covariance, users
from wavefix import ChannelModel, Localizer, ShapeError, Status


def proof_of(model: ChannelModel, snr_db: float, n: int) -> Proof:
    truth = users(model, n)
    channels = add_noise(model.synthesize(truth), snr_db, seed=1)
    return prove(model, channels, Localizer(model).locate(channels), truth, snr_db)


FAILURES = 1e-3  # of the fixes, that may miss a better minimum: 1 of 150 or 3 of 600, more with one chance in 50


def check_against_the_bound(proof: Proof, limit: float) -> None:
    assert proof.failed * proof.n <= binom.ppf(0.98, proof.n, FAILURES)
    low, high = band(2, proof.right, CHANCE)
    assert low < proof.nees < high
    assert proof.ratio < limit


@pytest.mark.parametrize("snr_db", [5.0, 20.0])
def test_errors_reach_the_bound_and_covariances_are_honest(snr_db: float) -> None:
    proof = proof_of(street(validation_nmse=1e-12), snr_db, 150)
    # A squared error over its squared bound has one degree of freedom at least.
    check_against_the_bound(proof, 1.1 * band(1, 150, CHANCE)[1] ** 0.5)
    assert proof.wrong < 0.02


@pytest.mark.parametrize("scene", [{}, {"paths": 6}])
def test_users_in_a_volume_are_found(scene: dict) -> None:
    """The float solution tells their height to decimeters only: the minimum was outside of boxes that were cut to as
    many candidates as a plane needs, for 3 and 14 % of these fixes."""
    half = np.array([2.0, 2.0, 0.25])
    volume = {"lower": -half, "upper": half, "basis": np.eye(3), "validation_nmse": 1e-12}
    proof = proof_of(street(antennas=32, subcarriers=32, **volume, **scene), 5.0, 100)
    assert proof.failed == proof.wrong == 0
    low, high = band(3, proof.right, CHANCE)
    assert low < proof.nees < high
    assert proof.ratio < 1.1 * band(1, 100, CHANCE)[1] ** 0.5


LARGE = {"antennas": 64, "subcarriers": 64, "size": 10.0, "validation_nmse": 1e-12}


@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 5.0, 10.0, 20.0, 30.0])
@pytest.mark.parametrize(
    ("scene", "most_wrong"),
    [
        (LARGE, 0.0),
        (LARGE | {"line_of_sight": False, "paths": 6}, 0.0),
        (LARGE | {"gates": True}, 0.0),
        (LARGE | {"antennas": 32, "size": 5.0, "line_of_sight": False}, 0.0),
        # below their ambiguity threshold at the lowest ratios
        (LARGE | {"antennas": 16, "subcarriers": 16, "size": 6.0}, 0.25),
        (LARGE | {"paths": 2}, 0.25),
    ],
)
def test_errors_reach_the_bound_in_large_scenes(scene: dict, most_wrong: float, snr_db: float) -> None:
    proof = proof_of(street(**scene), snr_db, 600)
    check_against_the_bound(proof, 1.1)  # three and a half deviations of the mean of 600 squares above 1
    assert proof.wrong <= (most_wrong if snr_db <= 5.0 else 0.0)
    assert proof.wrong_ok <= 0.002


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


def test_noise_does_not_hide_searches_that_fail_among_edges() -> None:
    failures = 0
    for seed in (5, 13):
        model = twinned(deep_street(seed, sources=12), 8, seed).model(1e-4)
        truth = users(model, 100, seed=2)
        channels = add_noise(model.synthesize(truth), 0.0, seed=30)
        failures += search_failures(model, channels, Localizer(model).locate(channels), truth).sum()
    # 8 where errors of interpolation were forgotten from box to box, and not acted upon; now 1 or 2, as rounding has it
    assert failures <= 2


def test_edges_hide_neither_float_solutions_nor_minima() -> None:
    failures = 0
    for seed, user in ((0, 109), (1, 2), (4, 129), (14, 116), (15, 98)):
        model = twinned(deep_street(seed, sources=12), 8, seed).model(1e-4)
        truth = users(model, 150, seed=2)
        channels = add_noise(model.synthesize(truth), 5.0, seed=30)[user : user + 1]
        failures += search_failures(model, channels, Localizer(model).locate(channels), truth[user : user + 1]).sum()
    # all 5 where edges ended descents, and minima that moved did not tell how wrong their interpolated costs were
    assert failures <= 1  # rounding may decide


def test_edges_hide_no_minimum_beside_others() -> None:
    failures = 0
    for seed, user in ((5, 111), (7, 51), (27, 19), (28, 98), (31, 29), (33, 46)):
        model = twinned(deep_street(seed, sources=12), 8, seed).model(1e-4)
        truth = users(model, 150, seed=2)[user : user + 1]
        channels = add_noise(model.synthesize(users(model, 150, seed=2)), 5.0, seed=30)[user : user + 1]
        failures += search_failures(model, channels, Localizer(model).locate(channels), truth).sum()
    # all 6 where boxes at edges were as narrow as others, and minima were looked around only where costs were far off
    assert failures <= 1  # rounding may decide


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


@pytest.mark.parametrize("snr_db", [None, 5.0])
def test_covariances_know_the_error_of_a_learned_map(snr_db: float | None) -> None:
    scene = deep_street(0)
    known = scene.model()
    model = learned(scene, users(known, 300, seed=1))
    truth = users(known, 300, seed=2)
    clean = known.synthesize(truth)
    channels = clean if snr_db is None else add_noise(clean, snr_db, seed=3)
    proof = prove(model, channels, Localizer(model).locate(channels), truth, 5.0, known)
    # Noise alone, as the residual suggests it, would give 250 and 2.4. Which part of the model's error is one of the
    # paths' gains is not known: all of it is taken for that, so that errors are smaller than said rather than larger.
    assert proof.right > 290
    assert 0.3 < proof.nees < band(2, proof.right, CHANCE)[1]


def test_blocked_paths_do_not_send_fixes_to_another_minimum() -> None:
    scene = replace(deep_street(1, sources=8), leaves=((),) * 8)
    truth = users(scene.model(), 40, seed=[1, 5])
    fixes = Localizer(scene.model(1e-4)).locate(blocked(scene, truth, 0.3))
    wrong = errors(fixes, truth) > 0.03
    assert wrong.sum() <= 1  # by the model alone, without (23): 7
    assert not np.any(wrong & (fixes.status == Status.OK))


@pytest.mark.parametrize("strategy", ["float_fix", "off_grid_pi_ps"])
def test_the_covariance_is_that_of_its_equation(strategy: str, tmp_path: Path) -> None:
    model = street(antennas=8, subcarriers=8, paths=5, size=1.0, validation_nmse=1e-3)
    model.save(tmp_path / "model.safetensors")
    file = load_file(tmp_path / "model.safetensors")
    truth = users(model, 4)
    channels = add_noise(model.synthesize(truth), 25.0)
    fixes = Localizer(model, strategy).locate(channels)
    fitted, jacobian = model.synthesize(fixes.position, jacobian=True)
    offsets = model.antenna_positions - model.antenna_positions.mean(axis=0)
    wavenumbers = 2 * np.pi / C * model.frequencies
    gains = file["gain_coefficients"][:, 0] @ [1, 1j]
    sizes = []
    for row, x in enumerate(fixes.position):
        rays = x - file["source_positions"]
        distance = np.linalg.norm(rays[:, None] - offsets @ file["source_rotations"].swapaxes(1, 2), axis=2)
        waves = (gains[:, None] / distance)[..., None] * np.exp(-1j * distance[..., None] * wavenumbers)
        waves = waves.reshape(len(rays), -1)
        directions = rays @ model.region.basis.T / np.linalg.norm(rays, axis=1, keepdims=True)
        power, spread = 0.0, np.zeros((2, 2))
        for group in groups_of(waves):
            wave = waves[group].sum(axis=0)
            gradient = 2 * np.pi / WAVELENGTH * (waves[group].conj() @ wave) @ directions[group]
            power += np.sum(np.abs(wave) ** 2)
            spread += 0.5 * (np.outer(gradient.real, gradient.real) + np.outer(gradient.imag, gradient.imag))
            sizes.append(len(group))
        slopes = (model.region.basis @ jacobian[row].reshape(3, -1).astype(np.complex128)).T
        inverse = np.linalg.inv(np.real(slopes.conj().T @ slopes))
        rest = channels[row].astype(np.complex128) - fitted[row]
        cost, whole = np.sum(np.abs(rest) ** 2), np.sum(np.abs(channels[row].astype(np.complex128)) ** 2)
        structured = 8 / 7 * np.abs(np.sum(rest[:, 1:] * rest[:, :-1].conj()))
        error = np.clip(1e-3 * whole, structured - 4 * cost / 8, structured + 4 * cost / 8)
        wanted = 0.5 * cost / (64 - 1) * inverse + error / power * inverse @ spread @ inverse
        np.testing.assert_allclose(fixes.covariance[row, :2, :2], wanted, rtol=1e-3)  # float32 products of channels
    assert {1, 2} <= set(sizes)


def groups_of(waves: NDArray[np.complex128]) -> list[list[int]]:
    """Waves with those that they correlate with most, of the stronger ones that are like no other."""
    energy = np.sum(np.abs(waves) ** 2, axis=1)
    groups: list[list[int]] = []
    for i in np.argsort(-energy):
        like = [abs(np.vdot(waves[i], waves[group[0]])) ** 2 / energy[i] / energy[group[0]] for group in groups]
        if like and max(like) > 0.5:
            groups[int(np.argmax(like))].append(int(i))
        else:
            groups.append([int(i)])
    return groups


def test_the_covariance_does_not_depend_on_how_sources_share_a_wave() -> None:
    scene = deep_street(0, sources=12)
    shared = replace(
        scene,
        positions=np.tile(scene.positions, (2, 1)),
        rotations=np.tile(scene.rotations, (2, 1, 1)),
        gains=np.vstack((43.0 * scene.gains, -42.0 * scene.gains)),
        leaves=scene.leaves * 2,
    )
    truth = users(scene.model(), 20)
    channels = add_noise(scene.model().synthesize(truth), 20.0)
    fixes, others = (Localizer(one.model(1e-4)).locate(channels) for one in (scene, shared))
    np.testing.assert_allclose(others.position, fixes.position, atol=1e-4 * WAVELENGTH)
    scale = np.trace(fixes.covariance, axis1=1, axis2=2)[:, None, None]
    np.testing.assert_allclose(others.covariance / scale, fixes.covariance / scale, atol=1e-3)


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


@pytest.mark.parametrize("scene", [{"paths": 1}, {"paths": 2}, {"paths": 3, "gates": True, "line_of_sight": False}])
def test_few_paths_are_found_and_what_is_ambiguous_is_told(scene: dict) -> None:
    model = street(validation_nmse=1e-12, **scene)
    truth = users(model, 60)
    clean = model.synthesize(truth)
    localizer = Localizer(model)
    assert errors(localizer.locate(clean), truth).max() < 1e-4 * WAVELENGTH
    channels = add_noise(clean, 5.0, seed=1)
    fixes = localizer.locate(channels)
    assert not search_failures(model, channels, fixes, truth).any()
    # by more than the covariance knows of the right minimum
    nees = squared_errors_by_covariance(model, fixes, truth)
    assert not np.any((nees > chi2.ppf(1 - CHANCE / 60, 2)) & (fixes.status == Status.OK))


def test_batch_and_threads_do_not_change_a_bit() -> None:
    model = street()
    channels = add_noise(model.synthesize(users(model, 13)), 5.0)
    localizer = Localizer(model)
    wanted = localizer.locate(channels, threads=1)
    parts = [localizer.locate(channels[i : i + 4], threads=2) for i in range(0, 13, 4)]
    for name in ("position", "covariance", "status", "residual", "ambiguity", "float_position"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(wanted, name))


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
