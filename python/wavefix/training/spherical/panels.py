# SPDX-License-Identifier: Apache-2.0
"""Sources for arrays that consist of panels: found at one panel, then at all of them without carrier phase between
panels (*float*), then with it (*fix*); (24)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix.region import row_space
from wavefix.training.spherical.beams import Beams, DelayProfile
from wavefix.training.spherical.cells import LOOKED_AT, explained, found_at, plain_source
from wavefix.training.spherical.state import Channels, Floats, Measured, Source, energy, sample, stacked
from wavefix.training.spherical.system import equations, refine, solve

Found = tuple[Source, float]  # with the part of the energy that it explains
Judge = Callable[[Source], float]

_AT_EACH, _SOME = 4, 16  # antennas that are looked at, at each panel and of all of them, at least
_TURN = 2 * np.pi / 48  # radians that turns differ by
_STEPS, _MOST_TURNS = (3, 3, 24), 100  # to either side, about the least certain axis last; all of them
_WITHIN = 2.0  # standard deviations, that the array is turned
_FOLLOWED = 4, 4, 2, 4  # sources of a panel, places of the array, float solutions, fixes of each
_ITERATIONS, _RETRIES, _LEAST_GAIN = 8, 6, 1e-3
_DOUBT = 3.0  # by which other paths disturb phases more than noise of their strength
_DEVIATIONS, _MOST_CYCLES, _KEPT = 3.5, 12, 30
_SINGULAR = 1e-7  # sums in single precision may leave less than what is there
_WIDEST = 0.5  # radians that a fix may turn the array
_RIVAL = 0.9  # of the energy that the best fix explains, below which another is none


def find_across(measured: Measured, judge: Judge, rng: np.random.Generator) -> Found | None:
    """A source of a cell, with the part of the energy that it explains."""
    few = sample(measured, LOOKED_AT, rng)
    panels = _panels(few)
    panel = panels[rng.integers(len(panels))]
    middle = few.offsets[panel].mean(axis=0)
    own = few.part(slice(None), panel)
    own = replace(own, offsets=np.ascontiguousarray(own.offsets - middle), panel=np.zeros_like(panel))
    beams = Beams.of(own)
    at_panel = sorted(found_at(own, beams, DelayProfile.of(own)), key=lambda one: -one[1])
    alone, axes = Across(own), row_space(few.offsets)
    placed: list[Source] = []
    for source, _ in at_panel[: _FOLLOWED[0]]:
        spread = alone.covariance(alone.float_solution(source))[-3:, -3:]
        placed += _placed(source, beams.axes, axes, middle, spread)
    if not placed:
        return None
    count = max(_AT_EACH, _SOME // len(panels))
    across = Across(few.part(slice(None), np.concatenate([_spread(panel, count) for panel in panels])))
    most = np.argsort(-across.gains(placed)[1])[: _FOLLOWED[1]]
    floats = sorted((across.float_solution(placed[i]) for i in most), key=lambda one: one.left)
    return preferred([fix for one in floats[: _FOLLOWED[2]] for fix in across.fixed(one)], judge)


def fixed(source: Source, measured: Measured) -> list[Found]:
    """The source with the whole cycles between panels that ``measured`` tells, as several choices of them."""
    across = Across(measured)
    return across.fixed(across.float_solution(plain_source(source.position, source.rotation)))


def _panels(measured: Measured) -> list[NDArray[np.intp]]:
    """The antennas of each."""
    assert measured.panel is not None
    return [np.flatnonzero(measured.panel == number) for number in np.unique(measured.panel)]


def _spread(panel: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Some of the antennas of a panel."""
    return panel[np.linspace(0, len(panel) - 1, min(count, len(panel))).round().astype(np.intp)]


def preferred(found: list[Found], judge: Judge) -> Found | None:
    """The one that ``judge`` thinks best of those that explain about as much as any."""
    most = max((share for _, share in found), default=0.0)
    return max((one for one in found if one[1] >= _RIVAL * most), key=lambda one: judge(one[0]), default=None)


@dataclass(frozen=True, eq=False)
class Float:
    """A source with a gain of its own at each panel, ``gains [P]``, the energy that it leaves, and the normal equations
    (18) of real and imaginary parts of the gains, position and rotation."""

    source: Source
    gains: NDArray[np.complex128]
    left: float
    matrix: Floats


