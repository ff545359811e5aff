# SPDX-License-Identifier: Apache-2.0
"""Sources of arrays that consist of panels, docs/equations.md (24): found at one, float and fix at all of them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

import wavefix as wfx
from wavefix.propagation import FreeArray

pytest.importorskip("torch")

from wavefix.training.spherical.antennas import chosen_antennas, panels_of
from wavefix.training.spherical.cells import explained, plain_source
from wavefix.training.spherical.panels import Across, find_across, fixed, nearest_integers, preferred, rotation_of
from wavefix.training.spherical.state import Measured, Source

C = 299792458.0
CARRIER = 3.5e9
WAVELENGTH = C / CARRIER
ROW = (np.arange(8)[:, None] - 3.5) * WAVELENGTH / 2 * np.array([[0.0, 1.0, 0.0]])
BLOCK = np.array([[0.0, i, j] for i in range(4) for j in range(2)]) * WAVELENGTH / 2
SQUARE = [np.array([0.0, y, z]) for y in (-2.0, 2.0) for z in (-1.5, 1.5)]
ARRAYS = {
    "line": np.concatenate([ROW + np.array([0.0, y, 0.0]) for y in (-4.0, -1.5, 1.0, 4.0)]),
    "rows": np.concatenate([ROW + corner for corner in SQUARE]),
    "blocks": np.concatenate([BLOCK + corner for corner in SQUARE]),
    "volume": np.concatenate([ROW + corner + np.array([i % 3, 0.0, 0.0]) for i, corner in enumerate(SQUARE)]),
}
TURN = rotation_of(np.array([0.2, -0.3, 0.9]))
PLACE = np.array([-31.0, 12.0, 6.0])


def seen(array: str, sources: dict[tuple[float, ...], complex], n: int = 200, noise: float = 0.1) -> Measured:
    """Equation (1): sources with turns of their own, the first with ``TURN``, and noise, relative to the first."""
    rng = np.random.default_rng(2)
    offsets = ARRAYS[array] - ARRAYS[array].mean(axis=0)
    positions = rng.uniform(-0.7, 0.7, (n, 3)) * [1, 1, 0]
    frequencies = CARRIER + np.linspace(-25e6, 25e6, 16)
    channels = np.zeros((n, len(offsets), 16), complex)
    for number, (place, gain) in enumerate(sources.items()):
        at = np.array(place) + offsets @ (TURN @ rotation_of(number * np.array([1.0, 2.0, 0.0]))).T
        distance = np.linalg.norm(positions[:, None] - at, axis=-1)[..., None]
        channels += gain / distance * np.exp(-2j * np.pi * frequencies * distance / C)
    channels += noise * np.sqrt(0.5) / np.linalg.norm(PLACE) * rng.standard_normal((*channels.shape, 2)) @ [1, 1j]
    panel = panels_of(offsets, WAVELENGTH)
    return Measured(positions, channels.astype(np.complex64), offsets, frequencies, np.zeros(3), panel=panel)


def phase_error(source: Source, measured: Measured) -> np.ndarray:
    """Radians ``[n, A]`` by which the source's phases differ from those of the first one, but for a common phase."""
    at = PLACE + measured.offsets @ TURN.T
    truth = np.linalg.norm(measured.positions[:, None] - at, axis=-1)
    error = 2 * np.pi / WAVELENGTH * (source.rays(measured)[0] - truth)
    return np.asarray(error - np.median(error))


@pytest.mark.parametrize("array", ARRAYS)
def test_panels_are_antennas_that_lie_together(array: str) -> None:
    offsets = ARRAYS[array]
    panel = panels_of(offsets, WAVELENGTH)
    assert panel is not None
    np.testing.assert_array_equal(panel, np.repeat(np.arange(4), 8))
    order = np.random.default_rng(0).permutation(32)
    shuffled = panels_of(offsets[order], WAVELENGTH)
    assert shuffled is not None
    for number in range(4):
        assert len(np.unique(panel[order][shuffled == number])) == 1
    measured = seen(array, {tuple(PLACE): 1.0})
    few = measured.part(slice(None), chosen_antennas(measured, 8))
    np.testing.assert_array_equal(np.bincount(few.panel), 4)  # two would not tell directions


def test_no_panels() -> None:
    line = np.arange(32)[:, None] * WAVELENGTH / 2 * np.array([[0.0, 1.0, 0.0]])
    assert panels_of(line, WAVELENGTH) is None
    assert panels_of(20 * line, WAVELENGTH) is None  # each alone
    assert panels_of(np.concatenate([ROW, ROW[:3] + np.array([0, 9, 0])]), WAVELENGTH) is None
    assert panels_of(line[:1], WAVELENGTH) is None
    assert panels_of(np.repeat(20 * line[:2], 4, axis=0), WAVELENGTH) is None  # four at one place


