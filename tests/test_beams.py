# SPDX-License-Identifier: Apache-2.0
"""Beams of a fit, docs/equations.md (20): focused where an array is so long that waves are curved over it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import wavefix as wfx

torch = pytest.importorskip("torch")

from wavefix.training.spherical.beams import Beams, DelayProfile, neighboring, strongest  # noqa: E402
from wavefix.training.spherical.cells import at_aliases, plain_source  # noqa: E402
from wavefix.training.spherical.search import grow, nearest  # noqa: E402
from wavefix.training.spherical.state import Measured, add  # noqa: E402

C = 299792458.0
CARRIER = 3.5e9
HALF = 0.5 * C / CARRIER
FREQUENCIES = CARRIER + np.linspace(-25e6, 25e6, 32)


def line(count: int) -> np.ndarray:
    return (np.arange(count)[:, None] - (count - 1) / 2) * HALF * np.array([[0.0, 1.0, 0.0]])


def seen(offsets: np.ndarray, source: np.ndarray, users: int = 6) -> Measured:
    """Equation (1) of a user in a small cell as the source's array, at `source`, sees it."""
    positions = np.random.default_rng(1).uniform(-0.2, 0.2, (users, 3)) * [1, 1, 0]
    distance = np.linalg.norm(positions[:, None] - (source + offsets), axis=-1)
    channels = np.exp(-2j * np.pi * FREQUENCIES * distance[..., None] / C)
    return Measured(positions, channels.astype(np.complex64), offsets, FREQUENCIES, np.zeros(3))


@pytest.mark.parametrize("count", [16, 64, 128])
@pytest.mark.parametrize("distance", [18.0, 25.0, 90.0])
def test_the_strongest_beam_is_where_the_wave_comes_from(count, distance):
    angle = 0.5
    source = -distance * np.array([np.cos(angle), np.sin(angle), 0.0])
    measured = seen(line(count), source)
    beams, profile = Beams.of(measured), DelayProfile.of(measured)
    peak = strongest(profile, beams)
    assert len(peak.directions) == 1
    spacing = 2 / (len(beams.directions) - 1)
    assert abs(peak.directions[0][0] - np.sin(angle)) < 2 * spacing  # one more where the length is between two delays
    assert abs(peak.length - distance) < profile.resolution / 2
    # of all antennas and subcarriers: what a direction and a delay between two of those looked at leave
    share = np.abs(peak.values).mean() / measured.channels[0].size
    assert share > 0.6
    power = np.abs(np.einsum("ba,nat->nbt", beams.steering, profile.values)).max(axis=(1, 2))
    plane = power.mean() / measured.channels[0].size
    if count == 128 and distance < 30:  # the Fraunhofer distance of the array is 702 m
        assert plane < 0.65 * share
    else:
        assert plane < 1.01 * share


def test_a_wave_along_antennas_half_a_wavelength_apart_may_come_from_either_end():
    for end in (-1.0, 1.0):
        measured = seen(line(8), end * np.array([0.0, 30.0, 0.0]))
        peak = strongest(DelayProfile.of(measured), Beams.of(measured))
        np.testing.assert_allclose(sorted(float(one[0]) for one in peak.directions), [-1, 1])
    square = np.array([[0.0, i, j] for i in range(6) for j in range(6)]) * HALF
    measured = seen(square - square.mean(axis=0), np.array([0.0, -30.0, 0.0]))
    ends = sorted(strongest(DelayProfile.of(measured), Beams.of(measured)).directions, key=lambda one: one @ one)[-2:]
    np.testing.assert_allclose(np.abs(ends[0] @ ends[1]), 1.0, atol=0.1)


def test_focused_beams_are_those_of_plane_waves_from_far_away():
    beams = Beams.of(seen(line(64), np.array([-30.0, 0.0, 0.0])))
    np.testing.assert_allclose(beams.focused(1e6), beams.steering, atol=1e-4)
    assert not beams.curved(1e3)
    assert beams.curved(20.0)
    panels = np.concatenate([line(8) + np.array([0.0, y, z]) for y in (-2, 2) for z in (-1.5, 1.5)])
    assert not Beams.of(seen(panels, np.array([-30.0, 0.0, 0.0]))).curved(20.0)  # too many beams


def test_antennas_next_to_each_other_are_looked_at_where_the_array_is_too_long():
    rng = np.random.default_rng(0)

    def chosen(offsets: np.ndarray, distance: float) -> np.ndarray | None:
        measured = seen(offsets, np.array([-distance, 0.0, 0.0]))
        return neighboring(measured, DelayProfile.of(measured), rng)

    assert chosen(line(64), 25.0) is None
    resolution = C / 50e6
    for distance, longest in ((60.0, 1.5 * resolution), (6.0, 0.5 * 1.5 * resolution)):
        near = chosen(line(512), distance)
        assert near is not None
        np.testing.assert_array_equal(np.diff(near), 1)
        assert 0.3 < np.ptp(line(512)[near, 1]) <= longest
    # antennas that are each alone have no neighbors: all of them, although they are far apart
    assert chosen(np.array([[0.0, 0, 0], [0.0, 20, 0], [0.0, 40, 0]]) - [0, 20, 0], 25.0) is None


def test_sources_are_found_by_an_array_as_long_as_its_distance():
    scene = wfx.Scene.named("plaza").with_(antennas=256, subcarriers=16, region_size=2.5)
    model = wfx.fit(wfx.simulate(scene, n=300, seed=0), max_rounds=2, progress=False)
    assert 10 * np.log10(model.validation_nmse) < -8  # without focused beams it was refused: no source explains it


@pytest.mark.parametrize("alias", [-1, 0, 1, 2])
def test_a_source_is_as_far_away_as_the_curvature_of_its_wave_tells(alias: int) -> None:
    period = C / (FREQUENCIES[1] - FREQUENCIES[0])
    direction = np.array([0.8, 0.55, 0.24]) / np.linalg.norm([0.8, 0.55, 0.24])
    distance = 80.0 if alias >= 0 else 230.0
    few, rng = np.arange(1, 32, 4), np.random.default_rng(0)
    measured = Measured(
        rng.uniform(-1.25, 1.25, (300, 3)) * [1, 1, 0],
        np.zeros((300, 8, 32), np.complex64),
        line(32)[few],
        FREQUENCIES,
        np.zeros(3),
    )
    add([replace(plain_source(distance * direction, np.eye(3)), coefficients=np.array([50.0 + 0j]))], measured)
    start = plain_source((distance + alias * period) * direction, np.eye(3))
    assert len(at_aliases(start, measured, period)) == 3
    found = grow(start, measured, nearest(measured.positions, 12), rng)
    assert np.linalg.norm(found.position) == pytest.approx(distance, rel=0.02)
