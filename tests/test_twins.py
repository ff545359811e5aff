# SPDX-License-Identifier: Apache-2.0
"""Sources whose waves are nearly alike, as of a path and its mirror image in the ground: told apart, told from pieces
of one, and hidden by the same edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from wavefix.constants import SPEED_OF_LIGHT
from wavefix.training.spherical import edges, gates, rounds
from wavefix.training.spherical.antennas import chosen_antennas
from wavefix.training.spherical.search import alike
from wavefix.training.spherical.state import Gate, Measured, Source, add, energy, residual
from wavefix.training.spherical.system import fit_gains, refine
from wavefix.training.spherical.twins import explained_anew, upright

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
    pair, gain = explained_anew(merged, left, 0.01 * cost, np.random.default_rng(1))
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
    same, gain = explained_anew(one, left, 0.01 * energy(left.channels), np.random.default_rng(1))
    assert same[0] is one[0]
    assert len(same) == 1
    assert gain == 0.0


def test_pieces_become_one_source_and_two_sources_stay_two() -> None:
    whole = plain(BESIDE, 60.0 + 0j)
    pieces = [replace(whole, position=BESIDE + step, coefficients=0.5 * whole.coefficients) for step in (0.01, -0.01)]
    left = residual(pieces, street({tuple(BESIDE): 60.0 + 0j}))
    one, gain = explained_anew(pieces, left, 0.01 * left.energy, np.random.default_rng(1))
    assert len(one) == 1
    assert gain > 0.5 * left.energy  # what remained was their distance; the rest is noise
    pair = [plain(BESIDE, 60.0 + 0j), plain(BELOW, -30.0 + 12j)]
    left = residual(pair, street({tuple(BESIDE): 60.0 + 0j, tuple(BELOW): -30.0 + 12j}))
    assert len(explained_anew(pair, left, 0.01 * left.energy, np.random.default_rng(1))[0]) == 2


def test_a_group_that_is_a_period_of_the_delay_too_far_away_comes_back() -> None:
    measured = street({tuple(BESIDE): 60.0 + 0j, tuple(BELOW): -30.0 + 12j})
    period = SPEED_OF_LIGHT * 15 / 50e6
    far = [plain(place * (1 + period / np.linalg.norm(place)), 100.0 + 0j) for place in (BESIDE, BELOW)]
    group = refine([one.with_degree(2, measured) for one in far], measured, 30, least_gain=1e-6)[0]
    assert min(np.linalg.norm(one.position) for one in group) > 120
    left = residual(group, measured)
    found, gain = explained_anew(group, left, 0.01 * left.energy, np.random.default_rng(1))
    assert gain > 0
    assert len(found) == 2
    assert max(np.linalg.norm(one.position - BESIDE * [1, 1, 0]) for one in found) < 12
    assert residual(found, measured).energy < 0.1 * left.energy


def test_a_group_of_pieces_is_replaced_by_a_path_and_its_mirror_image() -> None:
    truth = {tuple(BESIDE): 60.0 + 0j, tuple(BELOW): -30.0 + 12j}
    measured = street(truth | {(-40.0, 30.0, 9.0): 20.0 + 0j})
    pieces = [plain(BESIDE + 0.1, 45.0 + 0j), plain(BESIDE - 0.3, 15.0 + 0j), plain(BELOW + 0.3, -30 + 12j)]
    other = plain(np.array([-40.0, 30.0, 9.0]), 20.0 + 0j)
    assert sorted(map(sorted, alike([other, *pieces], measured))) == [[0], [1, 2, 3]]
    found = rounds.regroup([other, *pieces], measured, 5e-3, 4, np.random.default_rng(1))
    assert len(found) == 3
    assert residual(found, measured).energy < 1.1 * street({}).energy  # the noise alone


def edge_at(place: np.ndarray) -> np.ndarray:
    """The upright one there, steep."""
    return 300 * np.array([-place[1], place[0], 0.0, 0.0, 0.0, -1.0])


def slit(width: float) -> Gate:
    """Lit between two upright edges a fifth of the way to the zone: shadows move by four times as much as antennas."""
    middle, side = 0.8 * BESIDE[:2], np.array([-BESIDE[1], BESIDE[0]]) / np.hypot(*BESIDE[:2])
    return Gate(np.array([sign * edge_at(middle + sign * width / 2 * side) for sign in (-1, 1)]), ((1, 2),))


def test_a_pair_that_hardly_any_location_sees_with_every_antenna_is_told_apart() -> None:
    """And one in twenty samples contradicts, as those on the wrong side of an edge do."""
    measured = street({}, 1500)
    pair = [replace(plain(BESIDE, 60.0 + 0j), gate=slit(0.3)), replace(plain(BELOW, -30.0 + 12j), gate=slit(0.3))]
    lit = pair[0].gate_values(measured) > 0.5
    assert lit.any(axis=1).mean() > 0.2
    assert lit.all(axis=1).sum() < 12
    add(pair, measured)
    measured.channels[np.random.default_rng(2).random(lit.shape) < 0.05] = 0.0
    middle = (BESIDE + BELOW) / 2
    pieces = [replace(plain(middle + step * np.eye(3)[2], 15.0 + 0j), gate=slit(0.3)) for step in (-0.5, 0.0, 0.5)]
    group = refine(pieces, measured, 20)[0]
    left = residual(group, measured)
    found, gain = explained_anew(group, left, 0.01 * left.energy, np.random.default_rng(1))
    assert gain > 0
    assert sorted(abs(one.position[2]) for one in found) == pytest.approx([7.5, 10.5], abs=0.1)


def test_factors_of_locations_and_of_antennas_multiply() -> None:
    measured, rng = street({tuple(BESIDE): 60.0 + 0j}, 20), np.random.default_rng(3)
    rows, samples = rng.uniform(0.5, 1, 20), rng.uniform(0, 1, (20, 16))
    both = measured.weighted(rows).weighted(samples)
    np.testing.assert_allclose(both.factors, rows[:, None] * samples)
    left = residual([plain(BESIDE, 60.0 + 0j)], both)
    assert left.energy < 1.1 * street({}, 20).energy


def test_sources_seen_from_different_places_are_no_group_unless_they_are_one_path() -> None:
    measured = street({}, 1500)
    sides = [Gate(edge_at(0.02 * BESIDE)[None], ((sign,),)) for sign in (1, -1)]
    beside = plain(BESIDE + np.array([0.0, 2.0, 0.0]), 30.0 + 0j)
    for second, together in ((beside, False), (plain(BESIDE, 30.0 + 0j), True)):
        groups = alike([replace(plain(BESIDE, 60.0 + 0j), gate=sides[0]), replace(second, gate=sides[1])], measured)
        assert (len(groups) == 1) == together
    assert len(alike([plain(BESIDE, 60.0 + 0j), replace(beside, gate=sides[1])], measured)) == 1


def test_lines_that_part_nothing_go_when_edges_are_placed() -> None:
    pair, measured = behind_a_wall()
    gate = gates.grow_together(pair, measured, 1e-3 * measured.energy, 4)
    line, (leaf,) = gate.lines[0], gate.leaves[0]
    soft = [np.append(-logit * BESIDE / (BESIDE @ BESIDE), np.zeros(3)) for logit in (3.0, 2.0)]  # the same everywhere
    wrong = replace(gate, lines=np.array([moved_line(line, 0.01), *soft]), leaves=((leaf, 2), (leaf, -2, 3)))
    crowded = [replace(one, gate=wrong) for one in pair]
    placed = crowded
    for _ in range(2):
        placed = edges.place_edges(placed, measured, chosen_antennas(measured, 8), np.inf, number_worth=1.0)
        assert [one.gate.numbers for one in placed] == [3, 3]
    assert np.count_nonzero((placed[0].gate_values(measured) > 0.5) != wall(pair[0], measured)) < 5  # of 14 400


def varying(position: np.ndarray, gain: complex, slopes: tuple[float, float], measured: Measured) -> Source:
    """A source whose gain varies by ``slopes``, along its variables."""
    one = plain(position, gain).with_degree(1, measured)
    return replace(one, coefficients=gain * np.array([1.0, *slopes]))


def test_gains_that_vary_do_not_hide_where_the_sources_are() -> None:
    measured = street({})
    truth = [varying(BESIDE, 60.0 + 0j, (0.06, -0.03), measured), varying(BELOW, -30.0 + 12j, (-0.09, 0.06), measured)]
    add(truth, measured)
    wrong = [plain(BESIDE - [0, 0, 1.0], 60.0 + 0j), plain(BELOW - [0, 0, 0.9], -30.0 + 12j)]
    wrong = fit_gains([one.with_degree(1, measured) for one in wrong], measured)
    wrong, cost = refine(wrong, measured, 20, 1e-3, 1e-4)
    assert abs(abs(wrong[0].position[2]) - 7.5) > 0.5  # gains that imitate the right phases hold it there
    left = residual(wrong, measured)
    found, gain = explained_anew(wrong, left, 0.01 * cost, np.random.default_rng(1))
    assert gain > 0.9 * cost
    assert residual(found, measured).energy < 0.05 * cost
    assert sorted(abs(one.position[2]) for one in found) == pytest.approx([7.5, 10.5], abs=0.2)


def test_an_array_is_set_upright_with_its_phases_on_the_mean_ray() -> None:
    measured = street({})
    array, ray = measured.offsets, -BESIDE / np.linalg.norm(BESIDE)
    for flip in (np.eye(3), np.diag([1.0, -1.0, -1.0])):
        level = replace(plain(BESIDE, 1.0 + 0j), rotation=flip)
        assert upright(level, measured) is level
        axis = np.cross(ray, np.cross(ray, array[-1]))
        tilt = np.cross(np.eye(3), 0.1 * axis / np.linalg.norm(axis))  # infinitesimal
        tilted = replace(level, rotation=np.linalg.qr((np.eye(3) + tilt) @ flip)[0])
        again = upright(tilted, measured)
        assert np.abs(array @ again.rotation.T)[:, 2].max() < 1e-12
        along = array @ (again.rotation - tilted.rotation).T @ ray
        assert measured.wavenumber * np.abs(along).max() < 0.2


def wall(source: Source, measured: Measured) -> np.ndarray:
    """``[n, A]``: whether the ray passes an upright edge on its free side."""
    at = source.arms(measured.offsets)[:, :2]
    edge, ray = np.array([24.0, 6.3]) - at, measured.positions[:, None, :2] - at
    return np.asarray(edge[:, 0] * ray[..., 1] - edge[:, 1] * ray[..., 0] > 0)


def past_a_wall(sources: list[Source], through: complex, n: int) -> Measured:
    """What is measured of them, ``through`` times as much behind the edge."""
    measured = street({}, n)
    for one in sources:
        sent = measured.with_channels(np.zeros_like(measured.channels))
        add([one], sent)
        measured.channels[...] += sent.channels * np.where(wall(one, measured), 1.0, through)[..., None]
    return measured


def behind_a_wall(n: int = 900) -> tuple[list[Source], Measured]:
    """A path and its mirror image, and what is measured of them behind the edge."""
    pair = [plain(BESIDE, 60.0 + 0j), plain(BELOW, -30.0 + 12j)]
    return pair, past_a_wall(pair, 0.0, n)


def test_one_upright_edge_hides_a_path_and_its_mirror_image() -> None:
    pair, measured = behind_a_wall()
    assert 0.2 < wall(pair[0], measured).mean() < 0.8
    gate = gates.grow_together(pair, measured, 1e-3 * measured.energy, 4)
    assert len(gate.lines) == 1
    for one in pair:
        seen = replace(one, gate=gate).gate_values(measured) > 0.5
        assert np.mean(seen != wall(one, measured)) < 3e-3
    together = [replace(one, gate=gate) for one in pair]
    assert residual(together, measured).energy < 1e-2 * measured.energy
    least = residual(together, measured).energy
    found = edges.regate(pair, measured, 1e-3, 4, np.random.default_rng(3))
    assert residual(found, measured).energy < 3 * least


def test_an_edge_is_placed_by_the_antennas_next_to_it() -> None:
    pair, measured = behind_a_wall()
    gate = gates.grow_together(pair, measured, 1e-3 * measured.energy, 4)
    moved = replace(gate, lines=moved_line(gate.lines[0], 0.02)[None])
    beside = [replace(one, gate=moved) for one in pair]
    before = residual(beside, measured).energy
    assert gates.edge_distances(beside[0], measured).min() < 0.05
    placed = edges.place_edges(beside, measured, chosen_antennas(measured, 8), np.inf)
    assert [one.gate.leaves for one in placed] == [gate.leaves] * 2
    assert residual(placed, measured).energy < 0.2 * before


def moved_line(line: np.ndarray, across: float) -> np.ndarray:
    return np.array([*(line[:3] + across * np.cross(line[3:], [0.0, 1.0, 0.0])), *line[3:]])


def test_a_gate_that_opens_far_from_its_edge_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look as good to the locations next to the edge. A room of 10 m x 10 m ended at +17 dB with one."""
    pair, measured = behind_a_wall(2000)
    few = chosen_antennas(measured, 8)
    gate = gates.grow_together(pair, measured, 1e-3 * measured.energy, 4)
    line, (leaf,) = gate.lines[0], gate.leaves
    dark = -leaf[0]
    shifts = [moved_line(line, across) for across in (1.2, -1.2)]
    opened = [replace(gate, lines=np.array([line, far]), leaves=(leaf, (dark, dark * 2))) for far in shifts]
    sees = [replace(pair[0], gate=one).gate_values(measured) for one in (gate, *opened)]
    change = [np.flatnonzero(np.abs(one - sees[0]).max(axis=1) > 0.5) for one in sees[1:]]
    wrong, rows = next((one, rows) for one, rows in zip(opened, change, strict=True) if 0 < len(rows) < 500)
    closed = [replace(one, gate=replace(gate, lines=moved_line(line, 0.02)[None])) for one in pair]
    near = np.argsort(gates.edge_distances(closed[0], measured.part(slice(None), few)))[:500]
    assert not np.isin(rows, near).any()
    monkeypatch.setattr(edges.gates, "grow", lambda *_: wrong)
    placed = edges.place_edges(closed, measured, few, np.inf, number_worth=1.0)
    assert all(one is kept for one, kept in zip(closed, placed, strict=True))


