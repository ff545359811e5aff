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
    matrix, gradient = _core.source_normal_equations(
        *measured.geometry,
        *stacked(sources),
        basis,
        terms_of(sources),
        values,
        left.channels,
        measured.middle,
        measured.reference,
    )
    ends = np.cumsum([2 * len(source.coefficients) + _MOTIONS for source in sources])
    slices = [slice(int(first), int(last)) for first, last in zip([0, *ends], ends, strict=False)]
    lower = np.tril(matrix)
    return System(lower + np.tril(lower, -1).T, gradient, slices)


def terms_of(sources: Sequence[Source]) -> NDArray[np.int32]:
    """``[L]``: how many coefficients each has."""
    return np.array([len(source.coefficients) for source in sources], np.int32)


def rotation_matrix(vector: Floats) -> Floats:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-12:
        return np.asarray(np.eye(3) + cross)
    out: Floats = np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * cross @ cross
    return out


def moved(source: Source, step: Floats, measured: Measured) -> Source:
    """The source after a step of its unknowns. The coefficients turn by the phase that the range step adds."""
    count = len(source.coefficients)
    position = source.position + step[2 * count : 2 * count + 3]
    rotation = rotation_matrix(step[2 * count + 3 :]) @ source.rotation
    change = np.linalg.norm(measured.middle - position) - np.linalg.norm(measured.middle - source.position)
    coefficients = source.coefficients + step[:count] + 1j * step[count : 2 * count]
    return replace(
        source,
        position=position,
        rotation=rotation,
        coefficients=coefficients * np.exp(1j * measured.wavenumber * change),
    )


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
    return [
        replace(source, position=position, rotation=rotation, coefficients=own[: len(source.coefficients)])
        for source, position, rotation, own in zip(sources, positions, rotations, coefficients, strict=True)
    ], cost


def solve(matrix: Floats, gradient: Floats, damping: Floats) -> Floats:
    """The damped step, with every unknown scaled to a unit column."""
    diagonal = np.diag(matrix)
    scale = 1 / np.sqrt(np.maximum(diagonal, max(1e-9 * float(diagonal.max()), 1e-30)))
    scaled = matrix * np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += damping + 1e-7
    half = np.linalg.solve(scaled, gradient * scale)
    out: Floats = half * scale
    return out


def _gains(system: System) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.concatenate([np.arange(own.start, own.stop - _MOTIONS) for own in system.slices])


def fit_gains(sources: Sequence[Source], measured: Measured) -> list[Source]:
    """The sources where they are, with the coefficients of least squares."""
    system = normal_equations(sources, measured, residual(sources, measured))
    chosen = _gains(system)
    whole = np.zeros(len(system.gradient))
    whole[chosen] = solve(system.matrix[np.ix_(chosen, chosen)], system.gradient[chosen], np.zeros(len(chosen)))
    return [moved(source, whole[own], measured) for source, own in zip(sources, system.slices, strict=True)]


def removal_costs(sources: Sequence[Source], measured: Measured, left: Measured) -> Floats:
    """``[L]``: by how much the energy left would grow without each source, the others' gains fitted again."""
    system = normal_equations(sources, measured, left)
    chosen = _gains(system)
    gram = system.matrix[np.ix_(chosen, chosen)]
    gram[np.diag_indices_from(gram)] += 1e-6 * np.maximum(np.diag(gram), 1e-9 * np.max(np.diag(gram)))
    inverse = np.linalg.inv(gram)
    costs, first = [], 0
    for source in sources:
        values = np.concatenate([source.coefficients.real, source.coefficients.imag])
        own = slice(first, first + len(values))
        costs.append(float(values @ np.linalg.solve(inverse[own, own], values)))
        first = own.stop
    return np.array(costs)
