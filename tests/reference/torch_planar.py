# SPDX-License-Identifier: Apache-2.0
"""The planar network (2) in eager torch, batched: the peer of the benchmarks and the oracle for derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

LIGHT = 299792458.0


class TorchPlanar:
    """Evaluates the tensors of a model file at float64 positions; networks and products in ``dtype``."""

    def __init__(self, tensors: dict[str, NDArray[Any]], dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype
        self.complex = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.tensors = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
        frequencies, antennas = self.tensors["frequencies"], self.tensors["antenna_positions"]
        center = (frequencies.min() + frequencies.max()) / 2
        self.wavelength = LIGHT / center
        self.offsets = (antennas - antennas.mean(0)) @ self.tensors["antenna.basis"].T
        self.baseband = frequencies - center
        lower, upper = self.tensors["region.lower"], self.tensors["region.upper"]
        self.middle, self.half = (lower + upper) / 2, ((upper - lower) / 2).clamp(min=1e-9)

    def _layers(self, name: str, suffix: str) -> int:
        return sum(1 for key in self.tensors if key.startswith(f"{name}.") and key.endswith(suffix))

    def _mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        for layer in range(self._layers(name, ".weight")):
            x = torch.nn.functional.silu(x) if layer else x
            weight, bias = self.tensors[f"{name}.{layer}.weight"], self.tensors[f"{name}.{layer}.bias"]
            x = torch.nn.functional.linear(x, weight.to(self.dtype), bias.to(self.dtype))
        return x

    def _complex_mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.complex)
        for layer in range(self._layers(name, ".weight_real")):
            if layer:
                x = torch.complex(torch.nn.functional.silu(x.real), torch.nn.functional.silu(x.imag))
            part = {
                key: torch.complex(
                    self.tensors[f"{name}.{layer}.{key}_real"].to(self.dtype),
                    self.tensors[f"{name}.{layer}.{key}_imag"].to(self.dtype),
                )
                for key in ("weight", "bias")
            }
            x = x @ part["weight"].T + part["bias"]
        return x

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """H [n, A, K] at float64 positions [n, 3]."""
        away = positions - self.tensors["region.origin"]
        xi = ((away @ self.tensors["region.basis"].T - self.middle) / self.half).to(self.dtype)
        length = self._mlp("delay", xi)
        slope = self._mlp("antenna", xi).reshape(*length.shape, -1)
        z = self._complex_mlp("weight", xi)
        weight = self.tensors["weight.scale"].to(self.dtype) * z * torch.softmax(z.abs(), -1)

        turns = -(away @ self.tensors["location.directions"].T) / self.wavelength
        location = self._phasor((turns - turns.detach().round()).to(self.dtype))
        antenna = self._phasor((slope @ (self.offsets / self.wavelength).to(self.dtype).T).transpose(-1, -2))
        frequency = self._phasor(-length[..., None] * (self.baseband / LIGHT).to(self.dtype))
        return (antenna * (weight * location)[..., None, :]) @ frequency

    @staticmethod
    def _phasor(turns: torch.Tensor) -> torch.Tensor:
        angle = 2 * np.pi * turns
        return torch.complex(torch.cos(angle), torch.sin(angle))

    def jacobian(self, positions: NDArray[np.float64]) -> NDArray[np.complex128]:
        """dH/dx [n, 3, A, K] by automatic differentiation."""
        x = torch.from_numpy(positions)
        columns = [
            torch.autograd.functional.jvp(self, x, torch.eye(3, dtype=x.dtype)[axis].expand_as(x).contiguous())[1]
            for axis in range(3)
        ]
        return torch.stack(columns, 1).numpy()
