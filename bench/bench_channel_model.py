# SPDX-License-Identifier: Apache-2.0
"""synthesize: the C++ evaluation of a planar model (2) against eager torch and NumPy, answers compared first.

The peers evaluate the whole batch with their own matrix products in float32, on the same cores.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import wavefix as wfx
from factories import ModelFile, random_planar_model
from reference.torch_planar import TorchPlanar

FULL = os.environ.get("WAVEFIX_BENCH") == "full"
SIZES: dict[str, dict[str, Any]] = {
    "16x16, 64 atoms": {"antennas": 16, "subcarriers": 16, "atoms": 64, "hidden": (64, 64)},
}
if FULL:
    SIZES |= {
        "64x64, 50 atoms": {"antennas": 64, "subcarriers": 64, "atoms": 50, "hidden": (64, 64)},
        "64x64, 256 atoms": {"antennas": 64, "subcarriers": 64, "atoms": 256, "hidden": (256, 256)},
    }
POSITIONS = 64 if FULL else 8
TOLERANCE = 1e-4  # of the float32 peers, whose slopes lose digits in float32 networks


class NumpyPlanar:
    """(2) vectorized over positions, complex64 products by BLAS."""

    def __init__(self, tensors: dict[str, NDArray[Any]]) -> None:
        self.tensors = tensors
        frequencies, antennas = tensors["frequencies"], tensors["antenna_positions"]
        center = (frequencies.min() + frequencies.max()) / 2
        self.wavelength = 299792458.0 / center
        self.offsets = ((antennas - antennas.mean(0)) @ tensors["antenna.basis"].T / self.wavelength).astype(np.float32)
        self.delays = ((frequencies - center) / 299792458.0).astype(np.float32)
        self.middle = (tensors["region.lower"] + tensors["region.upper"]) / 2
        self.half = np.maximum((tensors["region.upper"] - tensors["region.lower"]) / 2, 1e-9)

    def mlp(self, name: str, x: NDArray[Any], parts: tuple[str, ...] = ("",)) -> NDArray[Any]:
        layer = 0
        while f"{name}.{layer}.weight{parts[0]}" in self.tensors:
            get = [[self.tensors[f"{name}.{layer}.{key}{part}"] for part in parts] for key in ("weight", "bias")]
            weight, bias = (value[0] + np.complex64(1j) * value[1] if len(parts) == 2 else value[0] for value in get)
            if layer:
                x = silu(x) if len(parts) == 1 else silu(x.real) + np.complex64(1j) * silu(x.imag)
            x = x @ weight.T + bias
            layer += 1
        return x

    def __call__(self, positions: NDArray[np.float64]) -> NDArray[np.complex64]:
        tensors = self.tensors
        away = positions - tensors["region.origin"]
        xi = ((away @ tensors["region.basis"].T - self.middle) / self.half).astype(np.float32)
        length = self.mlp("delay", xi)
        slope = self.mlp("antenna", xi).reshape(*length.shape, -1)
        z = self.mlp("weight", xi.astype(np.complex64), ("_real", "_imag"))
        share = np.exp(np.abs(z) - np.abs(z).max(axis=1, keepdims=True))
        weight = np.float32(tensors["weight.scale"][0]) * z * share / share.sum(axis=1, keepdims=True)
        turns = -(away @ tensors["location.directions"].T) / self.wavelength
        weight = weight * phasor((turns - np.round(turns)).astype(np.float32))
        antenna = phasor(np.swapaxes(slope @ self.offsets.T, 1, 2))
        return (antenna * weight[:, None]) @ phasor(-length[..., None] * self.delays)


def silu(x: NDArray[Any]) -> NDArray[Any]:
    return x / (1 + np.exp(-x))


def phasor(turns: NDArray[np.float32]) -> NDArray[np.complex64]:
    return np.exp(np.complex64(2j * np.pi) * turns)


@pytest.fixture(scope="module", params=list(SIZES))
def case(request: pytest.FixtureRequest) -> tuple[str, ModelFile, wfx.ChannelModel, NDArray[np.float64]]:
    file = random_planar_model(1, **SIZES[request.param])
    return request.param, file, wfx.ChannelModel.from_bytes(file.data), file.positions(POSITIONS)


def difference(got: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def test_wavefix(benchmark, case) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize, {name}"
    out = np.empty((POSITIONS, len(model.antenna_positions), len(model.frequencies)), np.complex64)
    benchmark(model.synthesize, positions, out=out)
    with torch.no_grad():
        expected = TorchPlanar(file.tensors)(torch.from_numpy(positions)).numpy()
    assert difference(out, expected) < 1e-5


def test_torch(benchmark, case) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize, {name}"
    peer, points = TorchPlanar(file.tensors, torch.float32), torch.from_numpy(positions)
    with torch.no_grad():
        got = benchmark(peer, points)
    assert difference(got.numpy(), model.synthesize(positions)) < TOLERANCE


def test_numpy(benchmark, case) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize, {name}"
    got = benchmark(NumpyPlanar(file.tensors), positions)
    assert difference(got, model.synthesize(positions)) < TOLERANCE


def test_wavefix_jacobian(benchmark, case) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize with Jacobian, {name}"
    _, got = benchmark(model.synthesize, positions, jacobian=True)
    assert difference(got[:2], TorchPlanar(file.tensors).jacobian(positions[:2])) < 1e-5


def test_torch_jacobian(benchmark, case) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize with Jacobian, {name}"
    peer = TorchPlanar(file.tensors, torch.float32)
    got = benchmark.pedantic(peer.jacobian, (positions,), rounds=3, warmup_rounds=1)
    assert difference(got, model.synthesize(positions, jacobian=True)[1]) < TOLERANCE
