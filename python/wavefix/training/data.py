# SPDX-License-Identifier: Apache-2.0
"""A dataset made ready for training: checked, scaled to unit mean power, split by location, on the device."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefix._core import DataError
from wavefix.dataset import ChannelDataset
from wavefix.region import Region, row_space
from wavefix.training.paths import Grid
from wavefix.training.planar import Geometry
from wavefix.training.sources import Samples

_FEWEST = 16
_SAME_PLACE = 1e-6  # meters
_CONTRADICTION = 0.6  # of the power; noise at 0 dB makes 0.5


@dataclass
class Prepared:
    """Training and held-out locations: coordinates about the region's middle, channels over ``scale``."""

    geometry: Geometry
    training: Samples
    held_out: Samples
    scale: float
    identity: str

    @property
    def middle(self) -> Tensor:
        return torch.tensor(self.geometry.region.middle, device=self.training.y.device)


def prepare(data: ChannelDataset, validation_fraction: float, seed: int, device: str) -> Prepared:
    """Check ``data`` and split it; locations at one place stay on one side.

    Raises:
        DataError: no positions, too few distinct ones, values that are not finite, channels all zero, or different
            channels at the same place.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction: expected a number between 0 and 1, got {validation_fraction}")
    positions, channels = data.known_positions(), data.channels
    if not (np.isfinite(positions).all() and np.isfinite(channels.view(np.float32)).all()):
        raise DataError("positions, channels: expected finite values")
    region = Region.spanned_by(positions)
    places = _places(positions)
    distinct = int(places.max()) + 1
    if distinct < _FEWEST:
        raise DataError(f"positions: a channel model needs at least {_FEWEST} distinct locations, got {distinct}")
    power = np.array([np.vdot(one, one).real for one in (row.astype(np.complex128) for row in channels)])
    scale = float(np.sqrt(power.sum() / channels.size))
    if scale == 0:
        raise DataError("channels: all are zero")
    _require_agreement(channels, places, power)
    held = _split(places, validation_fraction, seed)
    centered = data.antenna_positions - data.antenna_positions.mean(axis=0)
    basis = row_space(centered)
    basis = basis if len(basis) else np.eye(3)[:1]  # all antennas at one place
    geometry = Geometry(data.antenna_positions, basis, data.frequencies, region)
    grid = Grid(
        torch.tensor(geometry.antenna_coordinates, device=device),
        torch.tensor(data.frequencies, device=device),
        data.reference_frequency,
    )
    y = region.coordinates(positions) - region.middle

    def samples(mask: NDArray[np.bool_]) -> Samples:
        part = channels[mask]
        for factor in (1 / scale,) if 1e-30 < scale < 1e30 else (scale**-0.5, scale**-0.5):  # within float32
            part *= np.float32(factor)
        return Samples(torch.tensor(y[mask], device=device), torch.from_numpy(part).to(device), grid)

    return Prepared(geometry, samples(~held), samples(held), scale, _identity(data, validation_fraction, seed))


def _places(positions: NDArray[np.float64]) -> NDArray[np.intp]:
    """``[n]``: the number of the place that each location is at."""
    rounded = np.round((positions - positions.min(axis=0)) / _SAME_PLACE).astype(np.int64)
    places: NDArray[np.intp] = np.unique(rounded, axis=0, return_inverse=True)[1].reshape(-1)
    return places


def _require_agreement(channels: NDArray[np.complex64], places: NDArray[np.intp], power: NDArray[np.float64]) -> None:
    order = np.argsort(places, kind="stable")
    twins = [(a, b) for a, b in itertools.pairwise(order) if places[a] == places[b]]
    if not twins:
        return
    difference = sum(float(np.sum(np.abs(channels[a] - channels[b]) ** 2)) for a, b in twins)
    total = sum(float(power[a] + power[b]) for a, b in twins)
    if difference > _CONTRADICTION * total:
        raise DataError(
            f"channels: {len(twins)} locations are given twice with different channels; a channel model needs "
            "channels that are a function of the position (carrier phase kept, one scene)"
        )


def _split(places: NDArray[np.intp], fraction: float, seed: int) -> NDArray[np.bool_]:
    distinct = int(places.max()) + 1
    count = min(max(1, round(fraction * distinct)), distinct - 1)
    chosen = np.random.default_rng(seed).permutation(distinct)[:count]
    held: NDArray[np.bool_] = np.isin(places, chosen)
    return held


def _identity(data: ChannelDataset, fraction: float, seed: int) -> str:
    digest = hashlib.sha256(f"{fraction} {seed}".encode())
    for array in (data.known_positions(), data.channels, data.antenna_positions, data.frequencies):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
