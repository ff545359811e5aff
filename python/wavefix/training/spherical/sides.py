# SPDX-License-Identifier: Apache-2.0
"""Paths that a thin wall dims and delays instead of blocking them: a source for either side of its edge, both at one
place, each with a gain of its own; (19)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical import gates
from wavefix.training.spherical.cells import plain_source
from wavefix.training.spherical.search import alike
from wavefix.training.spherical.state import Floats, Gate, Measured, Source, add, project, residual, whole_of
from wavefix.training.spherical.system import fit_gains
from wavefix.training.spherical.twins import refined_where_seen

_LEAST_ROWS = 60  # locations that see a source
_LEAST = 3e-5  # of the whole energy, that another gain must explain
_SHARED = 0.05  # of what sees one of two sources, that sees both, at most
_LEADERS = 3  # groups whose first source is divided as if the others were not there
_MOST_PIECES = 4
_LINES = 2  # that divide one
_MOST_LINES = 8  # of a source
_TURNS = 2  # of gains and edges, one after the other
_TURNS_OF_GAINS = 8
_SEEN = 0.1  # of the antennas, with which a location sees a source
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


def join(sources: list[Source], measured: Measured, share: float, rng: np.random.Generator) -> list[Source]:
    """One source for two whose phases hardly differ and that are seen from different places, where that leaves at most
    ``share`` more of the energy: a source at a wrong place turns phases, which two gains make up for in part."""
    left = residual(sources, measured)
    cost = left.energy
    values = [source.gate_values(measured) > 0.5 for source in sources]
    pairs = [pair for group in alike(sources, measured) for pair in itertools.combinations(group, 2)]
    gone: set[int] = set()
    for i, j in pairs:
        both = np.count_nonzero(values[i] & values[j])
        if gone & {i, j} or both > _SHARED * min(np.count_nonzero(values[i]), np.count_nonzero(values[j])):
            continue
        whole = whole_of([sources[i], sources[j]], left)
        one = refined_where_seen([replace(sources[i], gate=Gate())], whole, rng)[0]
        gate = gates.grow(one, whole, project(one, whole), share * cost, _MOST_LINES)
        (one,) = refined_where_seen([replace(one, gate=gate)], whole, rng)
        after = residual([one], whole)
        if after.energy < (1 + share) * cost:
            sources = [*sources[:i], one, *sources[i + 1 :]]
            left, cost = after, after.energy
            gone.add(j)
    return [source for k, source in enumerate(sources) if k not in gone]


def divide(
    sources: list[Source], measured: Measured, share: float, most: int, rng: np.random.Generator
) -> list[Source]:
    """At most ``most`` sources more, the strongest ones' first, each where that leaves ``share`` less of the energy:
    first of sources as if those of like phases were not there, then of each beside all others."""
    left, least = residual(sources, measured), _LEAST * measured.energy
    if left.energy < least:
        return sources
    out: list[Source] = []
    for number, indices in enumerate(alike(sources, measured)):
        group = [sources[i] for i in indices]
        if number < _LEADERS and len(group) > 1 and most > 0:
            new, left = _first_divided(group, left, share, least, most, rng)
            most -= len(new) - len(group)
            group = new
        out += group
    return _divided_each(out, left, share, least, most, rng)


def _first_divided(
    group: list[Source], left: Measured, share: float, least: float, most: int, rng: np.random.Generator
) -> tuple[list[Source], Measured]:
    """The group with its first source divided as the others do not explain it, and what is left then. Found before an
    edge was, they make up at wrong places for what it parts, and beside them no division leaves less."""
    whole = whole_of(group, left)
    pieces = _pieces(group[0], whole, share, least, min(most + 1, _MOST_PIECES), rng)
    if len(pieces) > 1:
        new, same = (refined_where_seen([*first, *group[1:]], whole, rng) for first in (pieces, group[:1]))
        after = residual(new, whole)
        if after.energy < min(left.energy, residual(same, whole).energy) - max(share * left.energy, least):
            return new, after
    return group, left


def _pieces(
    source: Source, whole: Measured, share: float, least: float, most: int, rng: np.random.Generator
) -> list[Source]:
    """The source divided, and both sides again, as long as that leaves ``share`` less of ``whole``."""
    pieces = refined_where_seen([replace(source, gate=Gate())], whole, rng)
    left, waiting = residual(pieces, whole), [0]
    while waiting and len(pieces) < most:
        i = waiting.pop()
        own = whole_of([pieces[i]], left)
        gain = max(share * left.energy, least)
        trial = divided(pieces[i], own, gain)
        if trial is None:
            continue
        pair = refined_where_seen(trial, own, rng)
        after = residual(pair, own)
        if after.energy < left.energy - gain:
            pieces[i], left = pair[0], after
            pieces.append(pair[1])
            waiting += [len(pieces) - 1, i]
    return pieces


def _divided_each(
    sources: list[Source], left: Measured, share: float, least: float, most: int, rng: np.random.Generator
) -> list[Source]:
    """Another gain beyond an edge that a source has, or on one side of an edge that two gains tell."""
    cost = left.energy
    strength = [source.strength(left) for source in sources]
    out, more = list(sources), list[Source]()
    for i in np.argsort(strength)[::-1]:
        if len(more) >= most:
            break
        for sides in (beyond, divided):
            whole = whole_of([out[i]], left)
            trial = sides(out[i], whole, share * cost)
            if trial is None:
                continue
            pair = refined_where_seen(trial, whole, rng)
            after = residual(pair, whole)
            gain = max(share * cost, least)
            if after.energy > cost - gain:
                continue
            # a source at a wrong place turns phases, which two gains make up for in part
            alone = [refined_where_seen([replace(out[i], gate=gate)], whole, rng)[0] for gate in (Gate(), out[i].gate)]
            single, rest = min(((one, residual([one], whole)) for one in alone), key=lambda one: one[1].energy)
            if after.energy < rest.energy - gain:
                out[i], left, cost = pair[0], after, after.energy
                more.append(pair[1])
            elif rest.energy < cost:
                out[i], left, cost = single, rest, rest.energy
    return out + more


def beyond(source: Source, whole: Measured, least_gain: float) -> list[Source] | None:
    """The source, and its copy where its gate is dark with the gain that explains ``whole`` there."""
    if source.gate.trivial or source.gate.dark:
        return None
    there = replace(source, gate=complement(source.gate))
    rows = np.flatnonzero(there.gate_values(whole).mean(axis=1) > _SEEN)
    if len(rows) < _LEAST_ROWS:
        return None
    part = whole.part(rows)
    add([source], part, -1.0)
    plain = replace(plain_source(source.position, source.rotation), gate=there.gate)
    fitted = fit_gains([plain.with_degree(1, part)], part)
    return [source, *fitted] if part.energy - residual(fitted, part).energy > least_gain else None


def divided(source: Source, whole: Measured, least_gain: float) -> list[Source] | None:
    """The source and its copy on either side of edges that part what two gains explain of ``whole``, its channel and
    what all sources leave."""
    if len(source.gate.lines) + _LINES > _MOST_LINES or source.gate.dark:
        return None
    seen = source.gate_values(whole) > 0.5
    rows = np.flatnonzero(seen.any(axis=1))
    if len(rows) < _LEAST_ROWS:
        return None
    part, seen = whole.part(rows), seen[rows]
    projected = project(source, part)
    pair = [replace(source, coefficients=source.coefficients * gain) for gain in _two_gains(source, part, seen)]
    gate = Gate()
    for _ in range(_TURNS + 1):
        gate = gates.grow_between(pair, part, projected, seen, gate, least_gain, _LINES)
        if gate.trivial or gate.dark:
            return None
        inner = (gate, complement(gate))
        pair = [replace(one, gate=within(source.gate, own)) for one, own in zip(pair, inner, strict=True)]
        pair = fit_gains(pair, part)
    return pair


def _two_gains(source: Source, measured: Measured, seen: NDArray[np.bool_]) -> tuple[complex, complex]:
    """Relative to the source's, the two with which samples, each with the nearer one, leave least."""
    wave = source.amplitudes(measured, gated=False).astype(np.complex128)
    weight = np.where(seen, np.abs(wave) ** 2, 0.0)
    ratio = project(source, measured) / (len(measured.frequencies) * np.where(wave == 0, 1.0, wave))

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
