# SPDX-License-Identifier: Apache-2.0
"""Paths one above another, as images in floor and ceiling are: at the same heights for every wall that mirrors them,
and parted by the same edges; (19)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from wavefix.training.spherical.paths import Explained, by_path, refined_paths
from wavefix.training.spherical.search import at_one_place
from wavefix.training.spherical.sides import complement, with_constant_gain
from wavefix.training.spherical.state import Floats, Gate, Measured, Source, residual, some_of, whole_of
from wavefix.training.spherical.system import fit_gains, shaded_as, with_degree
from wavefix.training.spherical.twins import refined_where_seen

_MOST = 4  # heights
_UPRIGHT = 0.05  # of the distance, that images in floor and ceiling may be beside one another
_ROWS = 480  # locations that gains are tried at
_DEGREES = 2, 4  # of gains, at first and at the end: those of degree 4 at once make up for wrong places
_HOPELESS = 1.5  # times the energy before, that is not worth a refinement


def one_above_another(sources: Sequence[Source], measured: Measured) -> list[list[Source]]:
    """Groups of sources at different heights, the strongest first in each; every source is in one of them."""
    center = measured.positions.mean(axis=0)
    strength = [source.strength(measured) for source in sources]
    groups: list[list[Source]] = []
    for i in np.argsort(strength)[::-1]:
        own = sources[i].position
        within = _UPRIGHT * float(np.linalg.norm(own - center))
        beside = [float(np.linalg.norm((group[0].position - own)[:2])) for group in groups]
        closest = int(np.argmin(beside)) if groups else 0
        if groups and beside[closest] < within:
            groups[closest].append(sources[i])
        else:
            groups.append([sources[i]])
    return groups


def heights_of(group: Sequence[Source], measured: Measured) -> list[float]:
    """Of the first sources at different places."""
    places: list[Source] = []
    for source in group:
        folded = replace(source, position=_at_height(source.position, _height(source, measured), group[0], measured))
        if not any(at_one_place(first, replace(folded, gate=Gate()), measured) for first in places):
            places.append(folded)
    return [_height(source, measured) for source in places[:_MOST]]


def at_heights(
    group: Sequence[Source],
    heights: Sequence[float],
    left: Measured,
    share: float,
    least_gain: float,
    rng: np.random.Generator,
) -> list[Source]:
    """Sources that explain what those of ``group`` and ``left`` are together, where the strongest one is, at some of
    the ``heights``: images of any path are as far apart as those of the strongest, which sources that make up for one
    another do not tell. Each must leave ``share`` less. The group itself where that is hopeless."""
    whole = whole_of(group, left)
    some = whole.part(some_of(np.arange(len(whole.positions)), _ROWS, rng))
    trials = [_first_gains(paths, some) for paths in _choices(group, heights, some)]
    least = min(trials, key=lambda trial: trial.left.energy * (1 + share) ** len(trial.sources))
    if least.left.energy > _HOPELESS * left.energy * len(some.positions) / len(whole.positions):
        return list(group)
    flat = with_degree(refined_where_seen(least.sources, whole, rng, _ROWS), _DEGREES[1], whole)
    return refined_paths(by_path(flat, least.paths), whole, left.energy, least_gain, rng).sources


def _choices(group: Sequence[Source], heights: Sequence[float], measured: Measured) -> Iterator[list[list[Source]]]:
    """Paths at the first two heights or more, all in one piece or all in two with the shadows of one of the group."""
    place = with_constant_gain(group[0])
    shadows = [one for one in group if not (one.gate.trivial or one.gate.dark)]
    for shadow in [replace(place, gate=Gate()), *shadows]:
        gates = [shadow.gate] if shadow.gate.trivial else [shadow.gate, complement(shadow.gate)]
        paths = []
        for height in heights:
            there = replace(place, position=_at_height(place.position, height, place, measured))
            pieces = [shaded_as(there, replace(shadow, gate=gate), measured) for gate in gates]
            paths.append(with_degree(pieces, _DEGREES[0], measured))
        yield from (paths[:count] for count in range(min(2, len(paths)), len(paths) + 1))


def _first_gains(paths: list[list[Source]], measured: Measured) -> Explained:
    fitted = fit_gains([piece for path in paths for piece in path], measured)
    return Explained(by_path(fitted, paths), residual(fitted, measured))


def _level(measured: Measured) -> bool:
    """Whether all users are at one height: nothing tells then whether a source is above or below them."""
    return bool(np.ptp(measured.positions[:, 2]) < 1e-6)


def _height(source: Source, measured: Measured) -> float:
    """Above the users, or below as well where these are level."""
    height = float(source.position[2] - measured.positions[0, 2])
    return abs(height) if _level(measured) else height


def _at_height(position: Floats, height: float, like: Source, measured: Measured) -> Floats:
    """On the side of the users where ``like`` is."""
    users = float(measured.positions[0, 2])
    side = -1.0 if _level(measured) and like.position[2] < users else 1.0
    return np.array([position[0], position[1], users + side * height])