@dataclass(frozen=True, eq=False)
class Across:
    """What is seen at all panels."""

    measured: Measured

    @cached_property
    def member(self) -> NDArray[np.intp]:
        """``[A]``: the panel of each antenna, of those that have one here."""
        assert self.measured.panel is not None
        return np.asarray(np.unique(self.measured.panel, return_inverse=True)[1])

    @cached_property
    def membership(self) -> NDArray[np.bool_]:
        """``[A, P]``"""
        return np.asarray(self.member[:, None] == np.arange(self.member.max() + 1))

    def gains(self, sources: Sequence[Source]) -> tuple[NDArray[np.complex128], Floats]:
        """``[L, P]``: of least squares, each source alone, and ``[L]``: the energy that it explains."""
        distance = np.stack([source.rays(self.measured)[0] for source in sources])
        projected = _core.source_project(*self.measured.geometry, *stacked(sources), self.measured.channels)
        top = (projected / distance).sum(axis=1) @ self.membership
        bottom = len(self.measured.frequencies) * np.sum(1 / distance**2, axis=1) @ self.membership
        return top / bottom, np.sum(np.abs(top) ** 2 / bottom, axis=1)

    def _left(self, source: Source, gains: NDArray[np.complex128]) -> tuple[Channels, Channels]:
        """What the source leaves, and its amplitudes ``[n, A, 1]``."""
        amplitudes = (gains[self.member] / source.rays(self.measured)[0])[..., None].astype(np.complex64)
        left = self.measured.channels.copy()
        _core.source_accumulate(*self.measured.geometry, *stacked([source]), -amplitudes, left)
        return left, amplitudes

    def _equations(self, source: Source, left: Channels, amplitudes: Channels) -> tuple[Floats, Floats]:
        basis = self.membership / source.rays(self.measured)[0][..., None]
        own, count = np.ascontiguousarray(basis[:, :, None], np.float32), np.array([basis.shape[2]], np.int32)
        return equations([source], self.measured, own, count, amplitudes, left)

    def float_solution(self, source: Source) -> Float:
        """Levenberg-Marquardt (18) with a gain of its own at each panel."""
        gains = self.gains([source])[0][0]
        left, amplitudes = self._left(source, gains)
        cost, damping = energy(left), 1e-3
        for _ in range(_ITERATIONS):
            matrix, gradient = self._equations(source, left, amplitudes)
            for _ in range(_RETRIES):
                moved, turned = self._moved(source, gains, solve(matrix, gradient, np.full(len(gradient), damping)))
                left, amplitudes = self._left(moved, turned)
                after = energy(left)
                if after < cost:
                    break
                damping *= 10
            else:
                break
            gain, source, gains, cost = 1 - after / cost, moved, turned, after
            damping = max(damping / 5, 1e-6)
            if gain < _LEAST_GAIN:
                break
        return Float(source, gains, cost, matrix)

    def _moved(
        self, source: Source, gains: NDArray[np.complex128], step: Floats
    ) -> tuple[Source, NDArray[np.complex128]]:
        """After a step, which turns the gains by what it adds to the range at the middle of the zone."""
        real, imag, shift, turn = np.split(step, np.cumsum([len(gains), len(gains), 3]))
        position = source.position + shift
        middle = self.measured.middle
        longer = np.linalg.norm(middle - position) - np.linalg.norm(middle - source.position)
        moved = plain_source(position, rotation_of(turn) @ source.rotation)
        return moved, (gains + real + 1j * imag) * np.exp(1j * self.measured.wavenumber * longer)

    def covariance(self, one: Float) -> Floats:
        """Of the unknowns of a float solution."""
        scale = 1 / np.sqrt(np.maximum(np.diag(one.matrix), 1e-12 * np.diag(one.matrix).max()))
        values, vectors = np.linalg.eigh(one.matrix * np.outer(scale, scale))
        scaled = scale[:, None] * vectors / np.sqrt(np.maximum(values, _SINGULAR))
        return np.asarray(_DOUBT**2 * one.left / (2 * self.measured.channels.size) * scaled @ scaled.T)

    def fixed(self, one: Float) -> list[Found]:
        """The fixes of a float solution that explain most, refined."""
        fixes = sorted(
            (explained(fix, self.measured) for fix in self.with_whole_cycles(one)), key=lambda found: -found[1]
        )
        out = []
        for fix, _ in fixes[: _FOLLOWED[3]]:
            refined, left = refine([fix], self.measured, 12, least_gain=_LEAST_GAIN)
            out.append((refined[0], 1 - left / energy(self.measured.channels)))
        return out

    def with_whole_cycles(self, one: Float) -> list[Source]:
        """Sources whose gains have the same phase at each panel, the most probable ones first: what panels differ by
        is a whole number of cycles, and the float solution moves with each choice of them as its covariance says."""
        panels, covariance = len(one.gains), self.covariance(one)
        phases = np.zeros((panels, len(covariance)))  # by the unknowns
        square, diagonal = np.abs(one.gains) ** 2, np.arange(panels)
        square = np.maximum(square, 1e-12 * square.max())
        phases[diagonal, diagonal] = -one.gains.imag / square
        phases[diagonal, panels + diagonal] = one.gains.real / square
        to_cycles = (np.eye(panels)[1:] - np.eye(panels)[0]) / (2 * np.pi)
        cycles, slopes = to_cycles @ np.angle(one.gains), to_cycles @ phases
        spread = slopes @ covariance @ slopes.T + 1e-6 * np.eye(panels - 1)
        out = []
        for whole in nearest_integers(cycles, spread):
            step = covariance @ slopes.T @ np.linalg.solve(spread, whole - cycles)
            if np.linalg.norm(step[-3:]) < _WIDEST:
                out.append(self._moved(one.source, one.gains, step)[0])
        return out


