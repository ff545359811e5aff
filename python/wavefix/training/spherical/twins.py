# SPDX-License-Identifier: Apache-2.0
"""Sources whose phases hardly differ, as of a path and its mirror image in the ground: explained anew together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical.beams import unambiguous_range
from wavefix.training.spherical.cells import at_aliases, at_best_alias, plain_source
from wavefix.training.spherical.panels import fixed
from wavefix.training.spherical.state import Floats, Gate, Measured, Source, add, sample_energies, some_of
from wavefix.training.spherical.system import fit_gains, refine, shaded_as


def _upright(count: int) -> Floats:
    """``[2 * count, 3, 3]``: turns about the vertical in equal steps, and the same upside down."""
    angles = 2 * np.pi * np.arange(count) / count
    out = np.zeros((count, 3, 3))
    out[:, 0, 0] = out[:, 1, 1] = np.cos(angles)
    out[:, 1, 0] = np.sin(angles)
    out[:, 0, 1] = -np.sin(angles)
    out[:, 2, 2] = 1.0
    return np.concatenate([out, out * [1.0, -1.0, -1.0]])


_ROWS, _ANTENNAS, _TONES = 120, 8, 16  # of a group's refinement
_SCANNED = 60, 6  # locations and subcarriers of the scan for the second one
_MOST = 6  # sources of a group, of which more are not one path's: of 8 and 11 in a room none was explained by fewer
_LEAST_ROWS, _PARTLY = 12, 0.2  # locations that see a source, and antennas with which one sees it in part
_REACH = np.geomspace(0.01, 0.6, 10)  # of the source's distance, how far from it the second one may be
_STARTS = 2
_FIXES = 2  # of the array between its panels
_ITERATIONS = 20
_CLIPPED = 4.0  # times the median energy left, that a sample counts
_FAILURES = 2  # sources of a group that explain nothing, one after the other: no more are tried
_SHUT = 0.02  # of the samples, that a gate must shut out to be tried beside none
_UPRIGHT = _upright(3600)
_TILTED = 0.02  # of the array's size, that its ends may move when it is set upright


def explained_anew(
    group: Sequence[Source], left: Measured, least_gain: float, rng: np.random.Generator
) -> tuple[list[Source], float]:
    """The sources, with the gates of ``group``, that explain what those of the group and the residual are together,
    where the first of the group is seen, and by how much energy they do it better. Each must explain ``least_gain``:
    there may be fewer than in the group, or two in place of one. The group and 0 where it is large, too few locations
    see the first or one is not better as two."""
    where = _where_seen(group[0], left, rng) if len(group) <= _MOST else None
    if where is None:
        return list(group), 0.0
    own, share = where
    least_gain *= share
    before = own.energy
    if len(group) == 1 and before < least_gain:
        return list(group), 0.0
    add(group, own, 1.0)
    moved = _at_one_alias(group, own, unambiguous_range(left))
    group = moved or group
    starts = [replace(group[0], gate=Gate())]
    if own.panel is not None:
        starts += [one for one, _ in fixed(group[0], own)[:_FIXES]]
    best = min((_settled([start], own, [group[0].degree]) for start in starts), key=lambda one: one.cost)
    # one more at a time, as its gate has it and without: of the choices, the best one
    steps = [[(replace(source, gate=gate), source) for gate in _gates(source, own)] for source in group[1:]] or [[]]
    steps[0] += [(second, group[0]) for second in _second(best.constant[0], own, least_gain)]
    failures, shadows = 0, [group[0]]
    for choices in filter(None, steps):
        trials = [
            (_settled([*best.constant, source], own, [shadow.degree for shadow in (*shadows, like)]), like)
            for source, like in choices
        ]
        trial, like = min(trials, key=lambda one: one[0].cost)
        if trial.cost < best.cost - least_gain:
            best, shadows, failures = trial, [*shadows, like], 0
        elif (failures := failures + 1) == _FAILURES:
            break
    if len(best.varying) == len(group) == 1 and best.cost > before - (0.0 if moved else least_gain):
        return list(group), 0.0
    shaded = [shaded_as(source, shadow, left) for source, shadow in zip(best.varying, shadows, strict=True)]
    return shaded, (before - best.cost) / share


def _where_seen(source: Source, left: Measured, rng: np.random.Generator) -> tuple[Measured, float] | None:
    """What is left where the source is seen, at some of the locations, antennas and subcarriers, and which part of all
    that is; None where few locations see it."""
    lit = source.gate_values(left) > 0.5
    seen, partly = np.flatnonzero(lit.all(axis=1)), np.flatnonzero(lit.mean(axis=1) > _PARTLY)
    if len(seen) < _ROWS <= len(partly):  # light that moves as far as it is wide: few see it with every antenna
        seen = partly
    if len(seen) < _LEAST_ROWS:
        return None
    rows = some_of(seen, _ROWS, rng)
    antennas = np.unique(np.linspace(0, len(left.offsets) - 1, max(_ANTENNAS, 2 * left.panels)).round().astype(np.intp))
    own, chosen = left.part(rows, antennas).at_tones(_TONES), lit[np.ix_(rows, antennas)]
    share = np.count_nonzero(chosen) * len(own.frequencies) / (np.count_nonzero(lit[seen]) * len(left.frequencies))
    return own.weighted(chosen * _clipping(own, chosen)), share


def _clipping(left: Measured, chosen: NDArray[np.bool_]) -> Floats:
    """``[n, A]``: factors that leave no sample more than some times the median energy of those chosen. What is on the
    wrong side of an edge has most of the energy that a group leaves, and others would explain just that."""
    each = np.maximum(sample_energies(left.channels).astype(np.float64), 1e-30)
    return np.asarray(np.sqrt(np.minimum(1.0, _CLIPPED * np.median(each[chosen]) / each)))


def _at_one_alias(group: Sequence[Source], own: Measured, period: float) -> list[Source]:
    """Copies of the sources at the alias that suits the first one's wave best, and of the others at those next to it;
    none where they are there."""
    center = own.positions.mean(axis=0)

    def length(source: Source) -> float:
        return float(np.linalg.norm(source.position - center))

    wanted = length(at_best_alias(plain_source(group[0].position, group[0].rotation), own, period))
    out = [min(at_aliases(source, own, period), key=lambda one: abs(length(one) - wanted)) for source in group]
    return out if any(abs(length(new) - length(old)) > 1.0 for new, old in zip(out, group, strict=True)) else []


def _gates(source: Source, own: Measured) -> list[Gate]:
    """None, which may be what a piece of another source lacks, and its own, where that shuts out some of ``own``."""
    shut = np.mean(source.gate_values(own) < 0.5)
    return [Gate(), source.gate] if shut > _SHUT else [Gate()]


@dataclass(frozen=True, eq=False)
class _Settled:
    """Sources with constant gains, with gains of their degrees, and the energy that the latter leave."""

    constant: list[Source]
    varying: list[Source]
    cost: float


def _settled(sources: Sequence[Source], own: Measured, degrees: Sequence[int]) -> _Settled:
    """Constant gains first: a complex gain that varies with the direction imitates the phases of another place, and
    from there no step lowers the energy much."""
    plain = [replace(plain_source(source.position, source.rotation), gate=source.gate) for source in sources]
    level = [upright(source, own) for source in plain]
    trials = []
    for start in [plain] if level == plain else [plain, level]:
        constant = refine(fit_gains(start, own), own, _ITERATIONS)[0]
        varying = [source.with_degree(degree, own) for source, degree in zip(constant, degrees, strict=True)]
        trials.append(_Settled(constant, *refine(fit_gains(varying, own), own, _ITERATIONS, 1e-3, 1e-4)))
    return min(trials, key=lambda one: one.cost)


def upright(source: Source, measured: Measured) -> Source:
    """The array as walls and grounds mirror it, not tilted, turned so that its phases on the mean ray stay. Where a
    tilt hardly changes the phases, it makes up for a wrong height."""
    ray = source.rays(measured.at_middle_antenna())[1][:, 0].mean(axis=0)
    moves = measured.offsets @ (_UPRIGHT - source.rotation).swapaxes(1, 2)
    along = moves @ ray
    best = int(np.argmin(np.sum(along**2, axis=1) + 1e-3 * np.sum(moves**2, axis=(1, 2))))
    tilted = np.max(np.abs(moves[best])) > _TILTED * np.ptp(measured.offsets)
    return replace(source, rotation=_UPRIGHT[best]) if tilted else source


def refined_where_seen(
    sources: list[Source], whole: Measured, rng: np.random.Generator, rows: int = 2 * _ROWS
) -> list[Source]:
    """Refined on ``whole``, which they alone explain, at locations that see them with at least some antennas."""
    seen = np.flatnonzero(np.max([source.gate_values(whole).mean(axis=1) for source in sources], axis=0) > 0.1)
    if len(seen) < _LEAST_ROWS:
        return sources
    own = whole.part(some_of(seen, rows, rng))
    return refine(fit_gains(sources, own), own, _ITERATIONS, 1e-3, 1e-4)[0]


def _second(source: Source, own: Measured, least_gain: float) -> list[Source]:
    """Copies of ``source`` in the two directions in which its phase changes least, those that explain most first;
    none where the best copy at rest explains less than half of ``least_gain``."""
    count, tones = _SCANNED
    few = own.part(slice(None, None, max(1, len(own.positions) // count)))
    chosen = np.unique(np.linspace(0, len(own.frequencies) - 1, tones).round().astype(np.intp))
    wanted = few.channels[:, :, chosen].reshape(-1).astype(np.complex128)
    least_gain *= wanted.size / own.channels.size
    distance, direction = source.rays(few)
    axes = np.linalg.eigh(np.cov(direction.reshape(-1, 3).T))[1][:, :2].T
    present = np.linalg.qr(_waves(source, few, chosen))[0]
    wanted -= present @ (present.conj().T @ wanted)
    found: list[tuple[float, int, Source]] = []
    for axis in (*axes, *-axes):
        for reach in _REACH * float(distance.mean()):
            moved = replace(source, position=source.position + reach * axis)
            waves = _waves(moved, few, chosen)
            basis = np.linalg.qr(waves - present @ (present.conj().T @ waves))[0]
            found.append((float(np.linalg.norm(basis.conj().T @ wanted)) ** 2, len(found), moved))
    found.sort(key=lambda one: -one[0])
    return [one for gain, _, one in found[:_STARTS] if gain > least_gain / 2]


def _waves(source: Source, measured: Measured, tones: NDArray[np.intp]) -> NDArray[np.complex128]:
    """``[n * A * tones, M]``: what each coefficient of the gain sends."""
    distance, direction = source.rays(measured)
    phases = np.exp(-1j * distance[:, :, None] * measured.wavenumbers[tones])
    gains = source.monomials(direction) / distance[..., None]
    if measured.factors is not None:
        gains *= measured.factors[..., None]
    return np.asarray(phases[..., None] * gains[:, :, None, :]).reshape(-1, gains.shape[-1])
