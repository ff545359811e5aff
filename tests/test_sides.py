# SPDX-License-Identifier: Apache-2.0
"""Paths that a thin wall dims and delays: a source for either side of its edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from test_twins import BELOW, BESIDE, moved_line, past_a_wall, plain, wall
from wavefix.training.spherical.divisions import Worth, _divided_each, divide
from wavefix.training.spherical.gates import grow_together
from wavefix.training.spherical.paths import noise_of
from wavefix.training.spherical.sides import complement, divided_at, either_side, sharpened, steps_at_edge, within
from wavefix.training.spherical.state import Gate, Measured, Source, project, residual
from wavefix.training.spherical.system import fit_gains, gains_at_one_place
from wavefix.training.spherical.twins import refined_where_seen

THROUGH = 0.8 * np.exp(1.2j)  # of the gain, beyond the edge
SHARE = 0.05


def beyond_a_wall(through: complex, n: int = 900) -> tuple[Source, Measured]:
    """A path, and what is measured of it where the wall is in its way and where it is not."""
    source = plain(BESIDE, 60.0 + 0j)
    return source, past_a_wall([source], through, n)


def check_both_sides(found: list[Source], measured: Measured) -> None:
    assert len(found) == 2
    assert residual(found, measured).energy < 0.01 * measured.energy
    free = max(found, key=lambda one: abs(np.mean(one.amplitudes(measured, gated=False))))
    other = found[found[0] is free]
    for one, lit in ((free, wall(free, measured)), (other, ~wall(other, measured))):
        assert np.mean((one.gate_values(measured) > 0.5) != lit) < 5e-3
    ratio = np.mean(other.amplitudes(measured, gated=False) / free.amplitudes(measured, gated=False))
    assert ratio == pytest.approx(THROUGH, abs=0.05)


def test_a_complement_is_dark_where_the_gate_is_lit() -> None:
    source, measured = beyond_a_wall(0.0)
    line = grow_together([source], measured, 1e-3 * measured.energy, 4).lines[0]
    lines = np.array([moved_line(line * 3.0 / np.abs(line).max(), across) for across in (-0.5, 0.0, 0.5)])  # and soft
    leaves = ((1, 2), (1, -2, 3), (-1, -3))

    def values(gate: Gate) -> np.ndarray:
        return np.asarray(replace(source, gate=gate).gate_values(measured))

    gate, other = Gate(lines, leaves), Gate(lines[::-1].copy(), ((1,),))
    assert 0.05 < values(gate).mean() < 0.95
    # the core's sigmoids are those of float
    np.testing.assert_allclose(values(gate) + values(complement(gate)), 1.0, atol=1e-5)
    np.testing.assert_allclose(values(within(gate, other)), values(gate) * values(other), atol=1e-5)
    assert complement(Gate()).dark
    assert complement(complement(Gate())).trivial


def test_a_path_that_a_wall_dims_becomes_two_sources() -> None:
    source, measured = beyond_a_wall(THROUGH)
    one = fit_gains([source], measured)
    assert residual(one, measured).energy > 0.1 * measured.energy
    check_both_sides(divide(one, measured, SHARE, 8, np.random.default_rng(0)), measured)


@pytest.mark.parametrize("turn", [1.2, 2.0, 3.1])
def test_a_gain_that_smoothed_the_step_does_not_hide_it(turn: float) -> None:
    source, measured = beyond_a_wall(0.8 * np.exp(1j * turn))
    rng = np.random.default_rng(0)
    (smooth,) = refined_where_seen([source.with_degree(4, measured)], measured, rng)
    assert residual([smooth], measured).energy > 0.03 * measured.energy
    found = divide([smooth], measured, SHARE, 1, rng)
    assert len(found) == 2
    assert residual(found, measured).energy < 1e-5 * measured.energy


def test_an_edge_of_another_source_is_known() -> None:
    source, measured = beyond_a_wall(THROUGH)
    _, shaded = beyond_a_wall(0.0)
    edge = grow_together([source], shaded, 1e-3 * shaded.energy, 4)
    aside = Gate(np.array([moved_line(line, 0.4) for line in edge.lines]), edge.leaves)
    projected = project(source, measured)
    least = SHARE * measured.energy
    pair = divided_at(source, [aside, edge], projected, measured, least)
    assert pair is not None
    assert np.array_equal(pair[0].gate.lines, edge.lines)
    check_both_sides(pair, measured)
    _, free = beyond_a_wall(1.0)
    assert divided_at(source, [aside, edge], project(source, free), free, least) is None


def test_waves_step_at_a_wall_and_not_where_two_make_up_for_a_wrong_place() -> None:
    source, measured = beyond_a_wall(THROUGH)
    _, shaded = beyond_a_wall(0.0)
    edge = grow_together([source], shaded, 1e-3 * shaded.energy, 4)
    assert steps_at_edge(fit_gains(either_side(source, edge), measured), measured)
    _, free = beyond_a_wall(1.0)
    near, far = either_side(source, edge)
    moved = replace(far, position=far.position + np.array([0.1, 0.05, 0.2]))
    assert not steps_at_edge(fit_gains([near, moved], free), free)


def test_gains_at_one_place_are_those_of_all_subcarriers() -> None:
    source, measured = beyond_a_wall(THROUGH)
    _, shaded = beyond_a_wall(0.0)
    edge = grow_together([source], shaded, 1e-3 * shaded.energy, 4)
    pair = either_side(source.with_degree(2, measured), edge)
    found, explained = gains_at_one_place(pair, project(source, measured), measured.places())
    wanted = fit_gains(pair, measured)
    left = residual(wanted, measured).energy
    assert residual(found, measured).energy == pytest.approx(left, rel=1e-3, abs=1e-6 * measured.energy)
    assert explained == pytest.approx(measured.energy - left, rel=1e-4)


def test_what_is_behind_an_edge_is_looked_for() -> None:
    source, measured = beyond_a_wall(THROUGH)
    _, free = beyond_a_wall(0.0)
    gate = grow_together([source], free, 1e-3 * free.energy, 4)
    assert len(gate.lines) == 1
    check_both_sides(divide([replace(source, gate=gate)], measured, SHARE, 8, np.random.default_rng(0)), measured)


def test_a_path_that_a_wall_blocks_stays_one() -> None:
    source, measured = beyond_a_wall(0.0)
    hidden = replace(source, gate=grow_together([source], measured, 1e-3 * measured.energy, 4))
    assert len(divide([hidden], measured, SHARE, 8, np.random.default_rng(0))) == 1


def test_a_source_at_a_wrong_place_is_moved_and_not_divided() -> None:
    source, measured = beyond_a_wall(1.0)
    (wrong,) = fit_gains([replace(source, position=source.position + np.array([0.2, 0.1, 0.3]))], measured)
    found = divide([wrong], measured, SHARE, 8, np.random.default_rng(0))
    assert len(found) == 1
    assert residual(found, measured).energy < 1e-2 * residual([wrong], measured).energy


def test_halves_of_one_path_are_joined_and_sides_of_a_wall_are_not() -> None:
    source, whole = beyond_a_wall(1.0)
    _, shaded = beyond_a_wall(0.0)
    gate = grow_together([source], shaded, 1e-3 * shaded.energy, 4)
    halves = [
        replace(source, gate=gate),
        replace(source, gate=complement(gate), coefficients=63.0 * np.ones(1, complex)),
    ]
    joined = divide(halves, whole, SHARE, 8, np.random.default_rng(0))
    assert len(joined) == 1
    assert residual(joined, whole).energy < residual(halves, whole).energy
    _, dimmed = beyond_a_wall(THROUGH)
    sides = fit_gains(halves, dimmed)
    assert len(divide(sides, dimmed, SHARE, 8, np.random.default_rng(0))) == 2


def test_a_source_at_a_wrong_place_does_not_hide_an_edge() -> None:
    source, measured = beyond_a_wall(THROUGH)
    _, shaded = beyond_a_wall(0.0)
    behind = complement(grow_together([source], shaded, 1e-3 * shaded.energy, 4))
    rng = np.random.default_rng(0)
    first, other = (replace(source, position=source.position + away) for away in ([0.0, 0.1, 0.3], [0.0, -0.2, 0.4]))
    found = refined_where_seen([first, replace(other, gate=behind)], measured, rng)
    left = residual(found, measured)
    beside = _divided_each(found, left, Worth(SHARE, 0.0), 8, rng)
    assert residual(beside, measured).energy > 0.3 * left.energy
    assert residual(divide(found, measured, SHARE, 8, rng), measured).energy < 0.05 * left.energy


@pytest.mark.parametrize("aside", [-0.5, 0.5])
def test_an_edge_beside_the_wall_is_moved_to_it(aside: float) -> None:
    source, measured = beyond_a_wall(THROUGH)
    _, shaded = beyond_a_wall(0.0)
    edge = grow_together([source], shaded, 1e-3 * shaded.energy, 4)
    beside = Gate(np.array([moved_line(line, aside) for line in edge.lines]), edge.leaves)
    pair = fit_gains(either_side(source.with_degree(2, measured), beside), measured)
    left = residual(pair, measured).energy
    assert left > 0.01 * measured.energy
    moved = sharpened(pair, measured, 1e-3 * measured.energy)
    assert residual(moved, measured).energy < 1e-2 * left
    check_both_sides(moved, measured)


def test_noise_costs_no_path() -> None:
    pair = [plain(BESIDE, 60.0 + 0j), plain(BELOW, 6.0 + 3j)]
    measured = past_a_wall(pair, 1.0, 500)
    assert noise_of(measured) == 0.0
    rng = np.random.default_rng(1)
    deviation = np.sqrt(0.25 * measured.energy / measured.channels.size)
    measured.channels[...] += deviation * rng.standard_normal((*measured.channels.shape, 2)) @ [1, 1j]
    left = residual(pair, measured)
    assert noise_of(left) == pytest.approx(left.energy, rel=0.1)
    weak = residual(pair[:1], measured).energy - left.energy
    assert weak < SHARE * left.energy
    assert len(divide(pair, measured, SHARE, 8, rng)) == 2
