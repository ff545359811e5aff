# SPDX-License-Identifier: Apache-2.0
"""Spherical paths over a zone: what the start of a fit finds in the data before any network is trained.

A specular path is a virtual source (docs/equations.md, (1)). Seen from positions ``y`` of the search space it is
``d(y)^2 = |y|^2 + 2 d0 u.y + d0^2`` (``d0`` the path length at the middle, ``u`` the direction there projected on the
search space) and its slope along axis ``q`` of the array is ``(tilt_q.y + slope_q d0) / d(y)``, because the
array's axis at the virtual source is some fixed unit vector. Both hold for any number of reflections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavefix.constants import SPEED_OF_LIGHT


@dataclass(frozen=True)
class Grid:
    """Where channels are sampled: antennas in coordinates of the array's basis ``[A, r]``, frequencies ``[K]``."""

    antennas: Tensor
    frequencies: Tensor
    reference: float

    @property
    def wavenumber(self) -> float:
        """``2 pi / wavelength``, radians a meter."""
        return 2 * torch.pi * self.reference / SPEED_OF_LIGHT

    @property
    def tones(self) -> Tensor:
        """``2 pi f_k / c``, radians a meter."""
        return 2 * torch.pi * self.frequencies / SPEED_OF_LIGHT

    @property
    def alias(self) -> float:
        """Path length after which the tones repeat (up to a common phase), meters; inf for one tone."""
        if self.band == 0:
            return float("inf")
        return SPEED_OF_LIGHT / float(self.frequencies.sort().values.diff().max())

    @property
    def band(self) -> float:
        """Highest less lowest frequency, hertz."""
        return float(self.frequencies.max() - self.frequencies.min())


@dataclass(frozen=True)
class Paths:
    """``L`` paths: distance ``[L]``, direction ``[L, d]``, slope ``[L, r]``, tilt ``[L, r, d]`` (float64)."""

    distance: Tensor
    direction: Tensor
    slope: Tensor
    tilt: Tensor

    def __len__(self) -> int:
        return len(self.distance)

    def __getitem__(self, index: Any) -> Paths:
        return Paths(self.distance[index], self.direction[index], self.slope[index], self.tilt[index])

    @property
    def n_parameters(self) -> int:
        d, r = self.direction.shape[1], self.slope.shape[1]
        return 1 + d + r + r * d

    def flat(self) -> Tensor:
        return torch.cat([self.distance[:, None], self.direction, self.slope, self.tilt.flatten(1)], 1)

    def from_flat(self, values: Tensor) -> Paths:
        d, r = self.direction.shape[1], self.slope.shape[1]
        distance, direction, slope, tilt = torch.split(values, [1, d, r, r * d], 1)
        norm = direction.norm(dim=1, keepdim=True)
        limit = torch.ones_like(norm) if d == 3 else norm.clamp(max=1)
        return Paths(
            distance[:, 0].clamp(min=0.3), direction * (limit / norm.clamp(min=1e-9)), slope, tilt.reshape(-1, r, d)
        )

    @staticmethod
    def cat(parts: list[Paths]) -> Paths:
        return Paths(
            torch.cat([p.distance for p in parts]),
            torch.cat([p.direction for p in parts]),
            torch.cat([p.slope for p in parts]),
            torch.cat([p.tilt for p in parts]),
        )

    def moved(self, shift: Tensor) -> Paths:
        """The same paths written about the middle ``shift`` (positions become ``y - shift``)."""
        length, slopes = self.fields(shift[None])
        toward = (shift + self.distance[:, None] * self.direction) / length[0][:, None]
        return Paths(length[0], toward, slopes[0], self.tilt)

    def fields(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Path length ``[n, L]`` and array slopes ``[n, L, r]`` at positions ``y [n, d]``."""
        d0 = self.distance
        square = (y**2).sum(1, keepdim=True) + 2 * d0 * (y @ self.direction.T) + d0**2
        length = square.clamp(min=0.01).sqrt()
        return length, (torch.einsum("nd,lrd->nlr", y, self.tilt) + d0[:, None] * self.slope) / length[..., None]

    def fields_jacobian(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives by the flat parameters: ``[n, L, P]`` and ``[n, L, r, P]``."""
        length, slopes = self.fields(y)
        n, count, r = slopes.shape
        d = y.shape[1]
        d0, inverse = self.distance, 1 / length
        by_length = torch.zeros(n, count, self.n_parameters, dtype=y.dtype, device=y.device)
        by_length[..., 0] = (y @ self.direction.T + d0) * inverse
        by_length[..., 1 : 1 + d] = (d0 * inverse)[..., None] * y[:, None]
        by_slope = -slopes[..., None] * (by_length * inverse[..., None])[:, :, None]
        for q in range(r):
            by_slope[:, :, q, 0] += self.slope[:, q] * inverse
            by_slope[:, :, q, 1 + d + q] += d0 * inverse
            start = 1 + d + r + q * d
            by_slope[:, :, q, start : start + d] += inverse[..., None] * y[:, None]
        return by_length, by_slope


def antenna_lengths(length: Tensor, slopes: Tensor, grid: Grid) -> Tensor:
    """``d_j(y)``, exact over the array: ``[..., A]`` from ``[...]`` and ``[..., r]``."""
    along = slopes @ grid.antennas.T
    square = length[..., None] ** 2 - 2 * length[..., None] * along + (grid.antennas**2).sum(1)
    return square.clamp(min=1e-6).sqrt()


def waves(lengths: Tensor, grid: Grid) -> Tensor:
    """``e^(-j 2 pi f_k d_j / c)``: complex64 ``[..., A, K]`` from float64 ``[..., A]``.

    Equally spaced tones advance by a constant rotation, so two short tables replace most of the sines.
    """
    tones = grid.tones
    count = len(tones)
    block = round(count**0.5)
    uniform = count > 8 and count % block == 0 and bool(torch.allclose(tones.diff(), tones.diff().mean(), rtol=1e-6))
    if not uniform:
        return turn(lengths[..., None] * tones)
    step = (tones[-1] - tones[0]) / (count - 1)
    fine = turn(lengths[..., None] * (step * torch.arange(block, device=tones.device)))
    coarse = turn(lengths[..., None] * tones[::block])
    return (coarse[..., :, None] * fine[..., None, :]).flatten(-2)


def turn(phase: Tensor) -> Tensor:
    """``e^(-j phase)`` in complex64, the reduction in float64."""
    reduced = (phase - 2 * torch.pi * torch.round(phase / (2 * torch.pi))).to(torch.float32)
    return torch.complex(torch.cos(reduced), -torch.sin(reduced))
