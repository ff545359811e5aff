# SPDX-License-Identifier: Apache-2.0
"""Virtual sources with smooth gains, and the search for the strongest path in one cell of a zone.

Gains are smooth by construction (hats of about a cell's size): per-location least-squares gains would absorb
near-collinear paths, such as a source and its ground image, and nothing would be left to find them with.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from wavefix.constants import SPEED_OF_LIGHT
from wavefix.training.paths import Grid, Paths, antenna_lengths, turn, waves

_CHUNK = 24_000_000  # complex numbers alive at a time
_AZIMUTHS = 8
_LISTENERS = 40  # locations of a cell whose power over beams and delays is summed


@dataclass(frozen=True)
class Samples:
    """Channels ``[n, A, K]`` at coordinates ``y [n, d]`` of the search space, about its middle."""

    y: Tensor
    channels: Tensor
    grid: Grid

    def __getitem__(self, rows: Tensor) -> Samples:
        return Samples(self.y[rows], self.channels[rows], self.grid)


class Hats:
    """Piecewise linear functions of position on a lattice: the gains' basis, and the cells of the search."""

    def __init__(self, lower: Tensor, upper: Tensor, pitch: float) -> None:
        cells = [max(1, round(float(extent) / pitch)) for extent in upper - lower]
        self.knots = [torch.linspace(float(a), float(b), c + 1) for a, b, c in zip(lower, upper, cells, strict=True)]
        self.pitch = pitch

    def values(self, y: Tensor) -> Tensor:
        """``[n, T]`` float64, rows sum to one."""
        total = torch.ones(len(y), 1, dtype=y.dtype, device=y.device)
        for axis, knots in enumerate(self.knots):
            spot = (y[:, axis] - float(knots[0])) / float(knots[1] - knots[0])
            along = (1 - (spot[:, None] - torch.arange(len(knots), device=y.device)).abs()).clamp(min=0)
            along[:, 0] += (-spot).clamp(min=0)
            along[:, -1] += (spot - len(knots) + 1).clamp(min=0)
            total = (total[:, :, None] * along[:, None, :]).flatten(1)
        return total


@dataclass
class Sources:
    """Paths, and the gains' coefficients on the hats ``[L, T]`` (complex128)."""

    paths: Paths
    gains: Tensor
    hats: Hats

    def weights(self, y: Tensor) -> Tensor:
        """``W_l(y)``: complex ``[n, L]``."""
        return self.hats.values(y).to(self.gains.dtype) @ self.gains.T

    def predict(self, y: Tensor, grid: Grid) -> Tensor:
        lengths = antenna_lengths(*self.paths.fields(y), grid)
        return torch.einsum("nl,nlak->nak", self.weights(y).to(torch.complex64), waves(lengths, grid))


def residual(sources: Sources, samples: Samples) -> Tensor:
    """``H`` minus the sources' channels, chunk by chunk."""
    out = torch.empty_like(samples.channels)
    for part in chunks(samples, len(sources.paths)):
        out[part] = samples.channels[part] - sources.predict(samples.y[part], samples.grid)
    return out


