# SPDX-License-Identifier: Apache-2.0
"""Gates while sources move: shadows stay where they were seen, and do not hold the sources, (18) and (19)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from test_twins import behind_a_wall, wall
from wavefix.training.spherical import edges, gates, system
from wavefix.training.spherical.state import Gate, Measured, Source, project, residual


def turned(source: Source, vector: tuple[float, float, float]) -> Source:
    from scipy.spatial.transform import Rotation

    return replace(source, rotation=Rotation.from_rotvec(vector).as_matrix() @ source.rotation)


def hidden() -> tuple[Source, Measured]:
    """The first of two paths, with its gate, and what is measured of it alone."""
    (source, other), measured = behind_a_wall()
    alone = residual([replace(other, gate=_gate([source, other], measured))], measured)
    projected = project(source, alone)
    return replace(source, gate=gates.grow(source, alone, projected, 1e-3 * alone.energy, 4)), alone


def _gate(pair: list[Source], measured: Measured) -> Gate:
    return gates.grow_together(pair, measured, 1e-3 * measured.energy, 4)


def mismatch(source: Source, other: Source, measured: Measured) -> float:
    return float(np.mean((source.gate_values(measured) > 0.5) != (other.gate_values(measured) > 0.5)))


def test_shadows_stay_where_they_are_when_a_source_moves() -> None:
    source, measured = hidden()
    moved = turned(replace(source, position=source.position + np.array([2.0, -1.0, 1.0])), (0.02, -0.03, 0.05))
    assert mismatch(moved, source, measured) > 0.02
    assert mismatch(system.shaded_as(moved, source, measured), source, measured) < 1e-3
    assert system.shaded_as(moved, replace(source, gate=Gate()), measured).gate.trivial
    again = system.shaded_as(source, source, measured)
    np.testing.assert_allclose(again.gate.lines, source.gate.lines, rtol=1e-6)


def test_a_shadow_does_not_hold_its_source_in_a_wrong_place() -> None:
    source, measured = hidden()
    least = residual([source], measured).energy
    wrong = turned(replace(source, position=source.position + np.array([0.05, 0.03, 0.4])), (0.0, 0.02, 0.01))
    found, cost = system.refine([system.shaded_as(wrong, source, measured)], measured, 40, least_gain=1e-6)
    left = residual(found, measured).energy
    assert left < 4 * least
    assert cost == pytest.approx(left, rel=0.5)
    assert mismatch(found[0], source, measured) < 1e-3


def test_a_tree_that_grew_with_a_wrong_gain_is_one_line_again() -> None:
    source, measured = hidden()
    lit = np.flatnonzero(wall(source, measured).all(axis=1))
    part = measured.part(lit[measured.positions[lit, 0] < np.median(measured.positions[lit, 0])])
    line = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])  # upright, through the middle of the zone
    bare = system.fit_gains([replace(source.with_degree(2, part), gate=Gate())], part)[0]
    cut = replace(bare, gate=Gate(np.stack([source.gate.lines[0], 1e3 * line]), ((*source.gate.leaves[0], 2),)))
    found = edges.regate([cut], measured, 1e-3, 4, np.random.default_rng(0))
    assert len(found[0].gate.lines) == 1
    assert residual(found, measured).energy < 0.2 * residual([cut], measured).energy
    assert mismatch(found[0], source, measured) < 1e-2
