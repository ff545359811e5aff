# SPDX-License-Identifier: Apache-2.0
"""A source that is two, a path and its mirror image in the ground, is told from one that is one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from wavefix.training.spherical.state import Measured, Source, add, energy, residual
from wavefix.training.spherical.system import refine
from wavefix.training.spherical.twins import split

BESIDE = np.array([60.0, 15.0, 7.5])  # the ground is 1.5 m below the users
BELOW = np.array([60.0, 15.0, -10.5])


def street(gains: dict[tuple[float, ...], complex], n: int = 500) -> Measured:
    rng = np.random.default_rng(0)
    positions = rng.uniform(-3, 3, (n, 3)) * [1, 1, 0]
    offsets = np.arange(-7.5, 8)[:, None] * 0.043 * np.array([[0.6, 0.8, 0.0]])
    frequencies = 3.5e9 + np.linspace(-25e6, 25e6, 16)
    noise = 1e-4 * rng.standard_normal((n, 16, 16, 2)) @ [1, 1j]
    out = Measured(positions, noise.astype(np.complex64), offsets, frequencies, np.zeros(3))
    add([plain(np.array(place), gain) for place, gain in gains.items()], out)
    return out


def plain(position: np.ndarray, gain: complex) -> Source:
    return Source(position, np.eye(3), np.zeros((2, 4)), np.array([gain]), 0)


def test_a_path_and_its_mirror_image_are_told_apart() -> None:
    measured = street({tuple(BESIDE): 60.0 + 0j, tuple(BELOW): -30.0 + 12j})
    merged, cost = refine([plain((BESIDE + BELOW) / 2, 30.0 + 0j)], measured, 30, least_gain=1e-6)
    left = residual(merged, measured)
    pair, gain = split(merged[0], left, 0.01 * cost, np.random.default_rng(1))
    assert len(pair) == 2
    after = energy(residual(pair, measured).channels)
    assert cost - after == pytest.approx(gain, rel=0.2)  # of 120 of the 500 locations
    assert after < 0.02 * cost
    heights = sorted(abs(one.position[2]) for one in pair)  # users in one plane cannot tell above from below
    assert heights == pytest.approx([7.5, 10.5], abs=0.1)


def test_one_source_stays_one() -> None:
    measured = street({tuple(BESIDE): 60.0 + 0j})
    one, _ = refine([plain(BESIDE + np.array([0.2, 0.1, 0.3]), 60.0 + 0j)], measured, 30, least_gain=1e-6)
    left = residual(one, measured)
    same, gain = split(one[0], left, 0.01 * energy(left.channels), np.random.default_rng(1))
    assert same[0] is one[0]
    assert len(same) == 1
    assert gain == 0.0
