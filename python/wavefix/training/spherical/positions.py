# SPDX-License-Identifier: Apache-2.0
"""Positions that are known to within an error: the most probable ones given the sources, docs/equations.md (22)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wavefix.channel_model import ChannelModel
from wavefix.region import Region
from wavefix.training.spherical.state import Floats, Measured, Source, parameters_of

_STEPS = 12
_LONGEST = 1 / 16  # wavelengths: a longer step may end in the next minimum of the coherent cost
_SHORTEST = 1e-3  # wavelengths: -44 dB
_DAMPING = 1e-3
_ROWS = 256  # locations at a time: their Jacobians take memory


@dataclass(frozen=True, eq=False)
class PositionErrors:
    """How reported positions err: independently, with the standard deviation ``std`` in meters along each row of
    ``basis [d, 3]``, which spans what the positions span. 0: not at all."""

    std: float
    basis: Floats

    def most_probable(self, sources: Sequence[Source], reported: Measured) -> tuple[Measured, float]:
        """The locations moved to where the sources explain them best, and the energy that the moves count as beside
        the residual's: what tells sources that fit a scene from those that ask for other positions."""
        if self.std == 0 or not sources:
            return reported, 0.0
        search = _Search(self, model_of(sources, reported), reported)
        for _ in range(_STEPS):
            if not search.step():
                break
        positions = np.ascontiguousarray(reported.positions + search.moved @ self.basis)
        return replace(reported, positions=positions), search.pull * float(np.sum(search.moved**2))


def model_of(sources: Sequence[Source], measured: Measured) -> ChannelModel:
    """The sources as a channel model in the coordinates of ``measured``, whose antennas are all of them."""
    extent = np.full(3, np.abs(measured.positions).max() + 1.0)  # a model answers outside as well
    region = Region(np.zeros(3), np.eye(3), -extent, extent)
    parameters = parameters_of(sources, measured.offsets, measured.frequencies, region)
    return ChannelModel.from_bytes(parameters.to_bytes())


class _Search:
    """All locations at once, each with a damping of its own; those that have arrived are left alone.

    It begins at the reported positions, so that the result depends on the sources alone: a fit that goes on from a
    checkpoint needs nothing else, and no location stays in the minimum that earlier sources led it to.
    """

    def __init__(self, errors: PositionErrors, model: ChannelModel, reported: Measured) -> None:
        n, d = len(reported.positions), len(errors.basis)
        self._errors, self._model, self._reported = errors, model, reported
        self._on_the_way = np.arange(n)
        self._damping = np.full(n, _DAMPING)
        self.moved = np.zeros((n, d))
        self._costs, self._gradients, self._matrices = self._linearized(self._on_the_way, self.moved)

    @property
    def pull(self) -> float:
        """Of the prior on the residual's energy: the residual's variance over that of the positions."""
        return float(self._costs.sum()) / self._reported.channels.size / self._errors.std**2

    def step(self) -> bool:
        """Try a step of every location that is on the way; False once there is none."""
        rows, pull = self._on_the_way, self.pull
        here = self.moved[rows]
        matrix = self._matrices[rows] + pull * np.eye(here.shape[1])
        diagonal = np.einsum("ndd->nd", matrix) * self._damping[rows, None]
        damped = matrix + diagonal[..., None] * np.eye(here.shape[1])
        step = np.linalg.solve(damped, (self._gradients[rows] - pull * here)[..., None])[..., 0]
        length = np.maximum(np.linalg.norm(step, axis=1), 1e-30)
        trial = here + step * np.minimum(1.0, _LONGEST * self._reported.wavelength / length)[:, None]
        costs, gradients, matrices = self._linearized(rows, trial)
        before = self._costs[rows] + pull * np.sum(here**2, axis=1)
        better = costs + pull * np.sum(trial**2, axis=1) < before
        own = rows[better]
        self.moved[own], self._costs[own] = trial[better], costs[better]
        self._gradients[own], self._matrices[own] = gradients[better], matrices[better]
        self._damping[rows] *= np.where(better, 0.1, 10.0)
        self._on_the_way = rows[length > _SHORTEST * self._reported.wavelength]
        return len(self._on_the_way) > 0

    def _linearized(self, rows: np.ndarray[tuple[int], np.dtype[np.intp]], moved: Floats) -> tuple[Floats, ...]:
        """``||r||^2 [n]``, ``Re J^H r [n, d]`` and ``Re J^H J [n, d, d]``."""
        basis = self._errors.basis
        positions = self._reported.positions[rows] + moved @ basis
        parts = []
        for first in range(0, len(rows), _ROWS):
            own = slice(first, first + _ROWS)
            channels, jacobian = self._model.synthesize(positions[own], jacobian=True)
            left = (self._reported.channels[rows[own]] - channels).reshape(len(channels), -1).view(np.float32)
            slopes = jacobian.reshape(len(channels), 3, -1).view(np.float32)
            gradient = (slopes @ left[..., None])[..., 0].astype(np.float64) @ basis.T
            matrix = basis @ (slopes @ slopes.transpose(0, 2, 1)).astype(np.float64) @ basis.T
            parts.append((np.einsum("ne,ne->n", left, left).astype(np.float64), gradient, matrix))
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
