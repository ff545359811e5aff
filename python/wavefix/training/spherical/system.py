# SPDX-License-Identifier: Apache-2.0
"""Joint Levenberg-Marquardt over the gains, positions and rotations of all sources, docs/equations.md (18)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wavefix import _core
from wavefix.constants import SPEED_OF_LIGHT
from wavefix.training.spherical.state import Floats, Measured, Source, energy, residual, stacked, terms

_MOTIONS = 6
_RETRIES = 6
_TRUST = 0.3  # of the energy left, spread over the sources, that a step's nonlinearity may make


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
        np.array([len(source.coefficients) for source in sources], np.int32),
        values,
        left.channels,
        measured.middle,
        measured.reference,
    )
    ends = np.cumsum([2 * len(source.coefficients) + _MOTIONS for source in sources])
    slices = [slice(int(first), int(last)) for first, last in zip([0, *ends], ends, strict=False)]
    lower = np.tril(matrix)
    return System(lower + np.tril(lower, -1).T, gradient, slices)


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
    current = list(sources)
    left = residual(current, measured)
    cost = energy(left.channels)
    dampings = np.full(len(current), damping)
    few = measured.part(np.arange(0, len(measured.positions), max(1, len(measured.positions) // 48)))
    system = None
    for iteration in range(iterations):
        if iteration > 0 and time.monotonic() > deadline:
            break
        if system is None:
            system = normal_equations(current, measured, left)
        trial = _trusted_step(current, system, dampings, few, cost / measured.channels.size)
        trial_left = residual(trial, measured)
        trial_cost = energy(trial_left.channels)
        if not trial_cost < cost:
            dampings *= 10
            if dampings.min() > 1e3:
                break
            continue
        gain = 1 - trial_cost / cost
        current, left, cost, system = trial, trial_left, trial_cost, None
        dampings = np.maximum(dampings / 5, 1e-6)
        if gain < least_gain:
            break
    return current, cost


def _trusted_step(
    current: Sequence[Source], system: System, dampings: Floats, few: Measured, noise: float
) -> list[Source]:
    """The damped step; a source that leaves the range where its equations are linear is damped more, in place."""
    counts = [own.stop - own.start for own in system.slices]
    for _ in range(_RETRIES):
        whole = solve(system.matrix, system.gradient, np.repeat(dampings, counts))
        step = [whole[own] for own in system.slices]
        errors = np.array([nonlinearity(source, own, few) for source, own in zip(current, step, strict=True)])
        wild = errors > _TRUST * noise / len(current)
        if not wild.any():
            break
        dampings[wild] *= 10
    return [moved(source, own, few) for source, own in zip(current, step, strict=True)]


def nonlinearity(source: Source, step: Floats, few: Measured) -> float:
    """Mean square, over locations, antennas and the ends and middle of the band, of what a step does beyond (18)."""
    count = len(source.coefficients)
    distance, direction = source.rays(few)
    arms = few.offsets @ source.rotation.T
    both, values = terms([source], few)
    basis, value = both[:, :, 0], values[:, :, 0]
    change = basis @ (step[:count] + 1j * step[count : 2 * count])
    shift, turn = step[2 * count : 2 * count + 3], step[2 * count + 3 :]
    range_step = -direction @ shift - np.cross(arms, direction) @ turn
    to_middle = few.middle - source.position
    range_step_there = -(to_middle / np.linalg.norm(to_middle)) @ shift
    after = moved(source, step, few)
    value_after, distance_after = after.amplitudes(few), after.rays(few)[0]
    total = 0.0
    tones = 2 * np.pi / SPEED_OF_LIGHT * np.array([few.frequencies.min(), few.reference, few.frequencies.max()])
    for wavenumber in tones:
        linear = value + change - 1j * value * (wavenumber * range_step - few.wavenumber * range_step_there)
        exact = value_after * np.exp(-1j * wavenumber * (distance_after - distance))
        total += float(np.mean(np.abs(exact - linear) ** 2))
    return total / len(tones)


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