@pytest.mark.parametrize("seed", range(5))
def test_nearest_integers_are_those_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.standard_normal((3, 3)) * [0.2, 0.5, 1.5]
    covariance, values = shape.T @ shape + 0.01 * np.eye(3), rng.uniform(-3, 3, 3)
    inverse = np.linalg.inv(covariance)

    def distance(whole: np.ndarray) -> float:
        return float((values - whole) @ inverse @ (values - whole))

    every = sorted(distance(np.array(whole)) for whole in itertools.product(range(-10, 11), repeat=3))
    found = [distance(whole) for whole in nearest_integers(values, covariance)]
    np.testing.assert_allclose(found[:5], every[:5], rtol=1e-9)
    assert found == sorted(found)


@pytest.mark.parametrize("array", ["line", "rows", "blocks", "volume"])
def test_a_float_solution_is_right_at_each_panel_whatever_the_phases_between_them(array: str) -> None:
    measured = seen(array, {tuple(PLACE): 1.0})
    phases = np.exp(1j * np.array([0.0, 2.0, -1.0, 3.0]))
    turned = measured.with_channels((measured.channels * phases[measured.panel][:, None]).astype(np.complex64))
    start = plain_source(PLACE + np.array([0.03, -0.05, 0.04]), rotation_of(np.array([0.004, 0.003, -0.002])) @ TURN)
    across = Across(turned)
    one = across.float_solution(start)
    size = np.abs(turned.channels).astype(float).ravel()
    assert one.left / (size @ size) == pytest.approx(0.01, rel=0.1)  # the noise
    # less a phase that each panel has to itself, which range and turn of the source can make up for
    error = phase_error(one.source, turned)
    for number in range(4):
        own = error[:, turned.panel == number]
        assert np.std(own) < 0.05
        gain = one.gains[number] * np.exp(-1j * own.mean())
        expected = one.gains[0] * np.exp(-1j * error[:, turned.panel == 0].mean()) * phases[number]
        assert abs(gain / expected - 1) < 0.05
    # without noise that is not white, the covariance of position and turn is right but for the doubt of 3 ** 2
    assert np.all(np.linalg.eigvalsh(across.covariance(one)) > 0)


@pytest.mark.parametrize("array", ["line", "rows", "blocks", "volume"])
def test_a_fix_has_the_right_number_of_cycles_between_panels(array: str) -> None:
    measured = seen(array, {tuple(PLACE): 1.0, (35.0, 20.0, -4.0): 0.4}, n=80)
    # a degree or two, that a panel alone does not notice
    start = plain_source(PLACE, rotation_of(np.array([0.025, 0.02, -0.03])) @ TURN)
    assert np.abs(phase_error(start, measured)).max() > 1.0
    found = preferred(fixed(start, measured), lambda one: explained(one, measured)[1])
    assert found is not None
    assert np.abs(phase_error(found[0], measured)).max() < 1.0
    assert found[1] == pytest.approx(1 / 1.17, abs=0.04)  # of the first source, the second and the noise


@pytest.mark.parametrize("array", ["line", "rows", "blocks", "volume"])
def test_a_source_is_found_at_one_panel_and_placed_at_all(array: str) -> None:
    measured = seen(array, {tuple(PLACE): 1.0, (35.0, 20.0, -4.0): 0.3, (-10.0, -60.0, 8.0): 0.3})
    right = 0
    for seed in range(4):
        found = find_across(measured, lambda one: explained(one, measured)[1], np.random.default_rng(seed))
        assert found is not None
        again = preferred(fixed(found[0], measured), lambda one: explained(one, measured)[1])
        assert again is not None
        right += np.abs(phase_error(again[0], measured)).max() < 1.0
    assert right >= 3


def test_a_panel_that_is_dead_breaks_nothing() -> None:
    measured = seen("rows", {tuple(PLACE): 1.0})
    measured.channels[:, measured.panel == 1] = 0
    for seed in range(4):
        found = find_across(measured, lambda one: 0.0, np.random.default_rng(seed))
        assert found is None or np.isfinite(found[1])
    assert find_across(measured.with_channels(0 * measured.channels), lambda one: 0.0, np.random.default_rng(0)) is None


def square() -> wfx.Scene:
    """The direct path, ground and a house front."""
    scene = wfx.Scene.named("plaza").with_(subcarriers=8, region_size=1.0, max_bounces=1)
    middle = scene.antenna_positions.mean(axis=0)
    return scene.with_(walls=scene.walls[:2], array=FreeArray(tuple(ARRAYS["rows"] + middle)))


def test_a_fit_of_four_panels() -> None:
    model = wfx.fit(wfx.simulate(square(), n=200, seed=0), max_rounds=2, progress=False)
    # found by beams of all antennas, seven sources left -17 dB
    assert 10 * np.log10(model.validation_nmse) < -30


def test_phases_that_are_normalized_per_location_are_noticed() -> None:
    data = wfx.simulate(square(), n=120, seed=0)
    turned = data.channels * np.exp(-1j * np.angle(data.channels[:, :1, :1]))
    with pytest.raises(wfx.DataError, match="normalized"):
        wfx.fit(replace(data, channels=turned.astype(np.complex64)), max_rounds=2, progress=False)
