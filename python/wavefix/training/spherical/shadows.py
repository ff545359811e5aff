# SPDX-License-Identifier: Apache-2.0
"""Paths that the edges of the same walls part: each in as many pieces, with the same shadows; (19)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavefix.training.spherical.paths import one_of_each_place
from wavefix.training.spherical.sides import with_constant_gain
from wavefix.training.spherical.state import Measured, Source, residual, whole_of
from wavefix.training.spherical.system import shaded_as, with_degree
from wavefix.training.spherical.twins import pieces_of, refined_where_seen

_MOST = 4  # places of a group
_UPRIGHT = 0.05  # of the distance, that images in floor and ceiling may be beside one another
_ROWS = 960  # locations of its refinement
_DEGREES = ((0, 2, 4), (2, 4))  # of gains, one after the other: those of the last one at once make up for wrong places


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


def with_common_shadows(group: Sequence[Source], left: Measured, rng: np.random.Generator) -> list[Source]:
    """Each place of the group in the pieces of its strongest path that has some, with the shadows that these have:
    a path and its images in floor and ceiling pass the same walls, each as seen from its own height, which pieces with
    edges of their own make up for. The group where it has no such path, or one place alone."""
    whole = whole_of(group, left)
    parted = next((pieces for one in group if len(pieces := pieces_of(one, group)) > 1), [])
    places = one_of_each_place(group, whole)[:_MOST]
    if not parted or len(group) == len(places) * len(parted):
        return list(group)
    start = [shaded_as(with_constant_gain(place), piece, whole) for place in places for piece in parted]
    trials = []
    for degrees in _DEGREES:
        trial = start
        for degree in degrees:
            trial = refined_where_seen(with_degree(trial, degree, whole), whole, rng, _ROWS)
        trials.append(trial)
    return min(trials, key=lambda trial: residual(trial, whole).energy)
