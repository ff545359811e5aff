# SPDX-License-Identifier: Apache-2.0
"""Scenes whose map is known exactly: a base station in a street, its mirror images, and a model with just those."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefix import ChannelModel
from wavefix.region import Region
from wavefix.spherical import SphericalParameters

C = 299792458.0
CARRIER = 3.5e9
WAVELENGTH = C / CARRIER

# Walls as (axis, coordinate): ground, two house fronts, one behind the station and one behind the users.
WALLS = ((2, 0.0), (1, -9.0), (1, 13.0), (0, -20.0), (0, 16.0))
# Walls that a path meets, first to last, in the order of rising loss.
PATHS = ((), (0,), (1,), (2,), (3,), (4,), (1, 0), (2, 0), (1, 2), (4, 0), (2, 1), (4, 1), (4, 2), (3, 0), (2, 4))


def street(
    *,
    antennas: int = 16,
    subcarriers: int = 16,
    paths: int = 12,
    line_of_sight: bool = True,
    size: float = 6.0,
    bandwidth: float = 50e6,
    gates: bool = False,
    seed: int = 0,
    validation_nmse: float = 1e-6,
    lower: NDArray[np.float64] | None = None,
    upper: NDArray[np.float64] | None = None,
    basis: NDArray[np.float64] | None = None,
) -> ChannelModel:
    """A model of kind ``spherical`` with the first ``paths`` mirror images of a half-wavelength array.

    The region is ``size`` meters wide, 12 to 18 m from the station. With ``gates``, every third path exists in a part
    of the region only, and ends there within some centimeters.
    """
    rng = np.random.default_rng(seed)
    array = np.array([-12.0, 2.0, 6.0]) + np.outer(np.arange(antennas) - (antennas - 1) / 2, [0.0, WAVELENGTH / 2, 0.0])
    chosen = [path for path in PATHS if line_of_sight or path][:paths]
    positions, rotations, gains = [], [], []
    for path in chosen:
        position, rotation = array.mean(axis=0), np.eye(3)
        for wall in path:
            axis, coordinate = WALLS[wall]
            mirror = np.eye(3)
            mirror[axis, axis] = -1.0
            position = mirror @ position
            position[axis] += 2 * coordinate
            rotation = mirror @ rotation
        positions.append(position)
        rotations.append(rotation)
        gains.append(WAVELENGTH / (4 * np.pi) * 0.6 ** len(path) * np.exp(2j * np.pi * rng.uniform()))
    half = np.array([size / 2, size / 2])
    region = Region(
        origin=np.array([3.0, 1.0, 1.5]),
        basis=np.eye(3)[:2] if basis is None else basis,
        lower=-half if lower is None else lower,
        upper=half if upper is None else upper,
    )
    return ChannelModel.from_bytes(
        SphericalParameters(
            antenna_positions=array,
            frequencies=CARRIER + bandwidth * (np.arange(subcarriers) - (subcarriers - 1) / 2) / subcarriers,
            region=region,
            source_positions=np.array(positions),
            source_rotations=np.array(rotations),
            gain_variables=np.zeros((len(chosen), 2, 4)),
            gain_coefficients=np.array([[[g.real, g.imag]] for g in gains], np.float32),
            validation_nmse=validation_nmse,
            **(_gates(np.array(positions) - region.origin, size) if gates else {}),
        ).to_bytes()
    )


def _gates(sources: NDArray[np.float64], size: float) -> dict[str, NDArray[np.generic]]:
    """Every third source is seen on one side of an upright edge in the middle of the region only."""
    lines, cells = [], []
    for index in range(1, len(sources), 3):
        source = sources[index]
        point = 0.3 * source + 0.7 * np.array([0.05 * size * (-1) ** index, 0.0, 0.0])
        direction = np.array([0.0, 0.0, 1.0])
        # 50 a meter across the line: from 0.9 to 0.1 within 9 cm
        scale = 50.0 / np.linalg.norm(source - point) * 0.7
        lines.append(scale * np.concatenate((np.cross(point, direction), direction)))
        cells.append(index)
    return {
        "gate_lines": np.array(lines),
        "gate_line_cell": np.arange(len(lines), dtype=np.int32),
        "gate_cell_source": np.array(cells, np.int32),
    }
