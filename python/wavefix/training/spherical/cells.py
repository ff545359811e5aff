# SPDX-License-Identifier: Apache-2.0
"""Look for sources in one cell of the zone: the strongest beam and delay, then where it comes from; (20)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from wavefix import _core
from wavefix.region import row_space
from wavefix.training.spherical.beams import (
    NEAREST,
    Beams,
    DelayProfile,
    Peak,
    neighboring,
    resolution,
    strongest,
    unambiguous_range,
)
from wavefix.training.spherical.state import Floats, Measured, Source, energy, sample, stacked, terms
from wavefix.training.spherical.system import refine

_TURNS = 12  # of an array about the ray
_ALIASES = 3
_RIVAL = 0.8, 1.01  # of what the best alias explains as it is, and leaves once refined, that another is one for
_SHORT = 40.0  # meters; below it the curvature tells ranges that the delay does not
_LONGEST = 1e4  # meters
LOOKED_AT = 48  # locations of a cell


def starts(measured: Measured, beams: Beams, peak: Peak) -> list[Source]:
    """Sources that explain the phase of a peak over the cell, the best ones of each delay alias: the direction at the
    user, then the array's turn about the ray."""
    center = measured.positions.mean(axis=0)
    zone = row_space(measured.positions - center)
    extent = float(np.max(np.ptp(measured.positions, axis=0)))
    directions = _directions(zone, extent, measured.wavelength)
    out = []
    for lengths in _ranges(peak.length, unambiguous_range(measured), measured):
        sources = []
        for length in lengths:
            candidates = center - length * directions
            scores = _core.source_scores(measured.positions, peak.values, candidates, measured.reference)
            index = int(np.argmax(scores))
            for cosines in peak.directions:
                turns = _rotations(beams.axes, cosines, directions[index])
                sources += [plain_source(candidates[index], turn) for turn in turns]
        projected = _core.source_project(*measured.geometry, *stacked(sources), measured.channels)
        scores = np.abs(projected.sum(axis=(1, 2)))
        order = np.argsort(-scores, kind="stable")
        out += [sources[i] for i in order[: 2 if len(lengths) > 1 else 1]]
    return out


def plain_source(position: Floats, rotation: Floats) -> Source:
    return Source(position, rotation, np.zeros((2, 4)), np.zeros(1, complex))


def explained(source: Source, measured: Measured) -> tuple[Source, float]:
    """The source with its best constant gain, and the part of the energy that it explains."""
    basis = terms([source], measured)[0][:, :, 0, 0]
    projected = _core.source_project(
        *measured.geometry, source.position[None], source.rotation[None], measured.channels
    )[0]
    top = np.sum(basis * projected)
    bottom = len(measured.frequencies) * np.sum(basis**2)
    if not (bottom > 0 and measured.energy > 0):
        return source, 0.0
    share = float(abs(top) ** 2 / bottom / measured.energy)
    return replace(source, coefficients=np.array([top / bottom])), share


def at_aliases(source: Source, measured: Measured, period: float) -> list[Source]:
    """The source, and copies whole periods of the delay, in meters, nearer or farther on its mean ray, the nearest
    first."""
    if not period < _LONGEST:
        return [source]
    center = measured.positions.mean(axis=0)
    ray = source.position - center
    length = float(np.linalg.norm(ray))
    lengths = length + period * (np.arange(_ALIASES) - int(length / period))
    return [replace(source, position=center + ray * (own / length)) for own in lengths if own > NEAREST]


def at_best_alias(source: Source, measured: Measured, period: float) -> Source:
    """Refined with one gain; the nearest alias of those that leave about as little as any."""
    starts = [explained(one, measured) for one in at_aliases(source, measured, period)]
    most = max(share for _, share in starts)
    fits = [refine([one], measured, 8) for one, share in starts if share >= _RIVAL[0] * most]
    least = min(left for _, left in fits)
    return next(found[0] for found, left in fits if left <= _RIVAL[1] * least)


def find(measured: Measured, beams: Beams, rng: np.random.Generator) -> Iterator[tuple[Source, float]]:
    """Sources of one cell with the part of its energy that each explains."""
    few = sample(measured, LOOKED_AT, rng)
    profile = DelayProfile.of(few)
    near = neighboring(few, profile, rng)
    if near is not None:
        few, profile = few.part(slice(None), near), profile.of_antennas(near)
        beams = Beams.of(few)
    yield from found_at(few, beams, profile)


