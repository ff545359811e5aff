# SPDX-License-Identifier: Apache-2.0
"""The gates of all sources, one after the other: grown, grown anew, and their edges placed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical import gates
from wavefix.training.spherical.search import TWINS, phase_differences, spread_locations
from wavefix.training.spherical.state import Gate, Measured, Source, add, energy, project, residual, whole_of
from wavefix.training.spherical.twins import refined_where_seen

_PLACED = 500  # locations that tell where an edge lies
_TURNED = 0.01  # change of a gate that counts


def replaced(old: list[Source], new: list[Source], left: Measured) -> float:
    """The energy of the residual ``left``, in place, with ``new`` for ``old``."""
    add(old, left, 1.0)
    add(new, left, -1.0)
    return energy(left.channels)


def exchanged(old: list[Source], new: list[Source], left: Measured, limit: float) -> float | None:
    """As ``replaced``; None, and nothing is changed, where that is not below ``limit``."""
    before = left.channels.copy()
    after = replaced(old, new, left)
    if after < limit:
        return after
    left.channels[...] = before
    return None


def change(old: Source, new: Source, left: Measured) -> float:
    """What the energy of the residual ``left``, in place, grows by with ``new`` for ``old``."""
    before = energy(left.channels)
    return replaced([old], [new], left) - before


def regate(
    sources: list[Source],
    measured: Measured,
    share: float,
    most_lines: int,
    rng: np.random.Generator,
    deadline: float = float("inf"),
    anew: bool = True,
) -> list[Source]:
    """One pass over the gates, the strongest source first, as far as the time lasts; each sees what all others leave.
    ``anew``: gates are grown from nothing as well, of each source alone and together with the weaker ones whose phases
    hardly differ: of a path and its image in the ground, each would take what the gate of the other lacks."""
    left = residual(sources, measured)
    out = list(sources)
    strength = np.array([source.strength(measured) for source in sources])
    difference = phase_differences(sources, spread_locations(measured))
    tones = len(measured.frequencies)
    cost = energy(left.channels)

    def grown(source: Source, projected: NDArray[np.complex64]) -> Source:
        return replace(source, gate=gates.grow(source, measured, projected, share * cost, most_lines))

    def exchange(numbers: Sequence[int], new: list[Source]) -> None:
        """Where that leaves less energy; a line counts half of what it must explain."""
        nonlocal cost
        old = [out[number] for number in numbers]
        fewer = sum(len(one.gate.lines) for one in old) - sum(len(one.gate.lines) for one in new)
        after = exchanged(old, new, left, cost * (1 + share / 2 * max(0, fewer)))
        if after is not None:
            cost = after
            for number, source in zip(numbers, new, strict=True):
                out[number] = source

    for i in np.argsort(-strength):
        if time.monotonic() > deadline:
            break
        source = out[i]
        projected = project(source, left) + tones * source.amplitudes(measured)
        fresh = grown(replace(source, gate=Gate()), projected) if anew and len(source.gate.lines) > 1 else None
        exchange([i], [grown(source, projected)])
        if fresh and not fresh.gate.dark:
            # with the gain that it had, which fits where its gate was open, it seldom is the better one
            whole = whole_of([out[i]], left)
            exchange([i], refined_where_seen([fresh], whole, rng))
        twins = np.flatnonzero((difference[i] < TWINS) & (strength < strength[i]))
        if anew and len(twins):
            group = [i, *twins[np.argsort(-strength[twins])]]
            whole = whole_of([out[j] for j in group], left)
            gate = gates.grow_together([out[j] for j in group], whole, share * cost, most_lines)
            exchange(group, [replace(out[j], gate=gate) for j in group])
    return [source for source in out if not source.gate.dark] or out


def place_edges(
    sources: list[Source],
    measured: Measured,
    few: NDArray[np.intp],
    deadline: float,
    number_worth: float = 0.0,
) -> list[Source]:
    """The same edges, moved by what all antennas see next to them; upright or level, where ``number_worth`` samples for
    each number less are not more on their wrong side. Each antenna that an edge leaves on the wrong side is an error as
    large as its path; ``few`` antennas tell which locations are next to an edge, and which see another gate then.

    Some of the latter are asked as well: the nearest locations say little of where an edge goes, and a gain may be
    anything where nothing has seen it."""
    out, thin = list(sources), measured.part(slice(None), few)
    tones = len(measured.frequencies)
    for i, source in enumerate(sources):
        if time.monotonic() > deadline:
            break
        if source.gate.trivial or source.gate.dark:
            continue
        near = np.sort(np.argsort(gates.edge_distances(source, thin))[:_PLACED])
        part = measured.part(near)
        left = residual(out, part)
        projected = project(source, left) + tones * source.amplitudes(part)
        gate = gates.grow(source, part, projected, np.inf, len(source.gate.lines), number_worth)
        trial = replace(source, gate=gate)
        spared = number_worth * (source.gate.numbers - gate.numbers) * gates.worth(source, part)
        turned = np.max(np.abs(trial.gate_values(thin) - source.gate_values(thin)), axis=1) > _TURNED
        turned[near] = False
        elsewhere = np.flatnonzero(turned)
        stride = 1 + len(elsewhere) // _PLACED
        more = change(source, trial, left) - spared
        if more < 0 and len(elsewhere):
            more += stride * change(source, trial, residual(out, measured.part(elsewhere[::stride])))
        if more < 0:
            out[i] = trial
    return out
