# SPDX-License-Identifier: Apache-2.0
"""Planar models that are known exactly: a few plane waves with constant weights, written as model files."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from wavefix import ChannelModel

C = 299792458.0
CARRIER = 3.5e9
WAVELENGTH = C / CARRIER


def plane_wave_tensors(
    seed: int = 0,
    *,
    antennas: int = 8,
    subcarriers: int = 12,
    waves: int = 8,
    dimension: int = 2,
    extent: float = 6.0,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    twins: bool = False,
    rough: bool = False,
) -> dict[str, NDArray[np.generic]]:
    """Tensors of a model whose region is ``extent`` wavelengths wide along each of ``dimension`` axes; ``rough``:
    weights that change several times across it, as learned ones do."""
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((waves, 3))
    if twins:  # all waves along one axis, to and fro
        directions = np.resize([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], (waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    basis = np.eye(3)[:dimension]
    half = np.full(dimension, extent * WAVELENGTH / 2)
    array = np.zeros((antennas, 3))
    array[:, 1] = (np.arange(antennas) - (antennas - 1) / 2) * WAVELENGTH / 2
    weights = generator.standard_normal((2, waves))

    # softmax(|z|) scales each z by a positive factor, whatever z is; the model is what the file says it is.
    def constant(name: str, values: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
        return {
            f"{name}.0.weight": np.zeros((len(values), dimension), np.float32),
            f"{name}.0.bias": values.astype(np.float32),
        }

    tensors = {
        "antenna_positions": array + np.array(shift) + np.array([10.0, 3.0, 5.0]),
        "frequencies": CARRIER + np.linspace(-25e6, 25e6, subcarriers),
        "region.origin": np.array([1.0, 2.0, 1.5]) + np.array(shift),
        "region.basis": basis,
        "region.lower": -half,
        "region.upper": half,
        "validation_nmse": np.array([1e-6]),
        "location.directions": directions,
        "antenna.basis": np.array([[0.0, 1.0, 0.0]]),
        # A plane wave's path length grows along its direction at the user.
        "delay.0.weight": (directions @ basis.T * half).astype(np.float32),
        "delay.0.bias": generator.uniform(5.0, 60.0, waves).astype(np.float32),
        **constant("antenna", generator.uniform(-0.9, 0.9, waves)),
        "weight.0.weight_real": np.zeros((waves, dimension), np.float32),
        "weight.0.weight_imag": np.zeros((waves, dimension), np.float32),
        "weight.0.bias_real": weights[0].astype(np.float32),
        "weight.0.bias_imag": weights[1].astype(np.float32),
        "weight.scale": np.array([1e-4]),
    }
    return tensors | rough_weights(generator, waves, dimension) if rough else tensors


def rough_weights(
    generator: np.random.Generator, waves: int, dimension: int, hidden: int = 24, gain: float = 3.0
) -> dict[str, NDArray[np.generic]]:
    """A complex network whose ``hidden`` units bend all over the region."""
    out: dict[str, NDArray[np.generic]] = {}
    for part in ("real", "imag"):
        layers = {
            f"weight.0.weight_{part}": gain * generator.standard_normal((hidden, dimension)),
            f"weight.0.bias_{part}": gain * generator.uniform(-1, 1, hidden),
            f"weight.1.weight_{part}": generator.standard_normal((waves, hidden)) / gain / np.sqrt(hidden),
            f"weight.1.bias_{part}": np.zeros(waves),
        }
        out |= {name: values.astype(np.float32) for name, values in layers.items()}
    return out


def plane_wave_bytes(seed: int = 0, **options: object) -> bytes:
    metadata = {
        "format": "wavefix",
        "format_version": "1",
        "kind": "planar",
        "units": "m,s,Hz,rad",
        "activation": "silu",
        "training": json.dumps({}),
    }
    return save(plane_wave_tensors(seed, **options), metadata)  # type: ignore[arg-type]


def plane_wave_model(seed: int = 0, **options: object) -> ChannelModel:
    return ChannelModel.from_bytes(plane_wave_bytes(seed, **options))


def random_positions(model: ChannelModel, n: int, seed: int = 0, fill: float = 0.9) -> NDArray[np.float64]:
    """Positions spread over the inner ``fill`` of the model's region."""
    region = model.region
    y = np.random.default_rng(seed).uniform(fill * region.lower, fill * region.upper, (n, len(region.lower)))
    return np.ascontiguousarray(region.origin + y @ region.basis)


def add_noise(channels: NDArray[np.complex64], snr_db: float, seed: int | list[int] = 0) -> NDArray[np.complex64]:
    generator = np.random.default_rng(seed)
    power = np.mean(np.abs(channels) ** 2, axis=(1, 2), keepdims=True)
    deviation = np.sqrt(power / 2 * 10 ** (-snr_db / 10))
    noise = generator.standard_normal(channels.shape) + 1j * generator.standard_normal(channels.shape)
    return (channels + deviation * noise).astype(np.complex64)
