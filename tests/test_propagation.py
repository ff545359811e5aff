# SPDX-License-Identifier: Apache-2.0
"""The image method against an oracle written from the equations, closed forms and invariants."""

import numpy as np
import pytest

import wavefix as wfx
from reference import propagation as oracle


def relative_error(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(("name", "antennas", "n"), [("box", 3, 6), ("room", 3, 3), ("plaza", 2, 3), ("canyon", 2, 2)])
def test_channels_match_the_oracle(name, antennas, n):
    scene = Scene.named(name).with_(subcarriers=5, antennas=antennas)
    data = wfx.simulate(scene, n, seed=1)
    expected, line_of_sight = oracle.channels(oracle.scene_of(scene), data.positions)
    assert np.linalg.norm(expected) > 0
    for got, want in zip(data.channels, expected, strict=True):
        assert relative_error(got, want) <= 1e-6  # complex64 rounds at 6e-8; the oracle's phase of 1e4 rad at 1e-12
    np.testing.assert_array_equal(data.line_of_sight, line_of_sight)
