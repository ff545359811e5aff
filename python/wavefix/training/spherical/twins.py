# SPDX-License-Identifier: Apache-2.0
"""Sources whose phases hardly differ, as of a path and its mirror image in the ground: explained anew together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wavefix.constants import SPEED_OF_LIGHT
from wavefix.training.spherical.state import Floats, Gate, Measured, Source, add, some_of
from wavefix.training.spherical.system import fit_gains, refine, shaded_as

_ROWS, _ANTENNAS = 120, 8  # locations and antennas of a pair's refinement
_SCANNED = 60, 6  # locations and subcarriers of the scan for the second one
_LEAST_ROWS = 12
_REACH = np.geomspace(0.01, 0.6, 10)  # of the source's distance, how far from it the second one may be
_STARTS = 2
_ITERATIONS = 20


def explained_anew(
    group: Sequence[Source], left: Measured, least_gain: float, rng: np.random.Generator
) -> tuple[list[Source], float]:
    """The sources, with the gates of ``group``, that explain what those of the group and the residual are together,
    where the first of the group is seen, and by how much energy they do it better. Each must explain ``least_gain``:
    there may be fewer than in the group, or two in place of one. The group and 0 where too few locations see the first
    or one is not better as two."""
    lit = np.flatnonzero(group[0].gate_values(left).min(axis=1) > 0.5)  # with every antenna
    if len(lit) < _LEAST_ROWS:
        return list(group), 0.0
    rows = some_of(lit, _ROWS, rng)
    antennas = np.unique(np.linspace(0, len(left.offsets) - 1, _ANTENNAS).round().astype(np.intp))
    own = left.part(rows, antennas)
    share = own.channels.size / (len(lit) * left.channels[0].size)
    least_gain *= share
    before = own.energy
    if len(group) == 1 and before < least_gain:
        return list(group), 0.0
    add(group, own, 1.0)
    leader, *others = (replace(source, gate=Gate()) for source in group)
    seconds = _second(leader, own, least_gain)
    if not others and not seconds:
        return list(group), 0.0
    # one more at a time: of the first two choices, the better one
    pending = list(zip(others, group[1:], strict=True))
    steps = [[*((second, group[0]) for second in seconds), *pending[:1]], *([one] for one in pending[1:])]
    (best, cost), shadows = refine([leader], own, _ITERATIONS), [group[0]]
    for choices in steps:
        more, limit, last = best, cost - least_gain, group[0]
        for source, shadow in choices:
            trial, after = refine(fit_gains([*best, source], own), own, _ITERATIONS, 1e-3, 1e-4)
            if after < limit:
                more, limit, last = trial, after, shadow
        if more is not best:
            best, cost, shadows = more, limit, [*shadows, last]
    if len(best) == len(group) == 1:
        return list(group), 0.0
    shaded = [shaded_as(source, shadow, left) for source, shadow in zip(best, shadows, strict=True)]
    return shaded, (before - cost) / share


def refined_where_seen(sources: list[Source], whole: Measured, rng: np.random.Generator) -> list[Source]:
    """Refined on ``whole``, which they alone explain, at locations that see them with at least some antennas."""
    seen = np.flatnonzero(np.max([source.gate_values(whole).mean(axis=1) for source in sources], axis=0) > 0.1)
    if len(seen) < _LEAST_ROWS:
        return sources
    own = whole.part(some_of(seen, 2 * _ROWS, rng))
    return refine(fit_gains(sources, own), own, _ITERATIONS, 1e-3, 1e-4)[0]


def _second(source: Source, own: Measured, least_gain: float) -> list[Source]:
    """Dark copies of ``source`` in the two directions in which its phase changes least, those that explain most first;
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
    starts = [one for gain, _, one in found[:_STARTS] if gain > least_gain / 2]
    return [replace(one, coefficients=np.zeros_like(one.coefficients)) for one in starts]


def _waves(source: Source, measured: Measured, tones: NDArray[np.intp]) -> NDArray[np.complex128]:
    """``[n * A * tones, M]``: what each coefficient of the gain sends."""
    distance, direction = source.rays(measured)
    wavenumbers: Floats = 2 * np.pi / SPEED_OF_LIGHT * measured.frequencies[tones]
    phases = np.exp(-1j * distance[:, :, None] * wavenumbers)
    gains = source.monomials(direction) / distance[..., None]
    if measured.factors is not None:
        gains *= measured.factors[:, None, None]
    return np.asarray(phases[..., None] * gains[:, :, None, :]).reshape(-1, gains.shape[-1])
