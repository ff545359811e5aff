# SPDX-License-Identifier: Apache-2.0
"""Rounds of the fit: groups of like sources explained anew, new sources, joint refinement, gates, pruning."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from wavefix.training.spherical import gates
from wavefix.training.spherical.antennas import chosen_antennas
from wavefix.training.spherical.concurrent import for_each
from wavefix.training.spherical.divisions import divide
from wavefix.training.spherical.edges import exchanged, place_edges, regate
from wavefix.training.spherical.positions import PositionErrors
from wavefix.training.spherical.search import (
    Field,
    alike,
    new_sources,
)
from wavefix.training.spherical.state import (
    Floats,
    Measured,
    Source,
    energies,
    energy,
    residual,
    some_of,
    whole_of,
)
from wavefix.training.spherical.system import GainSystem, fit_gains, refine, with_degree
from wavefix.training.spherical.twins import explained_anew, refined_where_seen
from wavefix.training.spherical.windows import through_windows

_SAMPLE = 600  # locations of a joint step, at least
_DIVIDED, _TONES = 2000, 16  # locations and subcarriers that tell what lies on either side of an edge
_SEEN = 50  # of them, that each source should be seen from
_ANEW = 3  # in one of so many rounds gates are grown from nothing beside what they were
_REGROUPED = 4  # rounds after which sources are, and divided at edges
_RARELY = 0.25  # of the locations see a source
STRICT_ROUNDS = 10  # in which only strong sources count: weak ones explain what stronger ones, not yet found, leave
_AT_ONCE = (4, 8)  # sources added in one round, strict and later
_SCALES = ((1, 2, 4, 8), (1, 2, 4), (2, 4, 8))  # cells across the zone: first round, even ones, odd ones
_LEAST_GAIN = (1e-3, 5e-4)  # of what is left, that a new source must explain
_LEAST_DIVISION = 5e-3  # of what is left, that two must explain beyond one
_LEAST_SIDE = 0.05  # of what is left, that another gain beyond an edge must explain
_SURE = 0.1  # of what is left, that pieces must explain while most sources are not found yet
_LEAST_EDGE = 2e-3  # of what is left, that an edge must explain
_LINES, _FEW_LINES = (3, 6), 3  # of a gate, in the first so many rounds and later
_FAINT = (0.01, 0.003)  # of what is left, that a source must explain to stay
_CLIPPED = 2.0  # times the median energy left, that a location counts in the later rounds
_NOTHING = 1e-7  # of the whole, that no source is needed for
_FINISH_LOCATIONS, _FINISH_ANTENNAS = 1000, 10  # of a joint step at the end
_FINISH_GATE_ANTENNAS, _FINISH_SAMPLES = 32, 90_000  # of the last gates
_FOR_EDGES, _PLACINGS = 0.15, 3  # of the time for the last steps, for placing edges after them; how often, at most
_WINDOWED, _WINDOWS = (0, 2), 2  # of the last passes, those that look behind narrow windows; sources there, at most
_FINISH_SHARES = (2e-3, 5e-4, 5e-4)  # of what is left, that an edge must explain


class Stages(dict[str, float]):
    """Seconds by stage."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self[name] = self.get(name, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class Errors:
    """Energy left of the held-out channels: of all, of the median location, and the geometric mean of all locations."""

    nmse: float
    median: float
    usual: float

    @property
    def both(self) -> float:
        """What a step must lower: a few locations next to edges have most of the first, and none of the second."""
        return float(np.sqrt(self.nmse * self.median))


@dataclass
class State:
    """Sources so far, and what they leave."""

    sources: list[Source] = field(default_factory=list)
    errors: Errors = field(default_factory=lambda: Errors(1.0, 1.0, 1.0))


def errors_of(sources: list[Source], measured: Measured, moves: float = 0.0) -> Errors:
    """``moves``: what positions that were moved add, relative to the energy."""
    if not sources:
        return Errors(1.0, 1.0, 1.0)
    left, whole = energies(residual(sources, measured).channels), energies(measured.channels)
    whole = np.maximum(whole, 1e-9 * whole.max())
    each = np.maximum(left / whole, _NOTHING**2)
    usual = float(np.exp(np.mean(np.log(each))))
    return Errors(float(left.sum() / whole.sum()) + moves, float(np.median(each)) + moves, usual + moves)


def clipping(sources: list[Source], measured: Measured) -> Floats:
    """``[n]``: factors that leave no location more than ``_CLIPPED`` times the median energy. A few locations next to
    edges have most of the energy that is left, and hide a weak source that is seen everywhere. Energy, and not energy
    relative to the location's own: shadows, which have little, would count for nothing as soon as they fit badly."""
    left = np.maximum(energies(residual(sources, measured).channels), 1e-30)
    return np.asarray(np.sqrt(np.minimum(1.0, _CLIPPED * np.median(left) / left)))


