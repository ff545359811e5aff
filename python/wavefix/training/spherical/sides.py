# SPDX-License-Identifier: Apache-2.0
"""Both sides of an edge that dims and delays a path instead of blocking it: two sources at one place, each with a gain
of its own; (19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical import gates
from wavefix.training.spherical.cells import plain_source
from wavefix.training.spherical.state import Floats, Gate, Measured, Source, project
from wavefix.training.spherical.system import gains_at_one_place

_LEAST_ROWS = 60  # locations that see a source
_LINES = 2  # that divide one
MOST_LINES = 8  # of a source
_TURNS = 2  # of gains and edges, one after the other
_TURNS_OF_GAINS = 8
_SEEN = 0.1  # of the antennas, with which a location sees a source
_NEXT = 60  # locations next to an edge
_STEP = 0.5  # of the larger amplitude, that two waves differ by there
_OUTLIER = 3.0  # standard deviations, beyond which a sample does not tell how gains differ


def complement(gate: Gate) -> Gate:
    """Dark where ``gate`` is lit, and lit where it is dark."""
    return replace(gate, leaves=_unlit(gate.leaves))


def _unlit(leaves: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    if not leaves:
        return ((),)
    if () in leaves:
        return ()
    line = abs(leaves[0][0])
    return tuple(
        (side, *rest)
        for side in (line, -line)
        for rest in _unlit(tuple(leaf[1:] for leaf in leaves if leaf[0] == side))
    )


def within(outer: Gate, inner: Gate) -> Gate:
    """Lit where both are."""
    first = len(outer.lines)
    moved = [tuple(line + first if line > 0 else line - first for line in leaf) for leaf in inner.leaves]
    leaves = tuple(leaf + more for leaf in outer.leaves for more in moved)
    return Gate(np.concatenate([outer.lines, inner.lines]), leaves)


def with_constant_gain(source: Source) -> Source:
    """Its gate and place, and a gain to be fitted."""
    return replace(plain_source(source.position, source.rotation), gate=source.gate)


def either_side(source: Source, gate: Gate) -> list[Source]:
    """The source where ``gate`` is lit as well, and where it is dark."""
    return [replace(source, gate=within(source.gate, own)) for own in (gate, complement(gate))]


def beyond(
    source: Source, projected: NDArray[np.complex64], measured: Measured, least_gain: float
) -> list[Source] | None:
    """The source, and its copy where its gate is dark with the gain that explains there what all sources leave,
    ``projected [n, A]`` on its wave."""
    if source.gate.trivial or source.gate.dark:
        return None
    there = with_constant_gain(replace(source, gate=complement(source.gate)))
    rows = np.flatnonzero(there.gate_values(measured).mean(axis=1) > _SEEN)
    if len(rows) < _LEAST_ROWS:
        return None
    part = measured.places().part(rows)
    fitted, explained = gains_at_one_place([there.with_degree(1, part)], projected[rows], part)
    return [source, *fitted] if explained > least_gain else None


def divided(
    source: Source, projected: NDArray[np.complex64], measured: Measured, least_gain: float
) -> list[Source] | None:
    """The source and its copy on either side of edges that part what two gains explain of its channel and what all
    sources leave, ``projected [n, A]`` on its wave."""
    if len(source.gate.lines) + _LINES > MOST_LINES or source.gate.dark:
        return None
    seen = source.gate_values(measured) > 0.5
    rows = np.flatnonzero(seen.any(axis=1))
    if len(rows) < _LEAST_ROWS:
        return None
    part, seen, projected = measured.places().part(rows), seen[rows], projected[rows]
    one = gains_at_one_place([source], projected, part)[0][0]
    pair = [replace(one, coefficients=one.coefficients * gain) for gain in _two_gains(one, projected, part, seen)]
    gate = Gate()
    for _ in range(_TURNS + 1):
        gate = gates.grow_between(pair, part, projected, seen, gate, least_gain, _LINES)
        if gate.trivial or gate.dark:
            return None
        pair = gains_at_one_place(either_side(source, gate), projected, part)[0]
    return pair


def divided_at(
    source: Source, known: Sequence[Gate], projected: NDArray[np.complex64], measured: Measured, least_gain: float
) -> list[Source] | None:
    """As ``divided``, at an edge of another source: one wall's edge parts the paths of many."""
    best, most = None, gains_at_one_place([source], projected, measured)[1] + least_gain
    for gate in known:
        pair, explained = gains_at_one_place(either_side(source, gate), projected, measured)
        if explained > most:
            best, most = pair, explained
    return best


def sharpened(pair: Sequence[Source], own: Measured, least_gain: float) -> list[Source]:
    """Both sides of an edge at the place of either, the edge again as gains of their degree tell it: what they could
    not follow as constant gains, and what others had not yet explained, has moved it."""
    places, trials = own.places(), list[tuple[list[Source], float]]()
    for place in pair:
        source, gate = replace(place, gate=Gate()), pair[0].gate
        projected = project(source, own)
        everywhere = np.ones(projected.shape, bool)
        best = gains_at_one_place(either_side(source, gate), projected, places)
        for _ in range(_TURNS):
            gate = gates.grow_between(best[0], places, projected, everywhere, gate, least_gain, _LINES)
            if gate.trivial or gate.dark:
                break
            trial = gains_at_one_place(either_side(source, gate), projected, places)
            if trial[1] <= best[1]:
                break
            best = trial
        trials.append(best)
    return max(trials, key=lambda one: one[1])[0]


def steps_at_edge(pair: Sequence[Source], measured: Measured) -> bool:
    """Whether the two waves differ where they meet. Two sources that make up for a wrong place go on from one to the
    other there."""
    part = measured.places()
    part = part.part(np.sort(np.argsort(gates.edge_distances(pair[0], part))[:_NEXT]))
    first, second = (
        one.amplitudes(part, gated=False) * np.exp(-1j * part.wavenumber * one.rays(part)[0]) for one in pair
    )
    larger = np.maximum(np.maximum(np.abs(first), np.abs(second)), 1e-30)
    return float(np.median(np.abs(first - second) / larger)) > _STEP


def _two_gains(
    source: Source, projected: NDArray[np.complexfloating], measured: Measured, seen: NDArray[np.bool_]
) -> tuple[complex, complex]:
    """Relative to the source's, the two with which samples, each with the nearer one, leave least."""
    wave = source.amplitudes(measured, gated=False).astype(np.complex128)
    weight = np.where(seen, np.abs(wave) ** 2, 0.0)
    ratio = projected / (len(measured.frequencies) * np.where(wave == 0, 1.0, wave))

    def mean(values: NDArray[np.complexfloating], weight: Floats) -> complex:
        return complex(np.sum(weight * values) / max(float(np.sum(weight)), 1e-300))

    about = ratio - mean(ratio, weight)
    spread = float(np.sum(weight * np.abs(about) ** 2) / max(float(np.sum(weight)), 1e-300)) ** 0.5
    about[np.abs(about) > _OUTLIER * spread] = 0.0
    # along the line in the complex plane on which they differ most
    side = np.real(about * np.sqrt(mean(about**2, weight)).conjugate()) > 0
    for _ in range(_TURNS_OF_GAINS):
        gains = mean(ratio, weight * side), mean(ratio, weight * ~side)
        side = np.abs(ratio - gains[0]) < np.abs(ratio - gains[1])
    return gains