def test_a_path_behind_an_edge_keeps_its_gate() -> None:
    pair, measured = behind_a_wall()
    hidden = replace(pair[0], gate=gates.grow_together(pair, measured, 1e-3 * measured.energy, 4))
    other = plain(np.array([60.0, 13.5, 7.5]), 45.0 + 0j)  # seen from everywhere
    whole = street({(60.0, 13.5, 7.5): 45.0 + 0j}, len(measured.positions))
    add([hidden], whole)
    near = [
        replace(other, position=other.position + np.array([0.01, 0.02, 0.1])),
        replace(hidden, coefficients=0.8 * hidden.coefficients),
    ]
    left = residual(near, whole)
    found, gain = explained_anew(near, left, 0.01 * left.energy, np.random.default_rng(1))
    assert gain > 0.9 * left.energy
    assert len(found) == 2
    assert residual(found, whole).energy < 0.05 * left.energy


def test_pruning_ends_where_sources_are_the_same() -> None:
    measured = street({tuple(BESIDE): 60.0 + 0j})
    same = [plain(BESIDE, 20.0 + 0j)] * 3 + [plain(BELOW, 1e-3 + 0j)]
    kept = rounds.prune(same, measured, 0.01, np.random.default_rng(0))
    assert 1 <= len(kept) < 4
    assert residual(kept, measured).energy < 1.1 * street({}).energy
