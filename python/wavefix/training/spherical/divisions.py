# SPDX-License-Identifier: Apache-2.0
"""Sources divided at the edges of walls that dim and delay their paths; (19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wavefix.training.spherical.concurrent import for_each
from wavefix.training.spherical.edges import exchanged
from wavefix.training.spherical.heights import at_heights, heights_of, one_above_another
from wavefix.training.spherical.paths import as_paths, noise_of
from wavefix.training.spherical.search import alike
from wavefix.training.spherical.sides import beyond, divided, divided_at, steps_at_edge, with_constant_gain
from wavefix.training.spherical.state import Gate, Measured, Source, project, residual, whole_of
from wavefix.training.spherical.system import gains_at_one_place, with_degree
from wavefix.training.spherical.twins import refined_where_seen

_LEAST = 3e-5  # of the whole energy, that another gain must explain
_LEADERS = 6  # of the strongest groups, explained anew also where they have one source
_RELATED = 0.02  # of what is left, that another source at a height of the strongest ones must explain
_DEGREE = 4  # of gains through a wall, at most: they vary with the angle as others do not
_KNOWN, _KNOWN_LINES = 6, 2  # gates of the strongest sources, of so few lines, at whose edges others are divided


@dataclass(frozen=True)
class Worth:
    """What another source must explain: a part of what is left, and an energy at least."""

    share: float
    least: float

    def of(self, left: float) -> float:
        return max(self.share * left, self.least)


def divide(
    sources: list[Source],
    measured: Measured,
    share: float,
    most: int,
    rng: np.random.Generator,
    sure: float | None = None,
) -> list[Source]:
    """At most ``most`` sources more: those one above another explained anew at the heights of the strongest; groups of
    like ones by paths, in one piece or in two, which may leave ``share`` more for each source less and must leave so
    much less for each one more; then the sources of all groups divided, the strongest first, beside all others.
    ``sure``: only the strongest group of like ones, for that share."""
    left, least = residual(sources, measured), _LEAST * measured.energy
    cost = left.energy
    if cost < least:
        return sources
    worth, price = Worth(share, least), sure or share
    noise = noise_of(left)

    def instead(groups: list[list[Source]], found: list[list[Source]], price: float) -> None:
        """Of each group what was found, where that leaves enough less for each source more."""
        nonlocal cost, most
        for group, new in zip(groups, found, strict=True):
            more = len(new) - len(group)
            limit = min(cost, noise) + max(cost - noise, 0.0) * (1 + price) ** -more
            after = exchanged(group, new, left, limit) if more <= most else None
            if after is not None:
                group[:], cost, most = new, after, most - more

    if not sure:
        related = one_above_another(sources, measured)
        heights = heights_of(related[0], measured)
        found = for_each(lambda group, own: at_heights(group, heights, left, _RELATED, least, own), related, rng)
        instead(related, found, _RELATED)
        sources = [source for group in related for source in group]
    groups = [[sources[i] for i in indices] for indices in alike(sources, measured)]
    known = [one.gate for group in groups for one in group if 0 < len(one.gate.lines) <= _KNOWN_LINES][:_KNOWN]

    def pieces(source: Source, others: Sequence[Gate], rest: Measured, rng: np.random.Generator) -> list[Source]:
        return _in_pieces(source, [*others, *known], rest, worth, rng)

    first = 1 if sure else _LEADERS
    tried = groups[:first] + [group for group in groups[first:] if len(group) > 1 and not sure]
    found = for_each(lambda group, own: as_paths(group, left, noise, pieces, share, least, own), tried, rng)
    instead(tried, found, price)
    out = [source for group in groups for source in group]
    return out if sure or most < 1 else _divided_each(out, left, worth, most, rng)


def _in_pieces(
    source: Source, known: Sequence[Gate], whole: Measured, worth: Worth, rng: np.random.Generator
) -> list[Source]:
    """The source where it fits ``whole``, which it alone explains, best; in two pieces where that explains enough."""
    (place,) = with_degree([source], _DEGREE, whole)
    one = refined_where_seen([replace(place, gate=Gate())], whole, rng)
    left = residual(one, whole).energy
    found = _parted(one[0], place, known, whole, worth.of(left), rng)
    return found[0] if found is not None and found[1].energy < left - worth.of(left) else one


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
