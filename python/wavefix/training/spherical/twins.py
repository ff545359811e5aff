# SPDX-License-Identifier: Apache-2.0
"""Sources that are two: a path and its mirror image, say in the ground, whose phases hardly differ over the zone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wavefix.constants import SPEED_OF_LIGHT
from wavefix.training.spherical.state import Floats, Gate, Measured, Source, add, some_of
from wavefix.training.spherical.system import fit_gains, refine

_ROWS, _ANTENNAS = 120, 8  # locations and antennas of a pair's refinement
_SCANNED = 60, 6  # locations and subcarriers of the scan for the second one
_LEAST_ROWS = 24
_REACH = np.geomspace(0.01, 0.6, 10)  # of the source's distance, how far from it the second one may be
_STARTS = 2
_ITERATIONS = 10
_HOPELESS = 1.2  # times the energy left; measured where the others made up for the rest: 1.02


def split(source: Source, left: Measured, least_gain: float, rng: np.random.Generator) -> tuple[list[Source], float]:
    """The two sources that explain best what ``source`` and the residual are together, and the energy by which they do
    it better than one does; the source itself and 0 where that is less than ``least_gain``."""
    lit = _all_seen_from([source], left)
    if len(lit) < _LEAST_ROWS:
        return [source], 0.0
    rows = some_of(lit, _ROWS, rng)
    antennas = np.unique(np.linspace(0, len(left.offsets) - 1, _ANTENNAS).round().astype(np.intp))
    own = left.part(rows, antennas)
    share = own.channels.size / (len(lit) * left.channels[0].size)
    least_gain *= share
    if own.energy < least_gain:
        return [source], 0.0
    add([source], own, 1.0)
    one = replace(source, gate=Gate())
    starts = _second(one, own, least_gain)
    if not starts:
        return [source], 0.0
    alone, cost = refine([one], own, _ITERATIONS)
    best, least = alone, cost - least_gain
    for start in starts:
        pair, after = refine([alone[0], start], own, _ITERATIONS, 1e-3, 1e-4)
        if after < least:
            best, least = pair, after
    if len(best) == 1:
        return [source], 0.0
    return [replace(part, gate=source.gate) for part in best], (cost - least) / share


def replaceable(pair: list[Source], one: Source, left: Measured, rng: np.random.Generator) -> bool:
    """Whether one source in place of two may do: where both are seen, with the others as they are, it leaves less than
    ``_HOPELESS`` times what the two leave."""
    lit = _all_seen_from(pair, left)
    if len(lit) < _LEAST_ROWS:
        return True
    own = left.part(some_of(lit, _ROWS, rng))
    limit = _HOPELESS * own.energy
    add(pair, own, 1.0)
    return refine(fit_gains([one], own), own, _ITERATIONS)[1] < limit


def _all_seen_from(sources: list[Source], measured: Measured) -> NDArray[np.intp]:
    """Locations that see all of ``sources`` with every antenna."""
    return np.flatnonzero(np.min([source.gate_values(measured).min(axis=1) for source in sources], axis=0) > 0.5)


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
