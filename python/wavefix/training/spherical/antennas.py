# SPDX-License-Identifier: Apache-2.0
"""Panels of an array, and some of its antennas, that cover it and tell directions apart as well as so few can."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical.state import Floats, Measured

_GAP = 3.0  # wavelengths between the antennas of different panels, at least
_LEAST, _WIDTH = 4, 0.2  # antennas of a panel, and wavelengths that they are apart, at least
_MOST_OF_PANELS = 48  # antennas that are chosen of all panels
_CHOICES, _DIRECTIONS = 400, 1000
_APART = 0.3  # of the whole array's factor, below which it tells two directions apart


def panels_of(offsets: Floats, wavelength: float) -> NDArray[np.intp] | None:
    """``[A]``: the panel of each antenna; None where the array does not consist of panels."""
    near = np.linalg.norm(offsets[:, None] - offsets, axis=2) < _GAP * wavelength
    number = np.full(len(offsets), -1)
    for count in range(len(offsets)):
        if np.all(number >= 0):
            panels = [offsets[number == one] for one in range(count)]
            wide = all(len(one) >= _LEAST and np.ptp(one, axis=0).max() > _WIDTH * wavelength for one in panels)
            return number if count > 1 and wide else None
        panel = np.arange(len(offsets)) == np.argmin(number)
        while np.any(grown := near[panel].any(axis=0) & ~panel):
            panel |= grown
        number[panel] = count
    return None


def chosen_antennas(measured: Measured, count: int) -> NDArray[np.intp]:
    """``count`` antennas in order, an outermost pair among them. Evenly spaced ones have grating lobes: a fit that
    looks at one in eight of a linear array finds sources whose waves are right there and wrong between. So one from
    around each of those is taken: of random choices, the one to which directions that the whole array tells apart are
    least alike. Of a few panels at least ``_LEAST`` each: fewer let a wave be right at them and wrong beside."""
    count = max(count, min(_LEAST * measured.panels, _MOST_OF_PANELS))
    if count >= len(measured.offsets):
        return np.arange(len(measured.offsets))
    spread = _spread(measured.offsets, count)
    distance = np.linalg.norm(measured.offsets[:, None] - measured.offsets[spread], axis=2)
    nearest = np.argmin(distance, axis=1)
    around = [np.array([one]) if i < 2 else np.flatnonzero(nearest == i) for i, one in enumerate(spread)]
    rng = np.random.default_rng(count)
    choices = np.stack([rng.choice(cell, _CHOICES) for cell in around if len(cell)], axis=1)
    phasors = _phasors(measured, rng)
    alike = [float(np.max(np.abs(phasors[choice].sum(axis=0)), initial=0.0)) for choice in choices]
    return np.unique(choices[int(np.argmin(alike))])


def _spread(offsets: Floats, count: int) -> list[int]:
    """Antennas far from one another, the outermost first."""
    chosen = [int(np.argmax(np.linalg.norm(offsets, axis=1)))]
    distance = np.linalg.norm(offsets - offsets[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(offsets - offsets[chosen[-1]], axis=1))
    return chosen


def _phasors(measured: Measured, rng: np.random.Generator) -> NDArray[np.complex64]:
    """``[A, at most _DIRECTIONS]``: what each antenna sees of a change of direction that the whole array resolves."""
    changes: Floats = rng.uniform(-2.0, 2.0, (_DIRECTIONS, 3))  # of a unit vector
    phasors = np.exp(1j * (measured.wavenumber * measured.offsets @ changes.T)).astype(np.complex64)
    return np.asarray(phasors[:, np.abs(phasors.mean(axis=0)) < _APART])
