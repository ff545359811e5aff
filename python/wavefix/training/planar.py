# SPDX-License-Identifier: Apache-2.0
"""The planar location-to-channel network, docs/equations.md (2), in torch, and its export."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavefix.constants import SPEED_OF_LIGHT
from wavefix.model_file import model_bytes
from wavefix.region import Region
from wavefix.training.paths import turn


class Mlp(nn.Module):
    """Linear layers with SiLU between them; complex ones apply it to the real and the imaginary part."""

    mix: Tensor

    def __init__(self, sizes: list[int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(b, a, dtype=dtype)) for a, b in itertools.pairwise(sizes)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(b, dtype=dtype)) for b in sizes[1:])
        self.register_buffer("mix", torch.eye(sizes[-2], dtype=dtype))

    def features(self, inputs: Tensor) -> Tensor:
        """The last hidden layer's output."""
        value: Tensor = inputs.to(self.weights[0].dtype)
        for weight, bias in zip(list(self.weights)[:-1], list(self.biases)[:-1], strict=True):
            value = _silu(value @ weight.mT + bias)
        return value

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.features(inputs) @ self.mix @ self.weights[-1].mT + self.biases[-1]
        return out

    def whiten(self, inputs: Tensor, floor: float) -> None:
        """Let the last layer act on decorrelated features: nearly collinear ones make gradient descent crawl."""
        with torch.no_grad():
            wide = torch.complex128 if self.mix.is_complex() else torch.float64
            features = self.features(inputs).to(wide)
            values, vectors = torch.linalg.eigh(features.mH @ features / len(features))
            self.mix.copy_(vectors * (values.clamp(min=0) + floor * values.max()).rsqrt())

    def fold(self) -> None:
        """Move the decorrelation into the last layer's weights, which is how the model file wants them."""
        with torch.no_grad():
            wide = torch.complex128 if self.mix.is_complex() else torch.float64
            self.weights[-1].copy_(self.weights[-1].to(wide) @ self.mix.to(wide).mT)
            self.mix.copy_(torch.eye(len(self.mix), dtype=self.mix.dtype))

    def randomize(self, generator: torch.Generator, bandwidth: float) -> None:
        """Hidden layers that bend about ``bandwidth`` times across the zone; the last layer stays zero."""
        with torch.no_grad():
            for layer, (weight, bias) in enumerate(zip(list(self.weights)[:-1], list(self.biases)[:-1], strict=True)):
                spread = bandwidth if layer == 0 else 1.5
                weight.copy_(_normal(weight, generator) * (spread / weight.shape[1] ** 0.5))
                bias.copy_(_normal(bias, generator) * (spread if layer == 0 else 0.3))


def _silu(value: Tensor) -> Tensor:
    if value.is_complex():
        return torch.complex(nn.functional.silu(value.real), nn.functional.silu(value.imag))
    return nn.functional.silu(value)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


@dataclass(frozen=True)
class Geometry:
    """What the network needs to know and does not learn."""

    antenna_positions: NDArray[np.float64]
    antenna_basis: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    region: Region

    @property
    def reference_frequency(self) -> float:
        return float((self.frequencies.min() + self.frequencies.max()) / 2)

    @property
    def wavelength(self) -> float:
        return SPEED_OF_LIGHT / self.reference_frequency

    @property
    def antenna_coordinates(self) -> NDArray[np.float64]:
        """``[A, r]`` meters along the basis, about the array's reference."""
        centered = self.antenna_positions - self.antenna_positions.mean(axis=0)
        coordinates: NDArray[np.float64] = centered @ self.antenna_basis.T
        return coordinates


@dataclass(frozen=True)
class Widths:
    """Hidden layers of the three networks."""

    delay: tuple[int, ...] = (64,)
    antenna: tuple[int, ...] = (64,)
    weight: tuple[int, ...] = (192,)


