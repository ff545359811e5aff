# SPDX-License-Identifier: Apache-2.0
"""Look for sources in one cell of the zone: the strongest beam and delay, then where it comes from; (20)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix.constants import SPEED_OF_LIGHT
from wavefix.region import row_space
from wavefix.training.spherical.state import Floats, Measured, Source, energy, sample, stacked, terms
from wavefix.training.spherical.system import refine

_MOST_BEAMS = 2048
_OVERSAMPLING = 1.6
_TURNS = 12  # of an array about the ray
_ALIASES = 3
_SHORT = 40.0  # meters; below it the curvature tells ranges that the delay does not
_NEAREST, _LONGEST = 0.3, 1e4  # meters
_FEW = 48  # locations of a cell that are looked at


@dataclass(frozen=True, eq=False)
class Antennas:
    """What depends on the array alone: its axes ``[r, 3]`` and plane-wave beams."""

    axes: Floats
    directions: Floats  # [B, r], cosines along the axes
    steering: NDArray[np.complex64]  # [B, A], conjugate

    @classmethod
    def of(cls, measured: Measured) -> Antennas:
        axes = row_space(measured.offsets)
        coordinates = measured.offsets @ axes.T
        wavelength = measured.wavelength
        counts = [
            max(1, min(512, int(np.ceil(2 * np.ptp(coordinates[:, c]) / wavelength * _OVERSAMPLING)) + 1))
            for c in range(len(axes))
        ]
        while np.prod(counts) > _MOST_BEAMS:
            counts = [max(1, int(0.8 * count)) for count in counts]
        grids = [np.linspace(-1, 1, count) if count > 1 else np.zeros(1) for count in counts]
        directions = (
            np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(axes)) if grids else np.zeros((1, 0))
        )
        directions = directions[np.linalg.norm(directions, axis=1) <= 1 + 1e-9]
        phase = measured.wavenumber * directions @ coordinates.T
        return cls(axes, directions, np.exp(-1j * phase).astype(np.complex64))


@dataclass(frozen=True, eq=False)
class Peak:
    """The strongest beam and delay of a cell, and its complex value at each location."""

    direction: Floats
    length: float  # c times delay, modulo the unambiguous range
    values: NDArray[np.complex64]


def unambiguous_range(measured: Measured) -> float:
    steps = np.diff(np.sort(measured.frequencies))
    steps = steps[steps > 0]
    return SPEED_OF_LIGHT / float(steps.min()) if len(steps) else float("inf")


def strongest(measured: Measured, antennas: Antennas) -> Peak:
    """By the power that locations have together at a beam and a delay."""
    tones = measured.frequencies
    span = float(np.ptp(tones))
    period = unambiguous_range(measured)
    count = 2 * len(tones) if len(tones) > 1 else 1
    lengths = period * np.arange(count) / count if np.isfinite(period) else np.zeros(1)
    if span > 0 and period * span / SPEED_OF_LIGHT > 4 * len(tones):  # unequal steps: no more than a tone can tell
        lengths = np.arange(0.0, 4 * len(tones)) * SPEED_OF_LIGHT / span / 2
    turn = 2 * np.pi / SPEED_OF_LIGHT * (tones - measured.reference)
    delays = np.exp(1j * np.outer(turn, lengths)).astype(np.complex64)  # [K, T]
    profile = measured.channels @ delays  # [n, A, T]
    power = np.zeros((len(antennas.directions), len(lengths)))
    for one in profile:
        beam = antennas.steering @ one
        power += beam.real**2 + beam.imag**2
    best, at = np.unravel_index(int(np.argmax(power)), power.shape)
    values = np.einsum("nj,j->n", profile[:, :, at], antennas.steering[best])
    # what the profile turned back at the reference frequency, the carrier keeps
    return Peak(antennas.directions[best], float(lengths[at]), values.astype(np.complex64))


def starts(measured: Measured, antennas: Antennas, peak: Peak) -> list[Source]:
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
            turns = _rotations(antennas.axes, peak.direction, directions[index])
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


def find(measured: Measured, antennas: Antennas, rng: np.random.Generator) -> Iterator[tuple[Source, float]]:
    """Sources of one cell with the part of its energy that each explains."""
    few = sample(measured, _FEW, rng)
    every = max(1, len(few.offsets) // 12)
    thin = few.part(slice(None), np.arange(every // 2, len(few.offsets), every))
    peak = strongest(few, antennas)
    for start in starts(thin, antennas, peak):
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
    resolution = SPEED_OF_LIGHT / max(float(np.ptp(measured.frequencies)), 1.0)
    out = []
    for alias in range(_ALIASES if np.isfinite(period) and period < _LONGEST else 1):
        middle = length + (alias * period if alias else 0.0)
        steps = np.linspace(-0.5, 0.5, 9) * min(resolution, 2 * _SHORT) if middle < _SHORT else np.zeros(1)
        lengths = [float(value) for value in middle + steps if value > _NEAREST]
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
