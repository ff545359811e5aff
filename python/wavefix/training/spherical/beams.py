# SPDX-License-Identifier: Apache-2.0
"""The strongest beam and delay of channels, with beams for plane waves and for those of sources nearby; (20)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wavefix.constants import SPEED_OF_LIGHT
from wavefix.region import row_space
from wavefix.training.spherical.state import Floats, Measured

NEAREST = 0.3  # meters
_MOST_BEAMS, _MOST_ALONG = 2048, 512
_OVERSAMPLING = 1.6
_CURVED = 0.25  # turns by which a wave is behind a plane one at the ends of the array, from which on beams are focused
_UNFOCUSED = 0.5  # turns there that the error of a delay may make
_ALIKE = 0.9  # of the power, that a wave has in the beam for another
_ONE_DELAY = 1.5  # of what the band resolves: an array as long as this sees a wave at one delay


@dataclass(frozen=True, eq=False)
class Beams:
    """What depends on the array alone: its axes ``[r, 3]`` and beams for plane waves."""

    axes: Floats
    directions: Floats  # [B, r], cosines along the axes
    steering: NDArray[np.complex64]  # [B, A], conjugate
    close: bool  # to each other, as the array resolves directions
    wavelength: float
    along: Floats  # [B, A], meters
    square: Floats  # [A], of the distance to the middle
    lengths: Floats  # [r], of the array along its axes, wavelengths

    @classmethod
    def of(cls, measured: Measured) -> Beams:
        axes = row_space(measured.offsets)
        coordinates = measured.offsets @ axes.T
        wavelength = measured.wavelength
        lengths = np.ptp(coordinates, axis=0) / wavelength
        wanted = [int(np.ceil(2 * length * _OVERSAMPLING)) + 1 for length in lengths]
        counts = [min(_MOST_ALONG, count) for count in wanted]
        while np.prod(counts) > _MOST_BEAMS:
            counts = [max(1, int(0.8 * count)) for count in counts]
        grids = [np.linspace(-1, 1, count) if count > 1 else np.zeros(1) for count in counts]
        directions = (
            np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(axes)) if grids else np.zeros((1, 0))
        )
        directions = directions[np.linalg.norm(directions, axis=1) <= 1 + 1e-9]
        along = directions @ coordinates.T
        steering = np.exp(-1j * measured.wavenumber * along).astype(np.complex64)
        square = np.sum(coordinates**2, axis=1)
        return cls(axes, directions, steering, counts == wanted, wavelength, along, square, lengths)

    def curved(self, distance: float) -> bool:
        """Whether waves of sources as far away as this are to be told from plane ones. Not where beams miss what lies
        between them: of antennas that are far apart focused ones then find side lobes."""
        return self.close and bool(self.square.max() > 2 * _CURVED * self.wavelength * distance)

    def focused(self, distance: float) -> NDArray[np.complex64]:
        """``[B, A]``: beams for the curved waves of sources at a distance, conjugate."""
        behind = np.sqrt(distance**2 - 2 * distance * self.along + self.square) - distance
        return np.asarray(np.exp(2j * np.pi / self.wavelength * behind).astype(np.complex64))

    def alike(self, steering: NDArray[np.complex64], best: int) -> list[Floats]:
        """The direction of a beam, and of those apart from it that are nearly the same: antennas half a
        wavelength apart see a wave that runs along them as one from the other end."""
        factor = np.abs(steering @ steering[best].conj()) / steering.shape[1]
        out = [self.directions[best]]
        for index in (int(index) for index in np.argsort(-factor)):
            if factor[index] < _ALIKE:
                break
            apart = np.abs(self.directions[index] - np.array(out)) * self.lengths
            if np.all(np.max(apart, axis=1, initial=0.0) > 1.0):
                out.append(self.directions[index])
        return out


@dataclass(frozen=True, eq=False)
class Peak:
    """The strongest beam and delay of a cell, and its complex value at each location."""

    directions: list[Floats]  # the strongest beam's, and those that the array can hardly tell from it
    length: float  # c times delay, modulo the unambiguous range
    values: NDArray[np.complex64]


def unambiguous_range(measured: Measured) -> float:
    steps = np.diff(np.sort(measured.frequencies))
    steps = steps[steps > 0]
    return SPEED_OF_LIGHT / float(steps.min()) if len(steps) else float("inf")


def resolution(measured: Measured) -> float:
    """Of lengths by the band, meters."""
    return SPEED_OF_LIGHT / max(float(np.ptp(measured.frequencies)), 1.0)


@dataclass(frozen=True, eq=False)
class DelayProfile:
    """What each antenna sees at each delay; ``lengths`` stand for delays, modulo the unambiguous range, of which the
    band resolves ``resolution`` meters."""

    lengths: Floats  # [T]
    values: NDArray[np.complex64]  # [n, A, T]
    resolution: float

    @classmethod
    def of(cls, measured: Measured) -> DelayProfile:
        tones = measured.frequencies
        span = float(np.ptp(tones))
        period = unambiguous_range(measured)
        count = 2 * len(tones) if len(tones) > 1 else 1
        lengths = period * np.arange(count) / count if np.isfinite(period) else np.zeros(1)
        if span > 0 and period * span / SPEED_OF_LIGHT > 4 * len(tones):  # unequal steps: no more than a tone can tell
            lengths = np.arange(0.0, 4 * len(tones)) * SPEED_OF_LIGHT / span / 2
        turn = 2 * np.pi / SPEED_OF_LIGHT * (tones - measured.reference)
        delays = np.exp(1j * np.outer(turn, lengths)).astype(np.complex64)  # [K, T]
        return cls(np.asarray(lengths), measured.channels @ delays, resolution(measured))

    def of_antennas(self, some: NDArray[np.intp]) -> DelayProfile:
        return replace(self, values=self.values[:, some])

    @cached_property
    def power(self) -> Floats:
        """``[T]``: of all antennas and locations."""
        return np.asarray(np.einsum("njt,njt->t", self.values, self.values.conj()).real, np.float64)

    def distance(self, index: int) -> float:
        """Of the source, if the delay is its own and not that of one an unambiguous range farther away."""
        return max(float(self.lengths[index]), self.resolution / 2, NEAREST)


def strongest(profile: DelayProfile, beams: Beams) -> Peak:
    """By the power that locations have together at a beam and a delay. A delay may be that of a source one or more
    unambiguous ranges farther away, so plane waves are looked for at all of them, and curved ones where the power of
    all antennas leaves it open whether they have more."""
    power = np.zeros((len(beams.directions), len(profile.lengths)))
    for one in profile.values:
        beam = beams.steering @ one
        power += beam.real**2 + beam.imag**2
    best, at = (int(index) for index in np.unravel_index(int(np.argmax(power)), power.shape))
    most, steering = power[best, at], beams.steering
    bound = len(beams.square) * profile.power  # Cauchy-Schwarz
    for index in (int(index) for index in np.argsort(-bound)):
        if bound[index] <= most:
            break
        if not beams.curved(profile.distance(index)):
            continue
        focused = beams.focused(profile.distance(index))
        beam = focused @ profile.values[:, :, index].T
        curved = np.sum(beam.real**2 + beam.imag**2, axis=1)
        if curved.max() > most:
            best, at, most, steering = int(np.argmax(curved)), index, curved.max(), focused
    values = np.einsum("nj,j->n", profile.values[:, :, at], steering[best])
    # what the profile turned back at the reference frequency, the carrier keeps
    return Peak(beams.alike(steering, best), float(profile.lengths[at]), values.astype(np.complex64))


def neighboring(measured: Measured, profile: DelayProfile, rng: np.random.Generator) -> NDArray[np.intp] | None:
    """Antennas next to each other that see a wave of the strongest delay at one delay and that one distance focuses;
    None where all do, or where those are not as many-dimensional as the array."""
    aperture = _ONE_DELAY * profile.resolution
    distance = profile.distance(int(np.argmax(profile.power)))
    aperture = min(aperture, distance * np.sqrt(16 * _UNFOCUSED * measured.wavelength / profile.resolution))
    if 2 * np.linalg.norm(measured.offsets, axis=1).max() <= aperture:
        return None
    middle = measured.offsets[rng.integers(len(measured.offsets))]
    near = np.flatnonzero(np.linalg.norm(measured.offsets - middle, axis=1) <= aperture / 2)
    own = measured.offsets[near] - measured.offsets[near].mean(axis=0)
    return near if len(row_space(own)) == len(row_space(measured.offsets)) else None