class PlanarNetwork(nn.Module):
    """``H_jk(x) = sum_i w_i psi_i(x) e^(+j k u~_i.(p_j - p_r)) e^(-j 2 pi (f_k - f_r) L_i / c)``."""

    directions: Tensor
    waves: Tensor
    scale: Tensor
    antennas: Tensor
    tones: Tensor
    center: Tensor
    half_extent: Tensor

    def __init__(self, geometry: Geometry, directions: NDArray[np.float64], widths: Widths) -> None:
        super().__init__()
        self.geometry, self.widths = geometry, widths
        region = geometry.region
        atoms, rank, d = len(directions), len(geometry.antenna_basis), region.dimension
        self.delay = Mlp([d, *widths.delay, atoms])
        self.antenna = Mlp([d, *widths.antenna, atoms * rank])
        self.weight = Mlp([d, *widths.weight, atoms], torch.complex64)
        wavenumber = 2 * np.pi / geometry.wavelength
        tones = 2 * np.pi * (geometry.frequencies - geometry.reference_frequency) / SPEED_OF_LIGHT
        self.register_buffer("directions", torch.tensor(directions, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(1, dtype=torch.float64))
        self.register_buffer("waves", torch.tensor(wavenumber * directions @ region.basis.T, dtype=torch.float64))
        self.register_buffer("antennas", torch.tensor(wavenumber * geometry.antenna_coordinates, dtype=torch.float32))
        self.register_buffer("tones", torch.tensor(tones, dtype=torch.float32))
        self.register_buffer("center", torch.tensor(region.middle, dtype=torch.float64))
        self.register_buffer("half_extent", torch.tensor(region.half_extent, dtype=torch.float64))

    def inputs(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """What depends on the position alone: scaled coordinates (float32) and ``psi`` (complex64)."""
        return ((y - self.center) / self.half_extent).to(torch.float32), turn(y @ self.waves.mT)

    def forward(self, scaled: Tensor, psi: Tensor) -> Tensor:
        """Channels ``[n, A, K]`` complex64 from what ``inputs`` returns."""
        z = self.weight(scaled)
        magnitude = z.real.square().add(z.imag.square()).add(1e-20).sqrt()
        weights = z * (torch.softmax(magnitude, -1) * self.scale.to(torch.float32)) * psi
        lengths = self.delay(scaled)
        slopes = self.antenna(scaled).unflatten(-1, (lengths.shape[-1], -1))
        over_antennas = self.antennas @ slopes.mT  # [n, A, D]
        over_tones = lengths[..., None] * self.tones  # [n, D, K]
        steering = torch.complex(torch.cos(over_antennas), torch.sin(over_antennas)) * weights[:, None, :]
        channels: Tensor = steering @ torch.complex(torch.cos(over_tones), -torch.sin(over_tones))
        return channels

    def fold(self) -> None:
        """Make the layers what the model file holds."""
        for mlp in (self.delay, self.antenna, self.weight):
            mlp.fold()

    @torch.no_grad()
    def predict(self, y: Tensor, batch: int = 256) -> Tensor:
        return torch.cat([self(*self.inputs(part)) for part in torch.split(y, batch)])

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The model file's tensors (``validation_nmse`` apart)."""
        region, out = self.geometry.region, {}
        out["antenna_positions"], out["frequencies"] = self.geometry.antenna_positions, self.geometry.frequencies
        out["region.origin"], out["region.basis"] = region.origin, region.basis
        out["region.lower"], out["region.upper"] = region.lower, region.upper
        out["location.directions"] = self.directions.cpu().numpy()
        out["antenna.basis"] = self.geometry.antenna_basis
        out["weight.scale"] = self.scale.cpu().numpy()
        for name, network in (("delay", self.delay), ("antenna", self.antenna), ("weight", self.weight)):
            for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
                for key, value in ((f"{name}.{layer}.weight", weight), (f"{name}.{layer}.bias", bias)):
                    array = value.detach().cpu().numpy()
                    parts = {"_real": array.real, "_imag": array.imag} if np.iscomplexobj(array) else {"": array}
                    out.update({key + suffix: part for suffix, part in parts.items()})
        return {name: np.ascontiguousarray(array) for name, array in out.items()}

    def to_bytes(self, validation_nmse: float, channel_scale: float, training: str) -> bytes:
        """The model file (safetensors), amplitudes multiplied by ``channel_scale``."""
        tensors = self.tensors()
        tensors["weight.scale"] = tensors["weight.scale"] * channel_scale
        tensors["validation_nmse"] = np.array([validation_nmse])
        return model_bytes("planar", tensors, {"activation": "silu", "training": training})