def chunks(samples: Samples, vectors: int) -> list[slice]:
    n, antennas, tones = samples.channels.shape
    size = max(1, min(n, _CHUNK // max(1, vectors * antennas * tones)))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def cell_pitch(y: Tensor, grid: Grid, locations: int = 100) -> float:
    """Size of the cells: about ``locations`` in each, 6 to 15 wavelengths across, at most half the zone."""
    extent = y.max(0).values - y.min(0).values
    size: float = float(extent.clamp(min=1e-6).prod() * locations / len(y)) ** (1 / y.shape[1])
    wavelength = 2 * torch.pi / grid.wavenumber
    return min(max(size, 6 * wavelength), 15 * wavelength, max(float(extent.max()) / 2, 1e-6))


class Search:
    """Beams, delays and directions on grids of half their resolution."""

    def __init__(self, grid: Grid, dimension: int, cell: float, aliases: int = 3) -> None:
        k, antennas = grid.wavenumber, grid.antennas
        axes = []
        for q in range(antennas.shape[1]):
            aperture = float(antennas[:, q].max() - antennas[:, q].min())
            count = 1 + 2 * int(min(60, max(2, 2 * aperture * k / (2 * torch.pi))))
            axes.append(torch.linspace(-1, 1, count, dtype=torch.float64))
        slopes = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64).reshape(-1, antennas.shape[1])
        self.slopes = slopes[slopes.norm(dim=1) <= 1.0001].to(antennas.device)
        self.beams = turn(k * self.slopes @ antennas.T)  # conjugate of the steering, [Q, A]
        band = grid.band
        span = min(grid.alias, 3000.0)
        bins = max(1, min(512, int(2 * span * band / SPEED_OF_LIGHT) + 1)) if band > 0 else 1
        self.lengths = torch.arange(bins, dtype=torch.float64, device=antennas.device) * (span / bins)
        self.delays = turn(-self.lengths[:, None] * grid.tones)  # [F, K]
        self.directions = _ball(dimension, torch.pi / (k * cell)).to(antennas.device)
        self.grid, self.aliases, self.alias = grid, aliases, grid.alias
        self.resolution = SPEED_OF_LIGHT / band if band > 0 else 10.0

    def strongest(self, rest: Tensor, y: Tensor) -> Paths:
        """The path with most power in ``rest [n, A, K]`` of one cell, ``y`` about the cell's middle."""
        some = rest[:: max(1, len(rest) // _LISTENERS)]
        beamed = torch.einsum("qa,nak->nqk", self.beams, some)
        power = torch.view_as_real(beamed @ self.delays.T).square().sum(0).sum(-1)
        best = int(power.argmax())
        beam, delay = divmod(best, len(self.lengths))
        tone = torch.einsum("nak,k->na", rest, self.delays[delay])
        scalar = tone @ self.beams[beam]
        distance, direction = self._direction(scalar, y, float(self.lengths[delay]))
        return self._tilt(tone, y, distance, direction, self.slopes[beam])

    def _direction(self, scalar: Tensor, y: Tensor, length: float) -> tuple[float, Tensor]:
        found: tuple[float, float, Tensor] | None = None
        for distance in self._distances(length):
            square = (y**2).sum(1, keepdim=True) + 2 * distance * y @ self.directions.T + distance**2
            phase = self.grid.wavenumber * (square.clamp(min=0).sqrt() - distance)
            score = (turn(-phase).T @ scalar).abs()
            top = int(score.argmax())
            if found is None or float(score[top]) > 1.02 * found[0]:
                found = (float(score[top]), distance, self.directions[top])
        assert found is not None
        return found[1], found[2]

    def _distances(self, length: float) -> list[float]:
        """Path lengths to try: the delay's; others about it where they bend the wave differently; its aliases."""
        tries = [max(length, 0.7)]
        if length < 40:
            tries += [max(length + step * self.resolution, 0.7) for step in (-0.35, -0.2, 0.2, 0.35, 0.5)]
        if self.alias < 3000:
            tries += [length + turn * self.alias for turn in range(1, self.aliases)]
        return list(dict.fromkeys(tries))

    def _tilt(self, tone: Tensor, y: Tensor, distance: float, direction: Tensor, slope: Tensor) -> Paths:
        k = self.grid.wavenumber
        d, r = y.shape[1], len(slope)
        around = _perpendicular(direction)
        tilt = slope[:, None] * direction
        path = Paths(torch.tensor([distance], dtype=y.dtype, device=y.device), direction[None], slope[None], tilt[None])
        stride = max(1, len(y) // _LISTENERS)
        y, tone = y[::stride], tone[::stride]
        length, _ = path.fields(y)
        turned = tone * turn(-k * (length - distance))
        for q in range(r):
            swing = (1 - slope[q] ** 2).clamp(min=0).sqrt() * around[:, :d]
            scores, choices = [], torch.cat([tilt[q : q + 1], tilt[q] + swing])
            for choice in choices:
                trial = tilt.clone()
                trial[q] = choice
                slopes = (y @ trial.T + distance * slope) / length
                curve = antenna_lengths(length[:, 0], slopes, self.grid) - length
                scores.append(float((turned * turn(-k * curve)).sum().abs()))
            tilt[q] = choices[max(range(len(scores)), key=scores.__getitem__)]
        return Paths(path.distance, path.direction, path.slope, tilt[None])


def _ball(dimension: int, step: float) -> Tensor:
    """Directions projected on the search space: points of the unit ball (its surface in a volume)."""
    step = max(step, 0.012)
    if dimension == 3:
        count = int(4 * torch.pi / step**2)
        index = torch.arange(count, dtype=torch.float64) + 0.5
        height, angle = 1 - 2 * index / count, index * 2.399963229728653
        radius = (1 - height**2).sqrt()
        return torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1)
    axis = torch.linspace(-1, 1, 2 * int(1 / step) + 1, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * dimension).reshape(-1, dimension)
    return points[points.norm(dim=1) <= 1]


def _perpendicular(direction: Tensor) -> Tensor:
    """Unit vectors around the (completed) direction, ``[azimuths, 3]``."""
    d = len(direction)
    full = torch.zeros(3, dtype=direction.dtype, device=direction.device)
    full[:d] = direction
    if d < 3:
        full[d] = (1 - direction.square().sum()).clamp(min=0).sqrt()
    full = full / full.norm()
    helper = torch.zeros_like(full)
    helper[int(full.abs().argmin())] = 1
    first = torch.linalg.cross(full, helper)
    first = first / first.norm()
    second = torch.linalg.cross(full, first)
    angle = torch.arange(_AZIMUTHS, dtype=full.dtype, device=full.device) * (2 * torch.pi / _AZIMUTHS)
    around: Tensor = angle.cos()[:, None] * first + angle.sin()[:, None] * second
    return around
