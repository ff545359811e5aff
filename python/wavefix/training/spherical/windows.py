# SPDX-License-Identifier: Apache-2.0
"""Paths through windows so narrow that only a few antennas of a location see them at a time, as off the end of a wall:
found in the few samples that have most of what is left; (25)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical import gates
from wavefix.training.spherical.beams import resolution
from wavefix.training.spherical.cells import explained, plain_source
from wavefix.training.spherical.concurrent import for_each
from wavefix.training.spherical.search import alike
from wavefix.training.spherical.state import (
    Floats,
    Gate,
    Measured,
    Source,
    energies,
    project,
    residual,
    sample,
    sample_energies,
)
from wavefix.training.spherical.system import gains_at_one_place, refine

_SEARCHED = 96_000  # samples
_FEW, _MUCH = 0.05, (0.7, 0.4)  # of the samples, at most, that have so much of what is left
_ROWS = 12, 48  # locations with neighboring antennas among these: at least, and that are looked at
_TONES = 4, 16  # subcarriers: of a scan, of a refinement
_PARENTS = 3  # strongest sources of which it may be a mirror image, and so many behind windows
_NARROW = 0.005  # of the samples see one behind a window
_RANGES = np.linspace(-0.2, 0.2, 7)  # about what the delay tells, as parts of its resolution
_CHUNK = 256  # candidates at a time
_TURN = 0.3  # wavelengths of phase between neighboring candidates
_FOLLOWED, _SAME = 30, 0.1  # candidates, and wavelengths within which two have become one
_FITS = 0.5  # of a sample's energy, that a source leaves where it is one of its
_TURNS, _ITERATIONS = 6, 20
_REACH, _BINS = 7.0, 240  # wavelengths to either side of the middle that a window may reach, and steps there
_AROUND = 1.5  # times as far: samples that are looked at
_STEPS = 2.0 * 0.5 ** np.arange(7)  # wavelengths, along the rays, that the middle is moved by; across, a tenth of it
_STEEP, _LEVEL = 300.0, 1e-6  # logit per meter of an edge, and slopes below which there is none
_MOST_LINES = 4
_LEAST = 0.03  # of what is left, that a source must explain


def through_windows(
    sources: list[Source], measured: Measured, most: int, deadline: float = float("inf")
) -> list[Source]:
    """The sources, and at most ``most`` more of that kind, as far as the time lasts."""
    out, rng = list(sources), np.random.default_rng(0)
    left = residual(out, sample(measured, _SEARCHED // len(measured.offsets), rng))
    for share in _MUCH:
        while len(out) < len(sources) + most and time.monotonic() < deadline:
            best = _found(out, left, share, rng)
            if best is None or best.left > (1 - _LEAST) * left.energy:
                break
            out, left = [*out, best.source], residual([best.source], left)
    return out


@dataclass(frozen=True, eq=False)
class _Behind:
    """A source behind a window, and the energy that it leaves."""

    source: Source
    left: float


def _found(sources: Sequence[Source], left: Measured, share: float, rng: np.random.Generator) -> _Behind | None:
    """The one that leaves least, of those that the samples with ``share`` of what is left tell."""
    samples = _standing_out(left, share)
    if samples is None:
        return None
    parents = [sources[group[0]] for group in alike(sources, left)[:_PARENTS]]
    parents += [one for one in sources if one.gate_values(left).mean() < _NARROW][:_PARENTS]
    found = for_each(lambda one, _: _behind_window(one, left, samples), _followed(parents, samples, rng), rng)
    return min(filter(None, found), key=lambda one: one.left, default=None)


@dataclass(frozen=True, eq=False)
class _Samples:
    """Of ``rows`` the channels at the antennas that stand out, ``chosen [n, A]``, and zero at the others."""

    rows: NDArray[np.intp]
    chosen: NDArray[np.bool_]
    measured: Measured


def _standing_out(left: Measured, share: float) -> _Samples | None:
    """None where these are many, or no two of them are next to each other."""
    each = sample_energies(left.channels)
    falling = np.sort(each, axis=None)[::-1]
    count = int(np.searchsorted(np.cumsum(falling), share * falling.sum()))
    if count > _FEW * each.size:
        return None
    chosen = each >= falling[count]
    apart = np.linalg.norm(left.offsets[:, None] - left.offsets, axis=2)
    next_to = (apart > 0) & (apart < 1.5 * np.min(apart[apart > 0], initial=np.inf))
    together = np.where(chosen & (chosen @ next_to), each, 0.0).sum(axis=1)
    rows = np.sort(np.argsort(-together)[: _ROWS[1]])
    rows = rows[together[rows] > 0]
    if len(rows) < _ROWS[0]:
        return None
    return _Samples(rows, chosen[rows], left.part(rows).at_tones(_TONES[1]).weighted(chosen[rows].astype(np.float64)))


def _followed(parents: Sequence[Source], samples: _Samples, rng: np.random.Generator) -> list[Source]:
    """The best candidates, each where it explains most of the samples that are its own."""
    images = [_images(parent, samples.measured) for parent in parents]
    places, turns = (np.concatenate(parts) for parts in zip(*images, strict=True))
    order, size = np.argsort(-_scores(places, turns, samples)), samples.measured.wavelength
    starts = _apart((plain_source(places[i], turns[i]) for i in order), size, _FOLLOWED)
    return _apart(for_each(lambda one, _: _climbed(one, samples), starts, rng), _SAME * size, _FOLLOWED)


def _scores(places: Floats, turns: Floats, samples: _Samples) -> Floats:
    """``[C]``: how well the waves of sources there, ``[C, 3]`` and ``[C, 3, 3]``, add up to the samples."""
    scanned = samples.measured.at_tones(_TONES[0])
    rows, antennas = np.nonzero(samples.chosen)
    users, offsets, channels = scanned.positions[rows], scanned.offsets[antennas], scanned.channels[rows, antennas]
    out = []
    for first in range(0, len(places), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        rays = users - places[chunk, None] - offsets @ turns[chunk].swapaxes(1, 2)
        distance = np.sqrt(np.einsum("lsc,lsc->ls", rays, rays))
        sums = [np.exp(1j * k * distance) @ tone for k, tone in zip(scanned.wavenumbers, channels.T, strict=True)]
        out.append(np.abs(np.sum(sums, axis=0)))
    return np.concatenate(out)


def _apart(sources: Iterable[Source], least: float, most: int) -> list[Source]:
    """The first ``most``, without those nearer than ``least`` to one before."""
    out: list[Source] = []
    for source in sources:
        if len(out) == most:
            break
        if all(np.linalg.norm(source.position - one.position) > least for one in out):
            out.append(source)
    return out


def _images(parent: Source, measured: Measured) -> tuple[Floats, Floats]:
    """Places ``[C, 3]`` and rotations ``[C, 3, 3]`` of the source itself, and of its images in upright planes as far
    from the samples as their delay tells."""
    distance = parent.rays(measured)[0].mean(axis=1)
    aligned = measured.channels * np.exp(1j * distance[:, None] * measured.wavenumbers)[:, None]
    detours = resolution(measured) / 16 * np.arange(-16, 81)
    powers = np.sum(np.abs(aligned @ np.exp(1j * np.outer(measured.wavenumbers, detours))) ** 2, axis=(0, 1))
    row = int(np.argmax(energies(measured.channels)))
    user, length = measured.positions[row], float(distance[row] + detours[np.argmax(powers)])
    angle = _TURN * measured.wavelength / max(float(np.max(np.ptp(measured.positions, axis=0))), measured.wavelength)
    angles = np.arange(0.0, 2 * np.pi, angle)
    around = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    places, turns = [parent.position[None]], [parent.rotation[None]]
    for reach in length + resolution(measured) * _RANGES:
        flat = reach * abs(reach) - (parent.position[2] - user[2]) ** 2
        if flat <= 0:
            continue
        moves = np.append(user[:2], parent.position[2]) + np.sqrt(flat) * around - parent.position
        sizes = np.linalg.norm(moves, axis=1)
        normals = (moves / np.maximum(sizes, 1e-30)[:, None])[sizes > 1e-3]
        places.append(parent.position + moves[sizes > 1e-3])
        turns.append(parent.rotation - 2 * normals[:, :, None] * (normals @ parent.rotation)[:, None])
    return np.concatenate(places), np.concatenate(turns)


def _climbed(source: Source, samples: _Samples) -> Source:
    """Refined with the samples of which it explains most, told anew after each refinement."""
    measured, chosen = samples.measured, samples.chosen
    power = sample_energies(measured.channels)
    for _ in range(_TURNS):
        part = measured.weighted(chosen.astype(np.float64))
        source = refine([explained(source, part)[0]], part, _ITERATIONS)[0][0]
        fits = samples.chosen & (sample_energies(residual([source], measured).channels) < _FITS * power)
        if np.array_equal(fits, chosen) or np.count_nonzero(fits) < _ROWS[0]:
            break
        chosen = fits
    return source


def _behind_window(source: Source, left: Measured, samples: _Samples) -> _Behind | None:
    """The source behind the window with which it explains most of what is left, in turns with where it is; None where
    there is none."""
    best, places = None, left.places()
    for _ in range(_TURNS):
        projected, wave = project(source, left), source.amplitudes(left, gated=False)
        gains = 2 * np.real(wave.conj() * projected) - len(left.frequencies) * np.abs(wave) ** 2
        own = np.zeros(gains.shape, bool)
        own[samples.rows] = samples.chosen & (gains[samples.rows] > 0)
        gate = _window(source, left, gains, own)
        if gate is None:
            break
        (trial,), _ = gains_at_one_place([replace(source, gate=gate)], projected, places)
        lit = np.flatnonzero(trial.gate_values(left).max(axis=1) > 0.5)
        if len(lit) < _ROWS[0]:
            break
        moved = refine([trial], left.part(lit), _ITERATIONS)[0][0]
        grown = gates.grow(moved, left, project(moved, left), _LEAST / 10 * left.energy, _MOST_LINES)
        trials = [trial, moved, replace(moved, gate=grown)]
        found = min((_Behind(one, residual([one], left).energy) for one in trials), key=lambda one: one.left)
        if best is not None and not found.left < best.left:
            break
        best, source = found, replace(found.source, gate=Gate())
    return best


def _window(source: Source, left: Measured, gains: Floats, own: NDArray[np.bool_]) -> Gate | None:
    """Two upright edges between which samples gain most in all, and a level one where the first of ``own`` are: the
    rays of all samples that see the source pass one place."""
    if np.count_nonzero(own) < _ROWS[0]:
        return None
    rays = source.rays(left)[1][..., :2]
    rays /= np.maximum(np.linalg.norm(rays, axis=2, keepdims=True), 1e-30)
    across = np.stack([rays[..., 1], -rays[..., 0]], axis=2)
    shift = np.einsum("njc,jc->nj", across, source.arms(left.offsets)[:, :2])
    middle = np.linalg.lstsq(across[own], shift[own], rcond=None)[0]
    along = rays[own].mean(axis=0)
    along /= max(float(np.linalg.norm(along)), 1e-30)
    side = np.array([along[1], -along[0]])
    first = float(np.min(left.positions[own.any(axis=1), :2] @ along)) - 0.5 * left.wavelength
    near = np.abs(np.einsum("njc,c->nj", across, middle) - shift) < _AROUND * _REACH * left.wavelength
    near &= (left.positions[:, :2] @ along > first)[:, None]
    opening = _Rays(across[near], shift[near], gains[near], left.wavelength).opening(middle, along, side)
    if not opening.gain > _LEAST / 2 * left.energy:
        return None
    lines = [sign * _upright(opening.middle - edge * side) for sign, edge in zip((1, -1), opening.edges, strict=True)]
    level = _level(source, np.append(first * along, left.positions[:, 2].mean()), along)
    lines += [] if level is None else [level]
    return Gate(np.array(lines), (tuple(range(1, len(lines) + 1)),))


@dataclass(frozen=True, eq=False)
class _Opening:
    """What samples gain whose rays pass ``middle [2]`` between two edges, so far to its side."""

    gain: float
    middle: Floats
    edges: tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Rays:
    """Of samples, in the plan: ``across @ place - shift`` is how far to the side of a place their rays pass."""

    across: Floats
    shift: Floats
    gains: Floats
    wavelength: float

    def opening(self, middle: Floats, along: Floats, side: Floats) -> _Opening:
        """The best one, its middle moved along the rays and to their side from ``middle`` on."""
        best = self._at(middle)
        for step in _STEPS * self.wavelength:
            for _ in range(2 * len(_STEPS)):
                moves = [sign * step * way for way in (along, 0.1 * side) for sign in (1, -1)]
                found = max((self._at(best.middle + move) for move in moves), key=lambda one: one.gain)
                if not found.gain > best.gain:
                    break
                best = found
        return best

    def _at(self, middle: Floats) -> _Opening:
        """The best edges there."""
        reach = _REACH * self.wavelength
        bins = ((self.across @ middle - self.shift) / reach + 1) * (_BINS / 2)
        inside = (bins >= 0) & (bins < _BINS)
        sums = np.bincount(bins[inside].astype(np.intp), weights=self.gains[inside], minlength=_BINS)
        total = np.concatenate([[0.0], np.cumsum(sums)])
        rise = total - np.minimum.accumulate(total)
        last = int(np.argmax(rise))
        first = int(np.argmin(total[: last + 1]))
        edges = (2 * first / _BINS - 1) * reach, (2 * last / _BINS - 1) * reach
        return _Opening(float(rise[last]), middle, edges)


def _upright(place: Floats) -> Floats:
    """The edge at ``place [2]``, positive where rays have it to their right."""
    return _STEEP * np.array([-place[1], place[0], 0.0, 0.0, 0.0, -1.0])


def _level(source: Source, foot: Floats, along: Floats) -> Floats | None:
    """The edge at ``foot [3]`` across ``along``, positive behind it; None where the source is at its height."""
    edge = np.array([-along[1], along[0], 0.0])
    moment, behind = np.cross(foot, edge), foot + np.append(along, 0.0)
    slope = float((behind - source.position) @ moment - np.cross(behind, source.position) @ edge)
    return None if abs(slope) < _LEVEL else _STEEP * np.concatenate([moment, edge]) / slope