def covering(sources: list[Source], measured: Measured, count: int, rng: np.random.Generator) -> Measured:
    """``count`` locations, and more where a source would be seen from too few of them to fit its gain."""
    if len(measured.positions) <= count:
        return measured
    middle = measured.at_middle_antenna()
    chosen = np.zeros(len(measured.positions), bool)
    chosen[rng.choice(len(chosen), count, replace=False)] = True
    for source in sources:
        seen = source.seen_from(middle)
        others = np.flatnonzero(seen & ~chosen)
        missing = min(max(0, _SEEN - int(np.count_nonzero(seen & chosen))), len(others))
        chosen[rng.choice(others, missing, replace=False)] = True
    return measured.part(np.flatnonzero(chosen))


def joint(
    sources: list[Source],
    measured: Measured,
    count: int,
    degree: int,
    iterations: int,
    rng: np.random.Generator,
    deadline: float = float("inf"),
    beyond: int = 0,
) -> list[Source]:
    """Gains by least squares, then everything by Levenberg-Marquardt, whose damping holds back gains of waves that are
    nearly alike; both at some locations, and undone where the others disagree."""
    if not sources:
        return sources
    part = covering(sources, measured, count, rng)
    best = with_degree(sources, degree, part, beyond)
    cost = energy(residual(best, measured).channels)
    for step in (fit_gains, lambda ones, where: refine(ones, where, iterations, deadline=deadline)[0]):
        trial = step(best, part)
        after = energy(residual(trial, measured).channels)
        if after < cost:
            best, cost = trial, after
    return best


