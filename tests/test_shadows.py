# SPDX-License-Identifier: Apache-2.0
"""Paths that go on, weaker, where their source is not seen, are copies of it there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from damaged_maps import Edge
from wavefix.training.spherical.shadows import shadows
from wavefix.training.spherical.state import Gate, Measured, Source, add, energy, residual

Leaves = tuple[tuple[int, ...], ...]
UPRIGHT = Edge(np.zeros(3), 0.3, np.array([0.0, 0.0, 1.0]), 1e4)  # seen from a source, it halves the zone


@st.composite
def trees(draw: st.DrawFn, lines: int = 0, depth: int = 3) -> tuple[Leaves, int]:
    """Lit leaves of a tree of splits, and the number of its lines."""
    if depth == 0 or draw(st.booleans()):
        return (((),) if draw(st.booleans()) else ()), lines
    own = lines + 1
    above, lines = draw(trees(own, depth - 1))
    below, lines = draw(trees(lines, depth - 1))
    leaves = [(own, *leaf) for leaf in above] + [(-own, *leaf) for leaf in below]
    return tuple(leaves), lines


def lit(leaves: Leaves, above: np.ndarray) -> int:
    """How many of the leaves hold a point that is above the lines so marked."""
    return sum(all(above[abs(line) - 1] == (line > 0) for line in leaf) for leaf in leaves)


@settings(deadline=None)
@given(trees(), st.integers(0, 2**32 - 1))
def test_every_point_is_in_one_leaf_of_a_gate_or_of_its_complement(tree: tuple[Leaves, int], seed: int) -> None:
    leaves, lines = tree
    gate = Gate(np.zeros((lines, 6)), leaves)
    for above in np.random.default_rng(seed).random((20, max(lines, 1))) < 0.5:
        assert lit(gate.leaves, above) + lit(gate.complement.leaves, above) == 1


def room(paths: list[Source], n: int = 400) -> Measured:
    rng = np.random.default_rng(0)
    positions = rng.uniform(-2, 2, (n, 3)) * [1, 1, 0]
    offsets = np.arange(-3.5, 4)[:, None] * 0.043 * np.array([[0.6, 0.8, 0.0]])
    frequencies = 3.5e9 + np.linspace(-25e6, 25e6, 8)
    noise = 1e-4 * rng.standard_normal((n, 8, 8, 2)) @ [1, 1j]
    out = Measured(positions, noise.astype(np.complex64), offsets, frequencies, np.zeros(3))
    add(paths, out)
    return out


def half(position: list[float], gain: complex) -> Source:
    place = np.array(position)
    gate = Gate(UPRIGHT.line(place)[None], ((1,),))
    return Source(place, np.eye(3), np.zeros((2, 4)), np.array([gain]), 0, gate)


def test_a_path_through_a_partition_is_found_behind_it() -> None:
    measured = room([])
    front, other = half([20.0, 5.0, 1.0], 20.0), half([-3.0, 30.0, 2.0], 20.0)
    seen = front.gate_values(measured)
    assert 0.2 < seen.mean() < 0.8
    behind = replace(front, gate=front.gate.complement, coefficients=front.coefficients * (0.2 - 0.1j))
    left = residual([front, other], room([front, behind, other]))
    found = shadows([other, front], left, 0.1 * energy(left.channels))
    assert [number for _, number, _ in found] == [1]
    gain, _, copy = found[0]
    assert copy.coefficients[0] == pytest.approx(behind.coefficients[0], rel=1e-2)
    assert gain == pytest.approx(energy(left.channels), rel=1e-2)
    np.testing.assert_allclose(copy.gate_values(measured), 1.0 - seen, atol=1e-6)  # of float32


def test_a_path_that_ends_at_its_edge_has_no_shadow() -> None:
    front = half([20.0, 5.0, 1.0], 20.0)
    left = residual([front], room([front]))
    assert shadows([front], left, 0.0) == []  # noise is explained a little by anything
    assert shadows([replace(front, gate=Gate())], left, 0.0) == []
