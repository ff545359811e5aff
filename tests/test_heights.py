# SPDX-License-Identifier: Apache-2.0
"""Paths and their images in floor and ceiling: at the heights that the strongest ones have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from test_twins import BELOW, BESIDE, past_a_wall, plain
from wavefix.training.spherical.divisions import divide
from wavefix.training.spherical.gates import grow_together
from wavefix.training.spherical.heights import at_heights, heights_of, one_above_another
from wavefix.training.spherical.sides import either_side
from wavefix.training.spherical.state import Measured, Source, add, residual
from wavefix.training.spherical.system import fit_gains, shaded_as
from wavefix.training.spherical.twins import refined_where_seen

THROUGH = 0.8 * np.exp(1.2j)  # of the gain, beyond the edge
HEIGHTS = [7.5, 10.5]
AWAY = np.array([-14.0, 6.0, 0.0])  # near enough for heights to be told apart
SHARE = 0.02


def through_a_wall(n: int = 900, through: complex = THROUGH) -> tuple[list[Source], Measured]:
    """A path and its image in the ground, and what is measured where a wall is in their way and where it is not."""
    both = [plain(BESIDE, 60.0 + 0j), plain(BELOW, -30.0 + 12j)]
    return both, past_a_wall(both, through, n)


def as_one(measured: Measured) -> list[Source]:
    """Both paths as if they were one, on either side of the wall's edge."""
    shaded = past_a_wall([plain(BESIDE, 60.0 + 0j)], 0.0, 900)
    edge = grow_together([plain(BESIDE, 60.0 + 0j)], shaded, 1e-3 * shaded.energy, 4)
    middle = plain((BESIDE + BELOW * [1, 1, -1]) / 2, 60.0 + 0j)
    pair = [
        shaded_as(one, replace(plain(BESIDE, 60.0 + 0j), gate=one.gate), shaded) for one in either_side(middle, edge)
    ]
    return refined_where_seen(fit_gains(pair, measured), measured, np.random.default_rng(0))


def heights(sources: list[Source]) -> list[float]:
    return sorted(abs(float(one.position[2])) for one in sources)


def test_sources_one_above_another_are_related() -> None:
    both, measured = through_a_wall(100)
    aside = plain(BESIDE + np.array([0.0, 8.0, 0.0]), 30.0 + 0j)
    groups = one_above_another([aside, *both], measured)
    assert [[one is aside for one in group] for group in groups] == [[False, False], [True]]
    assert groups[0][0] is both[0]


def test_heights_are_those_of_different_places() -> None:
    """Users in one plane cannot tell above from below, others can."""
    _, measured = through_a_wall(100)
    above, below, piece, mirrored = (plain(AWAY + height * np.eye(3)[2], 1.0) for height in (7.5, -10.5, 7.52, -7.5))
    assert heights_of([above, piece, mirrored, below], measured) == pytest.approx(HEIGHTS)
    assert heights_of([below], measured) == pytest.approx(HEIGHTS[1:])
    volume = replace(measured, positions=measured.positions + np.linspace(0, 2, 100)[:, None] * np.eye(3)[2])
    assert heights_of([above, piece, mirrored, below], volume) == pytest.approx([7.5, -7.5, -10.5])


def test_images_that_were_one_are_found_at_known_heights() -> None:
    _, measured = through_a_wall()
    merged = as_one(measured)
    left = residual(merged, measured)
    assert left.energy > 0.05 * measured.energy
    found = at_heights(merged, HEIGHTS, left, SHARE, 3e-5 * measured.energy, np.random.default_rng(0))
    assert len(found) == 4
    assert heights(found) == pytest.approx([7.5, 7.5, 10.5, 10.5], abs=0.2)
    assert residual(found, measured).energy < 0.02 * left.energy


def test_hopeless_heights_change_nothing() -> None:
    both, measured = through_a_wall(through=1.0)
    left = residual(both, measured)
    for wrong in ([30.0, 40.0], [0.0]):
        found = at_heights(both, wrong, left, SHARE, 3e-5 * measured.energy, np.random.default_rng(0))
        assert all(one is other for one, other in zip(found, both, strict=True))


def test_images_have_the_heights_of_the_strongest_path() -> None:
    """In a division of all sources, with the strongest path and its image elsewhere."""
    _, measured = through_a_wall()
    leaders = [
        plain(AWAY + height * np.eye(3)[2], gain) for height, gain in zip(HEIGHTS, (70.0 + 0j, 25j), strict=True)
    ]
    add(leaders, measured)
    sources = [*as_one(residual(leaders, measured)), *leaders]
    left = residual(sources, measured).energy
    found = divide(sources, measured, 0.05, 8, np.random.default_rng(0))
    assert residual(found, measured).energy < 0.02 * left
    assert heights([one for one in found if one.position[0] > 0]) == pytest.approx([7.5, 7.5, 10.5, 10.5], abs=0.2)
