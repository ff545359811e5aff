# SPDX-License-Identifier: Apache-2.0
"""Joint Levenberg-Marquardt over the gains, positions and rotations of all sources, docs/equations.md (18)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix.training.spherical.state import (
    Channels,
    Floats,
    Measured,
    Source,
    coefficient_rows,
    gate_arrays,
    residual,
    stacked,
    terms,
)

_MOTIONS = 6
_SPREADS = (0.06, 0.15, 0.3)  # radians; a gain's degree is one more than the number of those that its rays exceed
_NEAR = 40  # locations next to a line, for each antenna, that tell where it is


@dataclass(frozen=True, eq=False)
class System:
    """Normal equations; source ``i`` has the unknowns ``slices[i]``: real and imaginary parts of its coefficients, its
    position, its rotation."""

    matrix: Floats
    gradient: Floats
    slices: list[slice]


def normal_equations(sources: Sequence[Source], measured: Measured, left: Measured) -> System:
    """Equations (18) of all sources, whose degrees may differ."""
    basis, values = terms(sources, measured)
    matrix, gradient = equations(sources, measured, basis, terms_of(sources), values, left.channels)
    ends = np.cumsum([2 * len(source.coefficients) + _MOTIONS for source in sources])
    slices = [slice(int(first), int(last)) for first, last in zip([0, *ends], ends, strict=False)]
    return System(matrix, gradient, slices)


def equations(
    sources: Sequence[Source],
    measured: Measured,
    basis: NDArray[np.float32],
    counts: NDArray[np.int32],
    amplitudes: Channels,
    left: Channels,
) -> tuple[Floats, Floats]:
    """Matrix and gradient of (18) for any basis ``[n, A, L, M]``, of which source ``l`` has the first ``counts[l]``."""
    matrix, gradient = _core.source_normal_equations(
        *measured.geometry, *stacked(sources), basis, counts, amplitudes, left, measured.middle, measured.reference
    )
    lower = np.tril(matrix)
    return lower + np.tril(lower, -1).T, gradient


def terms_of(sources: Sequence[Source]) -> NDArray[np.int32]:
    """``[L]``: how many coefficients each has."""
    return np.array([len(source.coefficients) for source in sources], np.int32)


def refine(
    sources: Sequence[Source],
    measured: Measured,
    iterations: int,
    damping: float = 1e-3,
    least_gain: float = 1e-3,
    deadline: float = float("inf"),
) -> tuple[list[Source], float]:
    """Sources after up to ``iterations`` steps, and the energy that they leave; ends when a step gains too little, or
    with the first one after the deadline."""
    positions, rotations = stacked(sources)
    coefficients = coefficient_rows(sources)
    options = _core.SourceRefineOptions()
    options.iterations, options.damping, options.least_gain = iterations, damping, least_gain
    options.seconds = deadline - time.monotonic()
    cost: float = _core.source_refine(
        *measured.geometry,
        positions,
        rotations,
        np.array([source.variables for source in sources]),
        coefficients,
        *gate_arrays(sources),
        terms_of(sources),
        measured.channels,
        measured.factors,
        measured.middle,
        measured.reference,
        options,
    )
    moved = [
        replace(source, position=position, rotation=rotation, coefficients=own[: len(source.coefficients)])
        for source, position, rotation, own in zip(sources, positions, rotations, coefficients, strict=True)
    ]
    return [shaded_as(new, old, measured) for new, old in zip(moved, sources, strict=True)], cost


def with_degree(sources: list[Source], degree: int, measured: Measured, beyond: int = 0) -> list[Source]:
    """Gains of a degree that suits how much the directions of their rays vary, and ``beyond`` more, and how many
    locations see them; never a lower one than before, whose terms would be lost."""
    out = []
    for source in sources:
        spread, seen = source.directions(measured)
        own = 1 + beyond + int(np.searchsorted(_SPREADS, spread))
        while own > 0 and 3 * (own + 1) * (own + 2) // 2 > seen:
            own -= 1
        wanted = min(degree, own)
        out.append(source.with_degree(wanted, measured) if wanted > source.degree else source)
    return out


def shaded_as(source: Source, other: Source, measured: Measured) -> Source:
    """``source`` with the lines of ``other``, moved so that the shadows in the zone are the same from where it is."""
    if other.gate.trivial or other.gate.dark:
        return replace(source, gate=other.gate)
    x = measured.positions[:, None]

    def rows(one: Source) -> Floats:
        arms = one.arms(measured.offsets)
        return np.concatenate([x - arms, np.cross(np.broadcast_to(arms, (len(x), *arms.shape)), x)], axis=2)

    before, after = rows(other), rows(source)
    lines = []
    for line in other.gate.lines:
        logits = before @ line
        near = np.argsort(np.abs(logits), axis=0)[:_NEAR]
        j = np.arange(logits.shape[1])
        design, target = after[near, j].reshape(-1, 6), logits[near, j].reshape(-1)
        size = np.maximum(np.sqrt(np.mean(design**2, axis=0)), 1e-9 * np.sqrt(np.mean(design**2)))
        design = design / size
        change = target - design @ (line * size)
        ridge = 1e-9 * len(design) * np.eye(6)
        lines.append(line + np.linalg.solve(design.T @ design + ridge, design.T @ change) / size)
    return replace(source, gate=replace(other.gate, lines=np.array(lines)))


def solve(matrix: Floats, gradient: Floats, damping: Floats) -> Floats:
    """The damped step, with every unknown scaled to a unit column."""
    diagonal = np.diag(matrix)
    scale = 1 / np.sqrt(np.maximum(diagonal, max(1e-9 * float(diagonal.max()), 1e-30)))
    scaled = matrix * np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += damping + 1e-7
    half = np.linalg.solve(scaled, gradient * scale)
    out: Floats = half * scale
    return out


@dataclass(frozen=True, eq=False)
class GainSystem:
    """Least squares of the gains alone, which is linear: one matrix serves any choice of the sources."""

    matrix: Floats
    target: Floats  # products of the waves with the channels
    slices: list[slice]

    @classmethod
    def of(cls, sources: Sequence[Source], measured: Measured) -> GainSystem:
        system = normal_equations(sources, measured, residual(sources, measured))
        chosen = np.concatenate([np.arange(own.start, own.stop - _MOTIONS) for own in system.slices])
        matrix = system.matrix[np.ix_(chosen, chosen)]
        ends = np.cumsum([2 * len(source.coefficients) for source in sources])
        slices = [slice(int(first), int(last)) for first, last in zip([0, *ends], ends, strict=False)]
        return cls(matrix, system.gradient[chosen] + matrix @ _values(sources), slices)

    def _unknowns(self, kept: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.concatenate([np.arange(self.slices[i].start, self.slices[i].stop) for i in kept])

    def fitted(self, sources: Sequence[Source], kept: NDArray[np.intp]) -> list[Source]:
        """``sources``, which are those numbered ``kept``, with the coefficients of least squares."""
        chosen = self._unknowns(kept)
        matrix = self.matrix[np.ix_(chosen, chosen)]
        values = _values(sources)
        values += solve(matrix, self.target[chosen] - matrix @ values, np.zeros(len(chosen)))
        out, first = [], 0
        for source in sources:
            count = len(source.coefficients)
            real, imag = values[first : first + count], values[first + count : first + 2 * count]
            out.append(replace(source, coefficients=real + 1j * imag))
            first += 2 * count
        return out

    def removal_costs(self, sources: Sequence[Source], kept: NDArray[np.intp]) -> Floats:
        """By how much the energy left would grow without each of ``sources``, those numbered ``kept``, and with the
        gains of the others fitted again."""
        chosen = self._unknowns(kept)
        gram = self.matrix[np.ix_(chosen, chosen)]
        gram[np.diag_indices_from(gram)] += 1e-6 * np.maximum(np.diag(gram), 1e-9 * np.max(np.diag(gram)))
        inverse = np.linalg.inv(gram)
        costs, first = [], 0
        for source in sources:
            values = _values([source])
            own = slice(first, first + len(values))
            costs.append(float(values @ np.linalg.solve(inverse[own, own], values)))
            first = own.stop
        return np.array(costs)


def _values(sources: Sequence[Source]) -> Floats:
    return np.concatenate([part for s in sources for part in (s.coefficients.real, s.coefficients.imag)])


def fit_gains(sources: Sequence[Source], measured: Measured) -> list[Source]:
    """The sources where they are, with the coefficients of least squares."""
    return GainSystem.of(sources, measured).fitted(sources, np.arange(len(sources)))


def gains_at_one_place(
    sources: Sequence[Source], projected: NDArray[np.complexfloating], measured: Measured
) -> tuple[list[Source], float]:
    """As ``fit_gains``, and the energy that they explain, for sources that are all at one place: what they are to
    explain, turned back by its delays and summed over the subcarriers, ``projected [n, A]``, tells everything."""
    basis = terms(sources, measured)[0]
    columns = [basis[:, :, number, : len(one.coefficients)] for number, one in enumerate(sources)]
    design = np.concatenate(columns, axis=2).reshape(projected.size, -1).astype(np.float64)
    gram, target = len(measured.frequencies) * design.T @ design, design.T @ projected.reshape(-1)
    none = np.zeros(len(gram))
    values = solve(gram, target.real, none) + 1j * solve(gram, target.imag, none)
    ends = np.cumsum([len(one.coefficients) for one in sources])[:-1]
    fitted = [replace(one, coefficients=own) for one, own in zip(sources, np.split(values, ends), strict=True)]
    return fitted, float(np.real(np.vdot(values, 2 * target - gram @ values)))
