# SPDX-License-Identifier: Apache-2.0
"""The planar network (2) of docs/equations.md, term by term, in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LIGHT = 299792458.0


def silu(x: NDArray[Any]) -> NDArray[Any]:
    return x / (1 + np.exp(-x))


def mlp(tensors: dict[str, NDArray[Any]], name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    layer = 0
    while f"{name}.{layer}.weight" in tensors:
        if layer > 0:
            x = silu(x)
        x = tensors[f"{name}.{layer}.weight"].astype(float) @ x + tensors[f"{name}.{layer}.bias"]
        layer += 1
    return x


def complex_mlp(tensors: dict[str, NDArray[Any]], name: str, x: NDArray[Any]) -> NDArray[np.complex128]:
    layer = 0
    while f"{name}.{layer}.weight_real" in tensors:
        if layer > 0:
            x = silu(x.real) + 1j * silu(x.imag)
        weight = tensors[f"{name}.{layer}.weight_real"] + 1j * tensors[f"{name}.{layer}.weight_imag"].astype(float)
        x = weight @ x + tensors[f"{name}.{layer}.bias_real"] + 1j * tensors[f"{name}.{layer}.bias_imag"].astype(float)
        layer += 1
    return x


def planar_channel(tensors: dict[str, NDArray[Any]], position: NDArray[np.float64]) -> NDArray[np.complex128]:
    """H [A, K] at one position."""
    antennas, frequencies = tensors["antenna_positions"], tensors["frequencies"]
    center = (frequencies.min() + frequencies.max()) / 2
    wavelength = LIGHT / center
    lower, upper = tensors["region.lower"], tensors["region.upper"]
    away = position - tensors["region.origin"]
    half = np.maximum((upper - lower) / 2, 1e-9)
    xi = (tensors["region.basis"] @ away - (lower + upper) / 2) / half

    length = mlp(tensors, "delay", xi)
    slope = mlp(tensors, "antenna", xi).reshape(len(length), -1)
    z = complex_mlp(tensors, "weight", xi)
    share = np.exp(np.abs(z) - np.abs(z).max())
    weight = tensors["weight.scale"][0] * z * share / share.sum()

    channel = np.zeros((len(antennas), len(frequencies)), complex)
    for i, direction in enumerate(tensors["location.directions"]):
        for j, antenna in enumerate(antennas):
            offset = tensors["antenna.basis"] @ (antenna - antennas.mean(axis=0))
            phase = 2 * np.pi / wavelength * (slope[i] @ offset - direction @ away)
            channel[j] += weight[i] * np.exp(1j * (phase - 2 * np.pi * (frequencies - center) * length[i] / LIGHT))
    return channel


def planar_channels(tensors: dict[str, NDArray[Any]], positions: NDArray[np.float64]) -> NDArray[np.complex128]:
    """H [n, A, K]."""
    return np.array([planar_channel(tensors, position) for position in positions])


def planar_jacobian(
    tensors: dict[str, NDArray[Any]], position: NDArray[np.float64], step: float = 1e-4
) -> NDArray[np.complex128]:
    """dH/dx [3, A, K] by fourth-order central differences; accurate to about (2 pi step / wavelength)^4 / 30."""
    columns = []
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        near = planar_channel(tensors, position + shift) - planar_channel(tensors, position - shift)
        far = planar_channel(tensors, position + 2 * shift) - planar_channel(tensors, position - 2 * shift)
        columns.append((8 * near - far) / (12 * step))
    return np.array(columns)
