# SPDX-License-Identifier: Apache-2.0
"""The sums of fitting virtual sources against NumPy written from docs/equations.md (1) and (18)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reference import spherical as reference
from wavefix import _core

LIGHT = 299792458.0
TURN = 2 * np.pi / LIGHT


class Case:
    """Three sources, one of them dark at half of the locations, about an array of four antennas."""

    def __init__(self, equal: bool = True, terms: int = 3) -> None:
        rng = np.random.default_rng(3)
        self.positions = rng.uniform((-1, -1, 0), (1, 1, 2), (7, 3))
        self.offsets = rng.uniform(-0.3, 0.3, (4, 3))
        steps = np.arange(11.0) if equal else np.sort(rng.uniform(0, 11, 11))
        self.frequencies = 3.5e9 + 4e6 * steps
        self.sources = np.array([[20.0, 3, 5], [-15, 8, 2], [4, -60, 30]])
        self.rotations = np.linalg.qr(rng.normal(size=(3, 3, 3)))[0]
        self.basis = (rng.uniform(0.2, 1, (7, 4, 3, terms)) / 20).astype(np.float32)
        self.basis[::2, :, 1] = 0
        self.coefficients = rng.normal(size=(3, terms)) + 1j * rng.normal(size=(3, terms))
        self.middle = np.array([0.1, -0.2, 1.0])
        self.reference = 3.52e9

    def geometry(self) -> tuple[NDArray[np.float64], ...]:
        return self.positions, self.offsets, self.frequencies, self.sources, self.rotations

    def amplitudes(self) -> NDArray[np.complex64]:
        return np.einsum("njlm,lm->njl", self.basis, self.coefficients).astype(np.complex64)

    def distances(self, sources: Any = None, rotations: Any = None) -> NDArray[np.float64]:
        """``[n, A, L]``."""
        sources = self.sources if sources is None else sources
        rotations = self.rotations if rotations is None else rotations
        at = sources[None] + np.einsum("lab,jb->jla", rotations, self.offsets)
        return np.linalg.norm(self.positions[:, None, None] - at[None], axis=-1)

    def waves(self, distances: NDArray[np.float64]) -> NDArray[np.complex128]:
        """``[n, A, L, K]``."""
        return np.exp(-1j * TURN * self.frequencies * distances[..., None])

    def channels(self, sources: Any = None, rotations: Any = None, turn_back: bool = True) -> NDArray[np.complex128]:
        """With the sources moved as the normal equations move them: the phase at the middle stays."""
        sources = self.sources if sources is None else sources
        moved = np.linalg.norm(self.middle - sources, axis=1) - np.linalg.norm(self.middle - self.sources, axis=1)
        back = np.exp(1j * TURN * self.reference * moved)
        amplitudes = np.einsum("njlm,lm->njl", self.basis, self.coefficients * back[:, None])
        return np.einsum("njl,njlk->njk", amplitudes, self.waves(self.distances(sources, rotations)))


@pytest.mark.parametrize("equal", [True, False])
def test_accumulate_and_project_are_the_sums(equal: bool) -> None:
    case = Case(equal)
    channels = np.zeros((7, 4, 11), np.complex64)
    _core.source_accumulate(*case.geometry(), case.amplitudes(), channels)
    exact = case.channels()
    assert np.abs(channels - exact).max() < 3e-7 * np.abs(exact).max()
    projected = _core.source_project(*case.geometry(), channels)
    wanted = np.einsum("njlk,njk->lnj", case.waves(case.distances()).conj(), channels)
    assert np.abs(projected - wanted).max() < 3e-6 * np.abs(wanted).max()


def test_scores_are_the_matched_filter() -> None:
    case = Case()
    values = np.exp(2j * np.arange(7)).astype(np.complex64)
    scores = _core.source_scores(case.positions, values, case.sources, 3.5e9)
    d = np.linalg.norm(case.positions[:, None] - case.sources[None], axis=-1)
    np.testing.assert_allclose(scores, np.abs(values @ np.exp(1j * TURN * 3.5e9 * d)) ** 2, rtol=1e-5)


def rotated(rotation: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """To first order, which is all that a central difference sees."""
    x, y, z = vector
    return (np.eye(3) + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])) @ rotation


def columns(case: Case) -> NDArray[np.complex128]:
    """dH / d unknown ``[P, n, A, K]``: coefficients exactly, motions by central differences."""
    out = []
    waves = case.waves(case.distances())
    for source in range(3):
        linear = np.moveaxis(case.basis[:, :, source], -1, 0)[..., None] * waves[None, :, :, source]
        out += [*linear, *(1j * linear)]
        for motion in range(6):
            step, sides = 1e-5, []
            for sign in (1, -1):
                sources, rotations = case.sources.copy(), case.rotations.copy()
                if motion < 3:
                    sources[source, motion] += sign * step
                else:
                    rotations[source] = rotated(rotations[source], sign * step * np.eye(3)[motion - 3])
                sides.append(case.channels(sources, rotations))
            out.append((sides[0] - sides[1]) / (2 * step))
    return np.array(out)


@pytest.mark.parametrize("terms", [1, 3])
@pytest.mark.parametrize("equal", [True, False])
def test_normal_equations_are_those_of_the_finite_differences(terms: int, equal: bool) -> None:
    case = Case(equal, terms)
    rng = np.random.default_rng(4)
    residual = (rng.normal(size=(7, 4, 11)) + 1j * rng.normal(size=(7, 4, 11))).astype(np.complex64)
    own = np.full(3, terms, np.int32)
    arguments = (*case.geometry(), case.basis, own, case.amplitudes(), residual, case.middle, case.reference)
    matrix, gradient = _core.source_normal_equations(*arguments)
    design = columns(case).reshape(len(gradient), -1)
    wanted = (design.conj() @ design.T).real
    size = np.sqrt(np.diag(wanted))
    lower = np.tril(matrix / np.outer(size, size))
    assert np.abs(lower - np.tril(wanted / np.outer(size, size))).max() < 3e-5
    steps = (design.conj() @ residual.reshape(-1)).real / size
    assert np.abs(gradient / size - steps).max() < 3e-5 * np.linalg.norm(residual)
    again, _ = _core.source_normal_equations(*arguments, threads=2)
    np.testing.assert_array_equal(matrix, again)


def test_normal_equations_leave_out_terms_that_a_source_does_not_have() -> None:
    case = Case(terms=3)
    residual = case.channels().astype(np.complex64)
    case.coefficients[0, 1:], case.coefficients[2, 2:] = 0, 0
    rest = (case.amplitudes(), residual, case.middle, case.reference)
    whole, slopes = _core.source_normal_equations(*case.geometry(), case.basis, np.full(3, 3, np.int32), *rest)
    some, few = _core.source_normal_equations(*case.geometry(), case.basis, np.array([1, 3, 2], np.int32), *rest)
    kept = np.concatenate([12 * i + np.r_[0:n, 3 : 3 + n, 6:12] for i, n in enumerate((1, 3, 2))])
    size = np.sqrt(np.diag(whole))[kept]
    assert np.abs(np.tril((some - whole[np.ix_(kept, kept)]) / np.outer(size, size))).max() < 1e-6
    np.testing.assert_allclose(few, slopes[kept], rtol=1e-5, atol=1e-6 * np.abs(slopes).max())
    with pytest.raises(_core.ShapeError, match="terms"):
        _core.source_normal_equations(*case.geometry(), case.basis, np.array([1, 4, 2], np.int32), *rest)


def refined(
    case: Case, channels: NDArray[np.complex64], iterations: int, seconds: float = np.inf, **arguments: Any
) -> tuple[list[NDArray[Any]], float]:
    """Positions, rotations and constant gains after ``iterations``, and the energy left."""
    options = _core.SourceRefineOptions()
    options.iterations, options.seconds = iterations, seconds
    moving = [case.sources.copy(), case.rotations.copy(), case.coefficients.copy()]
    cost = _core.source_refine(
        *case.geometry()[:3],
        *moving[:2],
        np.zeros((3, 2, 4)),
        moving[2],
        np.zeros((0, 6)),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        np.ones(3, np.int32),
        channels,
        arguments.pop("factors", None),
        case.middle,
        case.reference,
        options,
        **arguments,
    )
    return moving, cost


def spherical_case() -> Case:
    case = Case(terms=1)
    case.basis = (1 / case.distances()[..., None]).astype(np.float32)
    return case


def displaced(by: float) -> tuple[Case, NDArray[np.complex64]]:
    """A case, and the channels of sources that are ``by`` meters away from its own and turned by as many radians."""
    case, there = spherical_case(), spherical_case()
    there.sources += by * np.array([[1, -1, 2], [-1, 2, 1], [2, 1, -1]])
    there.rotations = np.stack([rotated(one, by * np.array([1.0, -1, 0.5])) for one in there.rotations])
    there.basis = (1 / there.distances()[..., None]).astype(np.float32)
    there.coefficients = case.coefficients * np.exp(0.1j * by)
    return case, there.channels().astype(np.complex64)


def test_a_step_of_the_sources_is_that_of_the_finite_differences() -> None:
    case, channels = displaced(1e-5)
    design = columns(case)
    design = design.reshape(len(design), -1)
    matrix, gradient = (design.conj() @ design.T).real, (design.conj() @ (channels - case.channels()).reshape(-1)).real
    size = np.sqrt(np.diag(matrix))
    scaled = matrix / np.outer(size, size) + (1e-3 + 1e-7) * np.eye(len(size))
    step = (np.linalg.solve(scaled, gradient / size) / size).reshape(3, 8)
    (sources, rotations, _), cost = refined(case, channels, 1)
    wanted = np.stack([rotated(one, by) for one, by in zip(case.rotations, step[:, 5:], strict=True)])
    np.testing.assert_allclose(sources - case.sources, step[:, 2:5], rtol=0.01, atol=1e-3 * np.abs(step[:, 2:5]).max())
    np.testing.assert_allclose(rotations, wanted, atol=0.01 * np.abs(wanted - case.rotations).max())
    assert cost < 0.1 * np.sum(np.abs(channels - case.channels()) ** 2)


def test_sources_are_refined_to_where_the_channels_come_from() -> None:
    case, channels = displaced(2e-3)
    before = float(np.sum(np.abs(channels - case.channels()) ** 2))
    moving, cost = refined(case, channels, 60)
    assert cost < 1e-6 * before
    factors = np.linspace(0.5, 2.0, 7)[:, None] * np.array([0.7, 1.0, 0.0, 1.3])  # one antenna is not looked at
    weighted = (channels * factors[..., None]).astype(np.complex64)
    assert refined(case, weighted, 60, factors=factors)[1] < 1e-6 * before
    for threads in (1, 2):
        again, same = refined(case, channels, 60, threads=threads)
        assert same == cost
        for one, other in zip(moving, again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_refinement_never_raises_the_energy_and_keeps_its_time() -> None:
    case, channels = displaced(0.02)  # several radians
    before = float(np.sum(np.abs(channels - case.channels().astype(np.complex64)) ** 2))
    costs = [refined(case, channels, iterations)[1] for iterations in (0, 1, 2, 5, 20)]
    assert costs[0] == pytest.approx(before, rel=1e-4)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.9 * before
    assert refined(case, channels, 20, -1.0)[1] == costs[1]  # the first step is not asked for the time


def test_shapes_are_checked() -> None:
    case = Case()
    with pytest.raises(_core.ShapeError, match="amplitudes"):
        _core.source_accumulate(
            *case.geometry(), case.amplitudes()[:, :, :2].copy(), np.zeros((7, 4, 11), np.complex64)
        )


def gate_value(lines: Any, leaves: Any, x: NDArray[np.float64], s: NDArray[np.float64]) -> float:
    """The tree's sum over its lit leaves, in float64, of one user and one antenna's source."""
    total = 0.0
    for leaf in leaves:
        lit = 1.0
        for line in leaf:
            moment, along = lines[abs(line) - 1][:3], lines[abs(line) - 1][3:]
            v = (x - s) @ moment - np.cross(x, s) @ along
            lit *= reference.sigmoid(v if line > 0 else -v)
        total += lit
    return total


def test_terms_are_gate_times_monomials_over_distance() -> None:
    case, rng = Case(), np.random.default_rng(6)
    variables, coefficients = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 6)) + 1j * rng.normal(size=(3, 6))
    lines = 0.2 * rng.normal(size=(4, 6))
    line_cell, cell_source = np.array([0, 0, 1, 2], np.int32), np.array([0, 0, 2], np.int32)
    arrays = (variables, coefficients, lines, line_cell, cell_source)
    basis, amplitudes = _core.source_terms(*case.geometry(), *arrays)
    tensors = {"gate_lines": lines, "gate_line_cell": line_cell, "gate_cell_source": cell_source}
    tensors["region.origin"] = np.zeros(3)
    for row, j, source in np.ndindex(7, 4, 3):
        x, s = case.positions[row], case.sources[source] + case.rotations[source] @ case.offsets[j]
        d = np.linalg.norm(x - s)
        v1, v2 = variables[source] @ np.append((x - s) / d, 1)
        monomials = np.array([1, v1, v2, v1 * v1, v1 * v2, v2 * v2])
        wanted = reference.gate(tensors, source, x, s) * monomials / d
        np.testing.assert_allclose(basis[row, j, source], wanted, rtol=1e-6)
        assert abs(amplitudes[row, j, source] - wanted @ coefficients[source]) < 1e-6 * np.linalg.norm(wanted)
    empty, same = _core.source_terms(*case.geometry(), *arrays, basis=False, threads=2)
    assert empty.shape == (7, 4, 3, 0)
    np.testing.assert_array_equal(same, amplitudes)


def gate_case(lines: Any, leaves: Any, count: int = 900) -> tuple[Any, ...]:
    """A source and an array near a flat zone, and what a tree says at each location and antenna."""
    rng = np.random.default_rng(8)
    positions = np.column_stack([rng.uniform(-2, 2, (count, 2)), np.zeros(count)])
    offsets = np.array([[0.0, 0.05 * j, 0.0] for j in range(4)])
    source = np.array([20.0, 9.0, 4.0])
    wanted = np.array([[gate_value(lines, leaves, x, source + offset) for offset in offsets] for x in positions])
    return (positions, offsets, np.array([3.5e9]), source, np.eye(3)), wanted


def edge(point: Any, along: Any, scale: float) -> NDArray[np.float64]:
    return scale * np.concatenate([np.cross(point, along), along])


EDGES = np.array([edge([2.0, 0.9, 0.4], [0, 0, 1.0], 6.0), edge([3.0, 1.0, 0.6], [0, 1.0, 0], 6.0)])
TREES = [(EDGES[:1], [[1]]), (EDGES, [[1, 2]]), (EDGES, [[-1], [1, -2]])]


@pytest.mark.parametrize(("lines", "leaves"), TREES)
def test_a_soft_gate_is_found_exactly(lines: Any, leaves: Any) -> None:
    """Least squares with right slopes ends at a cost of 0; wrong ones stall far above."""
    scene, wanted = gate_case(lines, leaves)
    assert 0.1 < wanted.mean() < 0.9
    rng = np.random.default_rng(9)
    weight = rng.uniform(0.5, 1.5, wanted.shape).astype(np.float32)
    nothing = float(np.sum(weight * (wanted - 1) ** 2))
    found, leaves_found = _core.source_grow_gate(*scene, [], [[]], wanted.astype(np.float32), weight, 1e-3 * nothing, 4)
    positions, offsets, _, source, _ = scene
    got = np.array(
        [[gate_value(np.array(found), leaves_found, x, source + offset) for offset in offsets] for x in positions]
    )
    assert float(np.sum(weight * (wanted - got) ** 2)) < 2e-3 * nothing
    again = _core.source_grow_gate(*scene, [], [[]], wanted.astype(np.float32), weight, 1e-3 * nothing, 4, threads=2)
    assert again == (found, leaves_found)


def test_a_hard_edge_is_found_between_the_samples_on_its_sides() -> None:
    """Samples of both kinds are parted without exception, as a straight edge parts them."""
    scene, soft = gate_case(EDGES[:1], [[1]])
    wanted = (soft > 0.5).astype(np.float32)
    found, leaves = _core.source_grow_gate(*scene, [], [[]], wanted, np.ones_like(wanted), 1.0, 3)
    positions, offsets, _, source, _ = scene
    got = np.array([[gate_value(np.array(found), leaves, x, source + offset) for offset in offsets] for x in positions])
    assert len(found) == 1
    assert np.all((got > 0.5) == (wanted > 0.5))
    assert np.mean(np.abs(got - wanted)) < 2e-3


@pytest.mark.parametrize(("shape", "zeros"), [(0, [2, 3, 4]), (1, [5])])
def test_a_hard_edge_that_stands_or_lies_is_found_as_one(shape: int, zeros: list[int]) -> None:
    """Of fewer numbers, so that users that it was not found by are parted as well: each number leaves one in as many as
    there are in doubt, of 900 samples three or four, where a line of five leaves more."""
    scene, soft = gate_case(EDGES[shape : shape + 1], [[1]])
    _, others = gate_case(EDGES[shape : shape + 1], [[1]], 4000)
    wanted = (soft > 0.5).astype(np.float32)
    found, leaves = _core.source_grow_gate(*scene, [], [[]], wanted, np.ones_like(wanted), 1.0, 3, 1.0)
    assert len(found) == 1
    assert [found[0][i] for i in zeros] == [0.0] * len(zeros)
    positions, offsets, _, source, _ = gate_case(EDGES[:1], [[1]], 4000)[0]
    got = np.array([[gate_value(np.array(found), leaves, x, source + offset) for offset in offsets] for x in positions])
    assert np.mean((got > 0.5) != (others > 0.5)) < 4 / 900


def test_users_on_a_line_leave_no_number_to_chance() -> None:
    """They tell nothing of half of a line's numbers, which stay zero and do not matter a rounding beside them."""
    (positions, *rest), _ = gate_case(EDGES[:1], [[1]])
    positions[:, 1] = 0.0
    source, offsets = rest[2], rest[0]
    values = [[gate_value(EDGES[:1], [[1]], x, source + offset) for offset in offsets] for x in positions]
    wanted = (np.array(values) > 0.5).astype(np.float32)
    assert 0.1 < wanted.mean() < 0.9
    found, leaves = _core.source_grow_gate(positions, *rest, [], [[]], wanted, np.ones_like(wanted), 1.0, 3, 1.0)
    beside = positions + np.array([0.0, 1e-9, 1e-9])
    got = np.array([[gate_value(np.array(found), leaves, x, source + offset) for offset in offsets] for x in beside])
    assert np.mean(np.abs(got - wanted)) < 2e-3


def test_a_gate_where_nothing_is_hidden_or_nothing_is_left_stays_as_it_was() -> None:
    scene, soft = gate_case(EDGES[:1], [[1]])
    lit = np.ones(soft.shape, np.float32)
    assert _core.source_grow_gate(*scene, [], [[]], lit, lit, 1e-3, 4) == ([], [[]])
    noise = lit + np.random.default_rng(1).normal(0, 0.1, soft.shape).astype(np.float32)
    assert _core.source_grow_gate(*scene, [], [[]], noise, lit, 5.0, 4) == ([], [[]])


@pytest.mark.parametrize("leaves", [[[1]], [[0]], [[-2]]])
def test_leaves_that_name_no_line_are_refused(leaves: list[list[int]]) -> None:
    scene, soft = gate_case(EDGES[:1], [[1]], 20)
    weight = np.ones(soft.shape, np.float32)
    with pytest.raises(_core.ShapeError, match="leaves"):
        _core.source_grow_gate(*scene, [], leaves, weight, weight, 1.0, 3)