def nearest_integers(values: Floats, covariance: Floats) -> list[Floats]:
    """Integer vectors ``n`` in the order of ``(values - n)^T covariance^-1 (values - n)``: one number after the other,
    the most certain first, each near what those before it let expect."""
    order = np.argsort(np.diag(covariance))
    root = np.linalg.cholesky(covariance[np.ix_(order, order)])
    states: list[tuple[float, tuple[float, ...], tuple[int, ...]]] = [(0.0, (), ())]
    for i, value in enumerate(values[order]):
        reach = min(_MOST_CYCLES, int(np.ceil(_DEVIATIONS * root[i, i])))
        grown = []
        for cost, deviations, whole in states:
            expected = value - float(root[i, :i] @ np.array(deviations))
            for n in range(round(expected) - reach, round(expected) + reach + 1):
                own = (expected - n) / root[i, i]
                grown.append((cost + own**2, (*deviations, own), (*whole, n)))
        states = sorted(grown)[:_KEPT]
    out = []
    for _, _, whole in states:
        vector = np.empty(len(values))
        vector[order] = whole
        out.append(vector)
    return out


def rotation_of(vector: Floats) -> Floats:
    """The rotation by the length of ``vector`` about it."""
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _placed(source: Source, own: Floats, axes: Floats, middle: Floats, spread: Floats) -> list[Source]:
    """Sources of an array along ``axes`` whose panel, along ``own`` about ``middle``, has ``source``, turned as far as
    its rotation may err, of which ``spread [3, 3]`` is the covariance."""
    images = [source.rotation @ axis for axis in own]
    basis = list(own)
    for axis in axes:
        rest = axis - sum((axis @ other) * other for other in basis)
        if len(basis) < len(axes) and np.linalg.norm(rest) > 1e-6:
            basis.append(rest / np.linalg.norm(rest))
    if len(images) == 1 and len(axes) > 1:
        images.append(np.linalg.svd(images[0][None], full_matrices=True)[2][1])
    ways = [images]
    if len(images) == 2 and len(axes) == 3:  # which may be mirrored
        ways = [[*images, sign * np.cross(images[0], images[1])] for sign in (1, -1)]
    turns = _turns(spread, images[0] if len(axes) == 1 else None)
    rotations = [turn @ np.array(way).T @ np.array(basis) for turn in turns for way in ways]
    return [plain_source(source.position - rotation @ middle, rotation) for rotation in rotations]


def _turns(spread: Floats, idle: Floats | None) -> list[Floats]:
    """Rotations within ``_WITHIN`` standard deviations, the most probable ones first; none about ``idle``."""
    variances, axes = np.linalg.eigh(spread)
    choices = []
    for variance, axis, most in zip(variances, axes.T, _STEPS, strict=True):
        reach = _WITHIN * np.sqrt(max(variance, 0.0))
        if idle is not None and abs(axis @ idle) > 0.7:
            reach = 0.0
        count = min(int(reach / _TURN), most)
        angles = _TURN * np.arange(-count, count + 1)
        choices.append([(abs(angle) / max(reach, 1e-12), rotation_of(angle * axis)) for angle in angles])
    ways = [
        (first**2 + second**2 + third**2, small @ larger @ largest)
        for third, largest in choices[2]
        for second, larger in choices[1]
        for first, small in choices[0]
    ]
    return [turn for _, turn in sorted(ways, key=lambda way: way[0])[:_MOST_TURNS]]