def prune(sources: list[Source], measured: Measured, share: float, rng: np.random.Generator) -> list[Source]:
    """Without the sources that explain less than ``share`` of what is left, once the others' gains are fitted again."""
    kept = list(sources)
    part = covering(kept, measured, _SAMPLE // 2, rng)
    counts = [
        [np.count_nonzero(source.seen_from(middle)) for source in kept]
        for middle in (measured.at_middle_antenna(), part.at_middle_antenna())
    ]
    whole = np.array(counts[0]) / np.maximum(1, counts[1])
    needed = np.zeros(len(kept), bool)
    system, numbers = GainSystem.of(kept, part), np.arange(len(kept))
    costs = whole * system.removal_costs(kept, numbers)
    cost, together = energy(residual(kept, measured).channels), True
    while len(kept) > 1:
        least = max(share * cost, _NOTHING * measured.energy)
        relative = np.where(needed, np.inf, costs / least)
        weak = relative < (0.1 if together else -np.inf)  # those far below go together, unless they replace one another
        if not weak.any():
            weak[np.argmin(relative)] = relative.min() < 1.0
        if not weak.any() or weak.all():
            break
        trial = system.fitted([source for source, out in zip(kept, weak, strict=True) if not out], numbers[~weak])
        after = energy(residual(trial, measured).channels)
        if after < cost + 2 * np.count_nonzero(weak) * least:
            kept, whole, needed, numbers = trial, whole[~weak], needed[~weak], numbers[~weak]
            cost, together = after, True
            costs = whole * system.removal_costs(kept, numbers)
        elif np.count_nonzero(weak) > 1:
            together = False
        else:
            needed |= weak
    return kept


def regroup(
    sources: list[Source], measured: Measured, share: float, most: int, rng: np.random.Generator
) -> list[Source]:
    """Each source, or group of sources whose waves are nearly alike, explained anew: by at most ``most`` sources more,
    each for ``share`` of the energy left, or by fewer, that leave no more for each; or only refined where it is seen,
    which sources that few locations see are not by all locations together."""
    left = residual(sources, measured)
    cost = energy(left.channels)
    groups = [[sources[i] for i in group] for group in alike(sources, measured)]
    found = for_each(lambda group, own: explained_anew(group, left, share * cost, own), groups, rng)
    middle = measured.at_middle_antenna()
    rarely = [np.mean(group[0].seen_from(middle)) < _RARELY for group in groups]
    out: list[Source] = []
    changed = False
    for index in np.argsort([-gain for _, gain in found]):
        group, (new, gain) = groups[index], found[index]
        if gain and changed:  # what an earlier one explains is no longer there
            new, gain = explained_anew(group, left, share * cost, rng)
        more = len(new) - len(group)
        anew = gain > share * more * cost and more <= most
        if not (anew or rarely[index]):
            out += group
            continue
        whole = whole_of(group, left)
        trials = [group]
        if anew:
            gate = gates.grow_together(new, whole, _LEAST_EDGE * cost, _LINES[1])
            trials = [new, [replace(source, gate=gate) for source in new]]
        for trial in trials:
            limit = (1 - share * (len(trial) - len(group))) * cost
            trial = refined_where_seen(trial, whole, rng)
            after = exchanged(group, trial, left, limit)
            if after is not None:
                most -= len(trial) - len(group)
                group, cost, changed = trial, after, True
        out += group
    return out


def one_round(
    state: State, searched: Field, number: int, max_sources: int, rng: np.random.Generator, stages: Stages
) -> State:
    """A state with more sources, or better ones."""
    degree = min(4, number // 2)
    later = int(number >= STRICT_ROUNDS)
    clipped = unclipped = searched
    if later:
        clipped = searched.weighted(clipping(state.sources, searched.thin))
        if number % 2 == 0:  # the others look for what is next to edges as well, which needs its energy
            searched = clipped
    thin = searched.thin
    trial = State(list(state.sources), state.errors)
    with stages("groups"):
        if number >= _REGROUPED and trial.sources and not (later and number % 2):
            most = min(_AT_ONCE[later], max_sources - len(trial.sources))
            trial.sources = regroup(trial.sources, thin, _LEAST_DIVISION, most, rng)
    with stages("search"):
        left = residual(trial.sources, searched.full)
        left_thin = left.part(slice(None), searched.few)
        scales = _SCALES[0] if number == 0 else _SCALES[1 + number % 2]
        most = min(_AT_ONCE[later], max_sources - len(trial.sources))
        trial.sources += new_sources(searched, left, left_thin, scales, most, _LEAST_GAIN[later], rng)
    if not trial.sources:
        return trial
    with stages("refine"):
        trial.sources = joint(trial.sources, clipped.thin, _SAMPLE, degree, 5, rng)
    with stages("gates"):
        most_lines = _LINES[number >= _FEW_LINES]
        trial.sources = regate(trial.sources, thin, _LEAST_EDGE, most_lines, rng, anew=number % _ANEW == 0)
    with stages("sides"):
        most = min(_AT_ONCE[1], max_sources - len(trial.sources))
        some = covering(trial.sources, unclipped.thin, _DIVIDED, rng).at_tones(_TONES)
        some = some.weighted(clipping(trial.sources, some))
        sure = _SURE if number < _REGROUPED else None
        trial.sources = divide(trial.sources, some, _LEAST_SIDE, most, rng, sure)
    with stages("prune"):
        trial.sources = prune(trial.sources, thin, _FAINT[later], rng)
    with stages("refine"):
        trial.sources = joint(trial.sources, clipped.thin, _SAMPLE, degree, 5, rng)
    return trial


def finish(
    state: State,
    everything: Measured,
    measured: Measured,
    held: Measured,
    errors: PositionErrors,
    max_sources: int,
    deadline: float,
    rng: np.random.Generator,
    stages: Stages,
) -> State:
    """The same sources, and some behind narrow windows, with finer gates, at all antennas, and gains of higher degree
    while that pays. ``measured``: the part of ``everything`` that is refined with; edges are placed with all of it."""
    few = chosen_antennas(measured, _FINISH_ANTENNAS)
    antennas = chosen_antennas(measured, _FINISH_GATE_ANTENNAS)
    rows = some_of(np.arange(len(measured.positions)), _FINISH_SAMPLES // len(antennas), rng)
    best = state
    early = deadline - _FOR_EDGES * max(0.0, deadline - time.monotonic())

    def keep(sources: list[Source]) -> None:
        nonlocal best
        trial = State(sources, errors_of(sources, moved_held, penalty))
        if trial.errors.both < best.errors.both:
            best = trial

    for number, share in enumerate(_FINISH_SHARES):
        if time.monotonic() > early:
            break
        with stages("positions"):
            moved = errors.most_probable(best.sources, measured)[0]
            moved_held, moves = errors.most_probable(best.sources, held)
            penalty = moves / held.energy
        if number in _WINDOWED:
            with stages("windows"):
                keep(through_windows(best.sources, moved, min(_WINDOWS, max_sources - len(best.sources)), early))
        thin, wide = moved.part(slice(None), few), moved.part(rows, antennas)
        with stages("finish: refine"):
            where = thin.weighted(clipping(best.sources, thin))
            keep(joint(best.sources, where, _FINISH_LOCATIONS, 4, 8, rng, early, beyond=number + 1))
        if time.monotonic() > early:
            break
        with stages("finish: gates"):
            keep(regate(best.sources, wide, share, 8, rng, early, anew=number == 0))
            keep(place_edges(best.sources, moved, few, early))
    with stages("finish: edges"):
        moved_held, moves = errors.most_probable(best.sources, held)
        whole = errors.most_probable(best.sources, measured)[0] if errors.std else everything
        # whatever the held-out locations say, of which few are next to an edge
        placed = best.sources
        for _ in range(_PLACINGS):  # an edge in the wrong place hides where those of like paths are
            before, placed = placed, place_edges(placed, whole, few, deadline, number_worth=1.0)
            if all(one is other for one, other in zip(before, placed, strict=True)):
                break
        return State(placed, errors_of(placed, moved_held, moves / held.energy))
