# SPDX-License-Identifier: Apache-2.0
"""New sources from what the present ones leave: found in cells, grown to where they are coherent, given a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical import gates
from wavefix.training.spherical.antennas import chosen_antennas
from wavefix.training.spherical.beams import Beams, unambiguous_range
from wavefix.training.spherical.cells import at_best_alias, explained, find, plain_source
from wavefix.training.spherical.concurrent import for_each
from wavefix.training.spherical.panels import find_across, fixed, preferred
from wavefix.training.spherical.state import Floats, Measured, Source, energy, project, residual, some_of
from wavefix.training.spherical.system import refine

_NEIGHBORS = 12
_CELLS = {1: 1, 2: 4, 4: 8, 8: 12}  # by cells across the zone
_ROWS = 96  # of a step of growth
_REACHES = 0.25, 0.5, 1.0, 1.0  # of the farthest location's distance, that it extends to
_GROWN = 12  # candidates that are grown
_SAME = 2.0  # radians of phase difference below which two sources are one
TWINS, _COMPARED = 4.0, 400  # radians below which a wave is like another, and the locations where this is measured
_TOGETHER = 0.1  # of the locations that see the weaker one of a group, that see both
_ONE_PLACE = 1.0  # radians below which one is a piece of the same path
_ALIKE = 6.0  # radians below which they are not added in one round


@dataclass(frozen=True, eq=False)
class Field:
    """The training locations: all antennas for beams, some of them for everything else, neighbors of every location."""

    full: Measured
    thin: Measured
    few: NDArray[np.intp]
    neighbors: NDArray[np.intp]
    beams: Beams

    @classmethod
    def of(cls, measured: Measured, antennas: int) -> Field:
        few = chosen_antennas(measured, antennas)
        neighbors = nearest(measured.positions, _NEIGHBORS)
        return cls(measured, measured.part(slice(None), few), few, neighbors, Beams.of(measured))

    def weighted(self, factors: Floats) -> Field:
        """With each location multiplied by its factor, ``[n]``."""
        full = self.full.weighted(factors)
        return replace(self, full=full, thin=full.part(slice(None), self.few))

    def at(self, positions: Floats) -> Field:
        """The same locations, a little moved."""
        full, thin = (replace(one, positions=positions) for one in (self.full, self.thin))
        return replace(self, full=full, thin=thin)


def spread_locations(measured: Measured, count: int = 60) -> Measured:
    """About so many of them."""
    return measured.part(np.arange(0, len(measured.positions), max(1, len(measured.positions) // count)))


def nearest(positions: Floats, count: int) -> NDArray[np.intp]:
    """``[n, count]``: the nearest other locations."""
    count = min(count, len(positions) - 1)
    out = np.empty((len(positions), count), np.intp)
    squares = np.einsum("nc,nc->n", positions, positions)
    for first in range(0, len(positions), 512):
        part = slice(first, first + 512)
        distance = squares[part, None] + squares - 2 * positions[part] @ positions.T
        distance[np.arange(len(distance)), np.arange(first, first + len(distance))] = np.inf
        out[part] = np.argpartition(distance, count - 1, axis=1)[:, :count]
    return out


def coherence(source: Source, left: Measured, neighbors: NDArray[np.intp]) -> Floats:
    """``[n]``: the energy that each location's neighbors predict of it with the source's phase."""
    factors = np.ones(len(left.positions)) if left.factors is None else left.factors.max(axis=1)
    values = project(source, left).sum(axis=1) / factors
    size = left.channels.shape[1] * left.channels.shape[2]
    gain = values[neighbors].mean(axis=1) / size
    out: Floats = (2 * np.real(gain.conj() * values) - np.abs(gain) ** 2 * size) * factors**2
    return out


def coherent_energy(source: Source, left: Measured, neighbors: NDArray[np.intp]) -> float:
    return float(np.sum(np.maximum(coherence(source, left, neighbors), 0)))


def phase_differences(sources: Sequence[Source], measured: Measured) -> Floats:
    """``[L, L]``: standard deviation, in radians, of the phase between sources over locations and antennas."""
    phases = measured.wavenumber * np.stack([source.rays(measured)[0].reshape(-1) for source in sources])
    phases -= phases.mean(axis=1, keepdims=True)
    return np.array([np.sqrt(np.mean((phases - one) ** 2, axis=1)) for one in phases])


def alike(sources: Sequence[Source], measured: Measured) -> list[list[int]]:
    """Groups of sources, the strongest first in each, from which the phases of the others hardly differ where these are
    seen, in part with it or as pieces of its path; every source is in one of them."""
    few = spread_locations(measured, _COMPARED)
    phases = measured.wavenumber * np.stack([source.rays(few)[0] for source in sources])
    seen = np.stack([source.gate_values(few).mean(axis=1) > 0.5 for source in sources])
    strength = [source.strength(few) for source in sources]

    def difference(i: int, leader: int) -> float:
        own = seen[i]
        if not own.any():
            return np.inf
        turns = float(np.std((phases[i] - phases[leader])[own]))
        return turns if turns < _ONE_PLACE or np.mean(seen[leader][own]) > _TOGETHER else np.inf

    groups: list[list[int]] = []
    for i in np.argsort(strength)[::-1]:
        differences = [difference(i, group[0]) for group in groups]
        closest = int(np.argmin(differences)) if groups else 0
        if groups and differences[closest] < TWINS:
            groups[closest].append(int(i))
        else:
            groups.append([int(i)])
    return groups


def at_one_place(first: Source, other: Source, measured: Measured) -> bool:
    """Whether the phases of ``other`` are those of the first one where it is seen, as of pieces of one path."""
    few = spread_locations(measured, _COMPARED)
    seen = other.gate_values(few) > 0.5
    turns = (measured.wavenumber * (first.rays(few)[0] - other.rays(few)[0]))[seen]
    return not turns.size or float(np.std(turns)) < _ONE_PLACE


def candidates(
    field: Field, left: Measured, left_thin: Measured, scales: Sequence[int], rng: np.random.Generator
) -> list[Source]:
    """Sources found in cells of the given scales, the most explaining ones first, without near copies."""
    positions = left.positions
    power = np.einsum("njk,njk->n", left_thin.channels, left_thin.channels.conj()).real
    extent = float(np.max(np.ptp(positions, axis=0)))
    cells = []
    for scale in scales:
        radius = 0.6 * extent / scale
        heat = power.copy()
        for _ in range(_CELLS[scale]):
            if not heat.sum() > 0:
                break
            center = positions[rng.choice(len(positions), p=heat / heat.sum())]
            distance = np.linalg.norm(positions - center, axis=1)
            rows = np.flatnonzero(distance < radius)
            heat[distance < 0.7 * radius] = 0
            if len(rows) >= 8:
                cells.append(rows)

    def coherent(source: Source) -> float:
        return coherent_energy(source, left_thin, field.neighbors)

    def best_of(rows: NDArray[np.intp], own: np.random.Generator) -> list[tuple[float, Source]]:
        part = left.part(rows)
        if part.panel is not None:
            best = find_across(part, coherent, own)
        else:
            best = max(find(part, field.beams, own), key=lambda one: one[1], default=None)
        return [] if best is None or best[1] < 0.02 else [(coherent(best[0]), best[0])]

    found = [one for some in for_each(best_of, cells, rng) for one in some]
    found.sort(key=lambda one: -one[0])
    return distinct([source for _, source in found], left_thin, _SAME)


def distinct(sources: Sequence[Source], measured: Measured, least: float) -> list[Source]:
    if not sources:
        return []
    difference = phase_differences(sources, spread_locations(measured))
    kept: list[int] = []
    for i in range(len(sources)):
        if np.all(difference[i, kept] > least):
            kept.append(i)
    return [sources[i] for i in kept]


def _lit(predicted: Floats, neighbors: NDArray[np.intp]) -> NDArray[np.intp]:
    """Locations that are coherent with a source, as their neighbors are."""
    smooth = predicted[neighbors].mean(axis=1)
    return np.flatnonzero(smooth > 0.15 * smooth.max())


def grow(source: Source, left: Measured, neighbors: NDArray[np.intp], rng: np.random.Generator) -> Source:
    """Refine a source on the locations that are coherent with it, from where it is strongest outward; last as far away
    as the curvature of its wave over all of them tells, of what the delay allows."""
    predicted = coherence(source, left, neighbors)
    smooth = predicted[neighbors].mean(axis=1)
    center = left.positions[int(np.argmax(smooth))]
    distance = np.linalg.norm(left.positions - center, axis=1)
    for reach in _REACHES:
        lit = _lit(predicted, neighbors)
        lit = lit[distance[lit] <= reach * distance.max()]
        if len(lit) < 16:
            continue
        rows = some_of(lit, _ROWS, rng)
        part = left.part(rows)
        plain = plain_source(source.position, source.rotation)
        if reach < _REACHES[-1]:
            source = refine([explained(plain, part)[0]], part, 8)[0][0]
        else:
            source = at_best_alias(plain, part, unambiguous_range(left))
        predicted = coherence(source, left, neighbors)
    return source


def fixed_again(source: Source, field: Field, left: Measured, rng: np.random.Generator) -> Source:
    """The source with the whole cycles between panels that all locations coherent with it tell."""
    lit = _lit(coherence(source, left, field.neighbors), field.neighbors)
    if len(lit) < 16:
        return source
    fixes = fixed(source, left.part(some_of(lit, _ROWS, rng)))
    found = preferred(fixes, lambda one: coherent_energy(one, left, field.neighbors))
    return source if found is None else found[0]


def polish(
    source: Source, left: Measured, neighbors: NDArray[np.intp], degree: int, rng: np.random.Generator
) -> Source:
    """The source alone on the residual: gain and gate in turns."""
    lit = _lit(coherence(source, left, neighbors), neighbors)
    if len(lit) < 8:
        return source
    rows = some_of(lit, 2 * _ROWS, rng)
    part = left.part(rows)
    source, _ = explained(source, part)
    source = source.with_degree(degree, part)
    source = refine([source], part, 6)[0][0]
    for lines in (2, 4):
        gate = gates.grow(source, left, project(source, left), 2e-3 * energy(left.channels), lines)
        source = replace(source, gate=gate)
        lit = np.flatnonzero(source.gate_values(left).max(axis=1) > 0.3)
        if len(lit) < 8:
            return source
        rows = some_of(lit, 2 * _ROWS, rng)
        source = refine([source], left.part(rows), 6)[0][0]
    return source


def new_sources(
    field: Field,
    left: Measured,
    left_thin: Measured,
    scales: Sequence[int],
    most: int,
    least_gain: float,
    rng: np.random.Generator,
) -> list[Source]:
    """Up to ``most`` sources that explain the residual best, each ``least_gain`` of it, unlike one another."""
    if most < 1:
        return []
    proposed = candidates(field, left, left_thin, scales, rng)[: 2 * _GROWN]

    def grow_one(source: Source, own: np.random.Generator) -> tuple[float, Source]:
        one = grow(source, left_thin, field.neighbors, own)
        if left_thin.panel is not None:
            one = fixed_again(one, field, left_thin, own)
        return coherent_energy(one, left_thin, field.neighbors), one

    grown = for_each(grow_one, proposed, rng)
    grown.sort(key=lambda one: -one[0])
    kept = distinct([source for _, source in grown], left_thin, _SAME)[:_GROWN]
    before = energy(left_thin.channels)

    def polish_one(source: Source, own: np.random.Generator) -> tuple[float, Source]:
        one = polish(source, left_thin, field.neighbors, 1, own)
        return before - residual([one], left_thin).energy, one

    polished = for_each(polish_one, kept, rng)
    polished.sort(key=lambda one: -one[0])
    chosen = [source for gain, source in polished if gain > least_gain * before]
    return distinct(chosen, left_thin, _ALIKE)[:most]