def found_at(measured: Measured, beams: Beams, profile: DelayProfile) -> Iterator[tuple[Source, float]]:
    """Sources of the strongest beam and delay."""
    every = max(1, len(measured.offsets) // 12)
    thin = measured.part(slice(None), np.arange(every // 2, len(measured.offsets), every))
    peak = strongest(profile, beams)
    for start in starts(thin, beams, peak):
        source, share = explained(start, thin)
        if share < 0.01:
            continue
        refined, left = refine([source], thin, 12, least_gain=1e-3)
        yield refined[0], 1 - left / energy(thin.channels)


def _directions(zone: Floats, extent: float, wavelength: float) -> Floats:
    """Unit vectors ``[m, 3]`` whose phases over the cell differ; one of each mirrored pair, if the zone is flat."""
    step = min(0.25, 0.4 * wavelength / max(extent, 1e-9))
    count = int(np.ceil(1 / step))
    grid = np.arange(-count, count + 1) / count
    rest = np.linalg.svd(zone, full_matrices=True)[2][len(zone) :]
    if len(zone) == 1:
        cosine = grid
        return np.asarray(cosine[:, None] * zone[0] + np.sqrt(1 - cosine[:, None] ** 2) * rest[0])
    if len(zone) == 2:
        a, b = (value.reshape(-1) for value in np.meshgrid(grid, grid, indexing="ij"))
        inside = a**2 + b**2 <= 1
        a, b = a[inside], b[inside]
        height = np.sqrt(np.maximum(1 - a**2 - b**2, 0))
        # towards the horizon the height changes fast, but the phases over the cell do not
        up = rest[0] if rest[0] @ np.ones(3) > 0 else -rest[0]
        return np.asarray(a[:, None] * zone[0] + b[:, None] * zone[1] - height[:, None] * up)
    total = int(min(40000, 4 * np.pi / step**2))
    height = 1 - 2 * (np.arange(total) + 0.5) / total
    angle = np.arange(total) * np.pi * (3 - np.sqrt(5))
    wide = np.sqrt(1 - height**2)
    return np.column_stack([wide * np.cos(angle), wide * np.sin(angle), height])


def _ranges(length: float, period: float, measured: Measured) -> list[list[float]]:
    """Lengths that a delay may mean, by alias. Where they are short, curvature tells more than the delay does."""
    out = []
    for alias in range(_ALIASES if np.isfinite(period) and period < _LONGEST else 1):
        middle = length + (alias * period if alias else 0.0)
        steps = np.linspace(-0.5, 0.5, 9) * min(resolution(measured), 2 * _SHORT) if middle < _SHORT else np.zeros(1)
        lengths = [float(value) for value in middle + steps if value > NEAREST]
        if lengths:
            out.append(lengths)
    return out


def _rotations(axes: Floats, cosines: Floats, direction: Floats) -> list[Floats]:
    """Rotations that turn the array so that the ray has ``cosines`` along its axes, about the ray in steps."""
    rank = len(axes)
    if rank == 0:
        return [np.eye(3)]
    frame = np.linalg.svd(direction[None], full_matrices=True)[2][1:]
    angles = 2 * np.pi * np.arange(_TURNS) / _TURNS
    out = []
    if rank == 1:
        c = float(np.clip(cosines[0], -1, 1))
        for angle in angles:
            side = np.cos(angle) * frame[0] + np.sin(angle) * frame[1]
            out.append(np.outer(c * direction + np.sqrt(1 - c * c) * side, axes[0]))
        return out
    local = cosines @ axes  # the direction in the array's frame
    missing = np.sqrt(max(0.0, 1 - float(local @ local)))
    if rank == 2:
        local = local + missing * np.cross(axes[0], axes[1])
    local = local / max(float(np.linalg.norm(local)), 1e-9)
    base = np.linalg.svd(local[None], full_matrices=True)[2][1:]
    for mirror in (1.0, -1.0):
        for angle in angles:
            first = np.cos(angle) * frame[0] + np.sin(angle) * frame[1]
            second = np.cross(direction, first) * mirror
            own = np.cross(local, base[0])
            out.append(np.outer(direction, local) + np.outer(first, base[0]) + np.outer(second, own))
    return out
