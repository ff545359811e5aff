# SPDX-License-Identifier: Apache-2.0
"""Sources divided at the edges of walls that dim and delay their paths, and halves of one path joined; (19)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wavefix.training.spherical import gates
from wavefix.training.spherical.concurrent import for_each
from wavefix.training.spherical.edges import exchanged
from wavefix.training.spherical.search import alike, at_one_place
from wavefix.training.spherical.sides import MOST_LINES, beyond, divided, divided_at, steps_at_edge, with_constant_gain
from wavefix.training.spherical.state import Gate, Measured, Source, project, residual, whole_of
from wavefix.training.spherical.system import gains_at_one_place, with_degree
from wavefix.training.spherical.twins import refined_where_seen

_LEAST = 3e-5  # of the whole energy, that another gain must explain
_SHARED = 0.05  # of what sees one of two sources, that sees both, at most
_LEADERS = (1, 6)  # groups whose first source is divided as if the others were not there: while most sources are
# not found yet, and later
_PIECES = (2, 4)  # of one, at most
_DEGREE = 4  # of gains through a wall, at most: they vary with the angle as others do not
_KNOWN, _KNOWN_LINES = 6, 2  # gates of the strongest sources, of so few lines, at whose edges others are divided


@dataclass(frozen=True)
class Worth:
    """What another source must explain: a part of what is left, and an energy at least; and the energy where it is
    found as if others were not there."""

    share: float
    least: float
    instead: float

    def of(self, left: float) -> float:
        return max(self.share * left, self.least)

    def of_more(self, count: int) -> float:
        """Of so many sources more, found as if others were not there."""
        return max(0, count) * self.instead


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
        gate = gates.grow(one, whole, project(one, whole), share * cost, MOST_LINES)
        (one,) = refined_where_seen([replace(one, gate=gate)], whole, rng)
        after = residual([one], whole)
        if after.energy < (1 + share) * cost:
            sources = [*sources[:i], one, *sources[i + 1 :]]
            left, cost = after, after.energy
            gone.add(j)
    return [source for k, source in enumerate(sources) if k not in gone]


def divide(
    sources: list[Source],
    measured: Measured,
    share: float,
    most: int,
    rng: np.random.Generator,
    sure: float | None = None,
) -> list[Source]:
    """At most ``most`` sources more, the strongest ones' first, each where that leaves ``share`` less of the energy:
    first of sources as if those of like phases were not there, then of each beside all others. ``sure``: only of the
    former, in two, where that leaves so much less."""
    left, least = residual(sources, measured), _LEAST * measured.energy
    cost = left.energy
    if most < 1 or cost < least:
        return sources
    worth = Worth(share, least, max((sure or share) * cost, least))
    groups = [[sources[i] for i in indices] for indices in alike(sources, measured)]
    known = [one.gate for group in groups for one in group if 0 < len(one.gate.lines) <= _KNOWN_LINES][:_KNOWN]
    pieces = min(most + 1, _PIECES[not sure])
    found = for_each(
        lambda group, own: _first_divided(group, known, left, worth, pieces, own), groups[: _LEADERS[not sure]], rng
    )
    for number, new in enumerate(found):
        group = groups[number]
        if new is None or len(new) - len(group) > most:
            continue
        after = exchanged(group, new, left, cost - worth.of_more(len(new) - len(group)))
        if after is not None:
            most -= len(new) - len(group)
            groups[number], cost = new, after
    out = [source for group in groups for source in group]
    return out if sure or most < 1 else _divided_each(out, left, worth, most, rng)


def _first_divided(
    group: list[Source], known: Sequence[Gate], left: Measured, worth: Worth, most: int, rng: np.random.Generator
) -> list[Source] | None:
    """The group with its first source divided as the others do not explain it. Found before an edge was, they make up
    at wrong places for what it parts, and beside them no division leaves less."""
    whole = whole_of(group, left)
    group = [*with_degree(group[:1], _DEGREE, whole), *group[1:]]
    pieces = _pieces(group[0], known, whole, worth, most, rng)
    if len(pieces) < 2:
        return None
    same = refined_where_seen(group, whole, rng)
    before = min(left.energy, residual(same, whole).energy)
    others = [[one for one in group[1:] if not at_one_place(group[0], one, whole)], group[1:]]
    for kept in others[len(others[0]) == len(others[1]) :]:
        new = refined_where_seen([*pieces, *kept], whole, rng)
        if residual(new, whole).energy < before - worth.of_more(len(new) - len(group)):
            return new
    return None


def _pieces(
    source: Source, known: Sequence[Gate], whole: Measured, worth: Worth, most: int, rng: np.random.Generator
) -> list[Source]:
    """The source divided, and both sides again, as long as that explains enough of ``whole``."""
    pieces = refined_where_seen([replace(source, gate=Gate())], whole, rng)
    left, waiting = residual(pieces, whole), [(0, source)]
    while waiting and len(pieces) < most:
        i, place = waiting.pop()
        own = whole_of([pieces[i]], left)
        gain = worth.of(left.energy)
        found = _parted(pieces[i], place, known, own, gain, rng)
        if found is not None and found[1].energy < left.energy - gain:
            (pieces[i], other), left = found
            pieces.append(other)
            waiting += [(number, pieces[number]) for number in (len(pieces) - 1, i)]
    return pieces


def _parted(
    source: Source, place: Source, known: Sequence[Gate], own: Measured, least_gain: float, rng: np.random.Generator
) -> tuple[list[Source], Measured] | None:
    """Both sides of the source, refined, and what they leave: divided as it is, or with constant gains at ``place``,
    there at a known edge as well, whichever leaves least. A gain of higher degree has smoothed the step that it could
    not follow, and a place where that fitted best hides it."""
    constant = with_constant_gain(replace(source, position=place.position, rotation=place.rotation))
    there = project(constant, own)
    starts = (
        divided(source, project(source, own), own, least_gain),
        divided(constant, there, own, least_gain),
        divided_at(constant, known, there, own, least_gain),
    )
    pairs = [_refined(pair, source.degree, own, rng) for pair in starts if pair is not None]
    found = [(pair, residual(pair, own)) for pair in pairs if steps_at_edge(pair, own)]
    return min(found, key=lambda one: one[1].energy, default=None)


def _refined(pair: list[Source], degree: int, own: Measured, rng: np.random.Generator) -> list[Source]:
    """With constant gains first, where they have such."""
    out = refined_where_seen(pair, own, rng)
    if pair[0].degree < degree:
        out = refined_where_seen([one.with_degree(degree, own) for one in out], own, rng)
    return out


def _divided_each(
    sources: list[Source], left: Measured, worth: Worth, most: int, rng: np.random.Generator
) -> list[Source]:
    """Another gain beyond an edge that a source has, or on one side of an edge that two gains tell."""
    cost = left.energy
    strength = [source.strength(left) for source in sources]
    out, more = list(sources), list[Source]()
    trials = for_each(lambda source, _: _sides(source, left, worth.of(cost)), sources, rng)
    for i in np.argsort(strength)[::-1]:
        if len(more) >= most:
            break
        for trial in trials[i]:
            whole = whole_of([out[i]], left)
            pair = _refined(trial, out[i].degree, whole, rng)
            after = residual(pair, whole)
            gain = worth.of(cost)
            if after.energy > cost - gain:
                continue
            # a source at a wrong place turns phases, which two gains make up for in part
            alone = [refined_where_seen([replace(out[i], gate=gate)], whole, rng)[0] for gate in (Gate(), out[i].gate)]
            single, rest = min(((one, residual([one], whole)) for one in alone), key=lambda one: one[1].energy)
            if after.energy < rest.energy - gain and steps_at_edge(pair, whole):
                out[i], left, cost = pair[0], after, after.energy
                more.append(pair[1])
                break
            if rest.energy < cost:
                out[i], left, cost = single, rest, rest.energy
                break
    return out + more


def _sides(source: Source, left: Measured, least_gain: float) -> list[list[Source]]:
    """Pairs that explain more beside ``left`` than the source does, as far as they can be told from where it is."""
    beside, places = project(source, left), left.places()
    whole = beside + len(left.frequencies) * source.amplitudes(left)
    behind = beyond(source, beside, places, least_gain)
    best, most = None, gains_at_one_place([source], whole, places)[1] + least_gain
    for start in (source, with_constant_gain(source)):
        pair = divided(start, whole, places, least_gain)
        if pair is not None:
            explained = gains_at_one_place([one.with_degree(source.degree, places) for one in pair], whole, places)[1]
            if explained > most:
                best, most = pair, explained
    return [pair for pair in (behind, best) if pair is not None]
