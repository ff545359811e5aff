# SPDX-License-Identifier: Apache-2.0
"""Virtual sources (1) with the gains and gates of (3) of docs/equations.md, loop by loop, in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LIGHT = 299792458.0


def sigmoid(v: float) -> float:
    return 1 / (1 + np.exp(-v)) if v > 0 else np.exp(v) / (1 + np.exp(v))


def gate(tensors: dict[str, NDArray[Any]], source: int, x: NDArray[np.float64], s: NDArray[np.float64]) -> float:
    cells = [c for c, owner in enumerate(tensors.get("gate_cell_source", ())) if owner == source]
    if not cells:
        return 1.0
    x, s = x - tensors["region.origin"], s - tensors["region.origin"]
    total = 0.0
    for cell in cells:
        lit = 1.0
        for line, owner in zip(tensors["gate_lines"], tensors["gate_line_cell"], strict=True):
            if owner == cell:
                lit *= sigmoid((x - s) @ line[:3] - np.cross(x, s) @ line[3:])
        total += lit
    return total


def gain(variables: NDArray[np.float64], coefficients: NDArray[np.float32], u: NDArray[np.float64]) -> complex:
    v1, v2 = variables @ np.append(u, 1)
    total, degree, terms = 0j, 0, list(coefficients.astype(float) @ [1, 1j])
    while terms:
        for b in range(degree + 1):
            total += terms.pop(0) * v1 ** (degree - b) * v2**b
        degree += 1
    return total


def spherical_channel(tensors: dict[str, NDArray[Any]], position: NDArray[np.float64]) -> NDArray[np.complex128]:
    """H [A, K] at one position."""
    antennas, frequencies = tensors["antenna_positions"], tensors["frequencies"]
    channel = np.zeros((len(antennas), len(frequencies)), complex)
    for source, (center, rotation) in enumerate(
        zip(tensors["source_positions"], tensors["source_rotations"], strict=True)
    ):
        for j, antenna in enumerate(antennas):
            s = center + rotation @ (antenna - antennas.mean(axis=0))
            d = np.linalg.norm(position - s)
            w = gain(tensors["gain_variables"][source], tensors["gain_coefficients"][source], (position - s) / d)
            g = gate(tensors, source, position, s)
            channel[j] += g * w / d * np.exp(-2j * np.pi * frequencies * d / LIGHT)
    return channel


def spherical_channels(tensors: dict[str, NDArray[Any]], positions: NDArray[np.float64]) -> NDArray[np.complex128]:
    """H [n, A, K]."""
    return np.array([spherical_channel(tensors, position) for position in positions])


def spherical_jacobian(
    tensors: dict[str, NDArray[Any]], position: NDArray[np.float64], step: float = 2e-4
) -> NDArray[np.complex128]:
    """dH/dx [3, A, K] by sixth-order central differences; accurate to about (2 pi step / wavelength)^6 / 140."""
    columns = []
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        one, two, three = (
            spherical_channel(tensors, position + n * shift) - spherical_channel(tensors, position - n * shift)
            for n in (1, 2, 3)
        )
        columns.append((45 * one - 9 * two + three) / (60 * step))
    return np.array(columns)
