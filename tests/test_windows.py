# SPDX-License-Identifier: Apache-2.0
"""Paths behind windows so narrow that few antennas of a location see them at a time."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from numpy.typing import NDArray

from test_twins import plain
from wavefix.training.spherical.state import Measured, Source, add, residual
from wavefix.training.spherical.windows import through_windows

PARENT = plain(np.array([-6.0, 1.0, 1.0]), 5.0 + 0j)
MIRROR = np.array([0.1, 1.0, 0.0]) / np.hypot(0.1, 1.0)  # normal of the end of a wall
PLACE = np.array([-3.0, 0.3])  # of it
NOISE = 1e-3


def image() -> Source:
    step = 2 * ((np.append(PLACE, 0.0) - PARENT.position) @ MIRROR) * MIRROR
    turned = np.eye(3) - 2 * np.outer(MIRROR, MIRROR)
    return Source(PARENT.position + step, turned, np.zeros((2, 4)), np.array([3.0 - 2.0j]))


def room(width: float, n: int = 1500) -> tuple[Measured, NDArray[np.bool_]]:
    """What is measured besides the parent: the image where rays pass an opening of ``width``, and noise."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(-2.5, 2.5, (n, 3)) * [1, 1, 0]
    offsets = np.arange(-15.5, 16)[:, None] * 0.043 * np.array([[0.0, 1.0, 0.0]])
    frequencies = 3.5e9 + np.linspace(-25e6, 25e6, 16)
    noise = NOISE * rng.standard_normal((n, 32, 16, 2)) @ [1, 1j]
    out = Measured(positions, noise.astype(np.complex64), offsets, frequencies, np.zeros(3))
    one = image()
    arms = one.arms(offsets)
    share = (PLACE[0] - arms[:, 0]) / (positions[:, None, 0] - arms[:, 0])
    passed = arms[:, 1] + share * (positions[:, None, 1] - arms[:, 1])
    lit = np.abs(passed - PLACE[1]) < width / 2
    sent = out.with_channels(np.zeros_like(out.channels))
    add([one], sent)
    out.channels[...] += sent.channels * lit[..., None]
    add([PARENT], out)
    return out, lit


def test_a_path_that_three_antennas_of_a_location_see_is_found() -> None:
    measured, lit = room(0.1)
    assert 0.02 < lit.any(axis=1).mean() < 0.4
    assert lit[lit.any(axis=1)].sum(axis=1).mean() < 8
    before = residual([PARENT], measured).energy
    found = through_windows([PARENT], measured, 3)
    assert len(found) == 2
    assert found[0] is PARENT
    assert residual(found, measured).energy < 0.25 * before
    seen = found[1].gate_values(measured) > 0.5
    assert np.count_nonzero(seen & lit) > 0.85 * np.count_nonzero(lit)
    assert np.count_nonzero(seen & ~lit) < 0.15 * np.count_nonzero(lit)


@pytest.mark.parametrize("width", [0.0, 2.0])
def test_what_many_antennas_see_or_none_is_left_to_others(width: float) -> None:
    measured, _ = room(width)
    assert through_windows([PARENT], measured, 3) == [PARENT]
