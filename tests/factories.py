# SPDX-License-Identifier: Apache-2.0
"""Small random models and their files, for the tests of every stage that needs a model."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

LIGHT = 299792458.0

METADATA = {
    "format": "wavefix",
    "format_version": "1",
    "kind": "planar",
    "units": "m,s,Hz,rad",
    "activation": "silu",
    "training": json.dumps({"seed": 0}),
}


@dataclass
class ModelFile:
    """The tensors and metadata of a model file; change them at will, then ask for ``data``."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str] = field(default_factory=lambda: dict(METADATA))

    @property
    def data(self) -> bytes:
        return safetensors.numpy.save(
            {name: np.ascontiguousarray(value) for name, value in self.tensors.items()}, metadata=self.metadata
        )

    def positions(self, n: int, seed: int = 0) -> NDArray[np.float64]:
        """``n`` random positions inside the region."""
        lower, upper = self.tensors["region.lower"], self.tensors["region.upper"]
        y = np.random.default_rng(seed).uniform(lower, upper, (n, len(lower)))
        return self.tensors["region.origin"] + y @ self.tensors["region.basis"]


def random_planar_model(
    seed: int = 0,
    *,
    antennas: int = 8,
    subcarriers: int = 8,
    atoms: int = 6,
    dimension: int = 2,
    array_rank: int = 1,
    hidden: tuple[int, ...] = (16,),
    equispaced: bool = True,
    center_frequency: float = 3.5e9,
    bandwidth: float = 50e6,
) -> ModelFile:
    """A model of kind ``planar`` with random geometry and random networks.

    ``hidden`` are the widths of the hidden layers of all three networks. The atoms have unlike directions, path
    lengths between about 10 and 60 m and weights of about the same size, so every term matters.
    """
    rng = np.random.default_rng(seed)
    wavelength = LIGHT / center_frequency
    frame = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    array_basis = np.linalg.qr(rng.standard_normal((3, 3)))[0][:array_rank]
    tensors: dict[str, NDArray[Any]] = {
        "antenna_positions": _antennas(rng, antennas, array_basis, wavelength, equispaced),
        "frequencies": _frequencies(rng, subcarriers, center_frequency, bandwidth, equispaced),
        "region.origin": rng.uniform(-20, 20, 3),
        "region.basis": frame[:dimension],
        "region.lower": -rng.uniform(1, 3, dimension),
        "region.upper": rng.uniform(1, 3, dimension),
        "validation_nmse": np.array([1e-4]),
        "location.directions": _unit(rng.standard_normal((atoms, 3))),
        "antenna.basis": array_basis,
        "weight.scale": np.array([0.7]),
    }
    tensors |= _mlp(rng, "delay", (dimension, *hidden, atoms), rng.uniform(10, 60, atoms))
    slopes = _unit(rng.standard_normal((atoms, 3))) @ array_basis.T
    tensors |= _mlp(rng, "antenna", (dimension, *hidden, atoms * array_rank), slopes.reshape(-1), output_scale=0.1)
    tensors |= _complex_mlp(rng, "weight", (dimension, *hidden, atoms))
    return ModelFile(tensors)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _antennas(
    rng: np.random.Generator, n: int, basis: NDArray[np.float64], wavelength: float, equispaced: bool
) -> NDArray[np.float64]:
    rank = len(basis)
    if equispaced and rank == 1:
        offsets = np.arange(n)[:, None] * wavelength / 2
    else:
        offsets = rng.uniform(0, wavelength / 2 * n ** (1 / rank), (n, rank))
    return rng.uniform(-5, 5, 3) + offsets @ basis


def _frequencies(
    rng: np.random.Generator, n: int, center: float, bandwidth: float, equispaced: bool
) -> NDArray[np.float64]:
    if equispaced:
        return center + bandwidth * (np.arange(n) - (n - 1) / 2) / n
    return center + bandwidth * np.sort(rng.uniform(-0.5, 0.5, n))


def _mlp(
    rng: np.random.Generator,
    name: str,
    widths: tuple[int, ...],
    last_bias: NDArray[np.float64],
    output_scale: float = 1.0,
) -> dict[str, NDArray[Any]]:
    tensors = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        last = layer == len(widths) - 2
        scale = (output_scale if last else 1.5) / np.sqrt(inputs)
        bias = last_bias if last else 0.3 * rng.standard_normal(outputs)
        tensors[f"{name}.{layer}.weight"] = (scale * rng.standard_normal((outputs, inputs))).astype(np.float32)
        tensors[f"{name}.{layer}.bias"] = bias.astype(np.float32)
    return tensors


def _complex_mlp(rng: np.random.Generator, name: str, widths: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    tensors = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        for part in ("real", "imag"):
            weight = rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)
            tensors[f"{name}.{layer}.weight_{part}"] = weight.astype(np.float32)
            tensors[f"{name}.{layer}.bias_{part}"] = (0.3 * rng.standard_normal(outputs)).astype(np.float32)
    return tensors
