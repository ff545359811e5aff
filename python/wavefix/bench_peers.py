# SPDX-License-Identifier: Apache-2.0
"""Channel models written with NumPy or torch as one would by hand: what the C++ core is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from wavefix.channel_model import ChannelModel
from wavefix.constants import SPEED_OF_LIGHT
from wavefix.spherical import gain_terms


def peer_of(xp: Any, model: ChannelModel) -> Callable[[NDArray[np.float64]], Any]:
    """``model`` with the array library ``xp`` (numpy or torch)."""
    return planar_peer(xp, model) if model.kind == "planar" else SphericalPeer(xp, model)


def planar_peer(xp: Any, model: ChannelModel) -> Callable[[NDArray[np.float64]], Any]:
    """(2) of ``model`` written with the array library ``xp`` (numpy or torch) as one would by hand."""
    tensors = safetensors.numpy.load(model.to_bytes())
    on_torch = xp.__name__ == "torch"
    convert = xp.from_numpy if on_torch else xp.asarray
    t = {name: convert(np.ascontiguousarray(value)) for name, value in tensors.items()}
    wave = 2 * np.pi / model.wavelength
    elements = convert(model.antenna_positions - model.antenna_positions.mean(axis=0)) @ t["antenna.basis"].T
    center = (model.frequencies.min() + model.frequencies.max()) / 2
    offsets = convert(2 * np.pi / SPEED_OF_LIGHT * (model.frequencies - center))
    middle = (t["region.lower"] + t["region.upper"]) / 2
    half = (t["region.upper"] - t["region.lower"]) / 2
    single = xp.float32

    def narrow(a: Any) -> Any:
        return a.to(single) if on_torch else a.astype(single)

    def silu(a: Any) -> Any:
        return a / (1 + xp.exp(-a))

    def real(name: str, a: Any) -> Any:
        depth = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in t)
        for layer in range(depth):
            a = a @ t[f"{name}.{layer}.weight"].T + t[f"{name}.{layer}.bias"]
            a = silu(a) if layer < depth - 1 else a
        return a

    def weights(re: Any) -> Any:
        im, depth = 0 * re, sum(key.startswith("weight.") and key.endswith("weight_real") for key in t)
        for layer in range(depth):
            wr, wi, br, bi = (
                t[f"weight.{layer}.{part}"] for part in ("weight_real", "weight_imag", "bias_real", "bias_imag")
            )
            re, im = re @ wr.T - im @ wi.T + br, re @ wi.T + im @ wr.T + bi
            if layer < depth - 1:
                re, im = silu(re), silu(im)
        z = re + 1j * im
        share = xp.exp(abs(z))
        return float(tensors["weight.scale"][0]) * z * share / share.sum(1)[:, None]

    def synthesize(positions: NDArray[np.float64]) -> Any:
        y = convert(positions) - t["region.origin"]
        xi = narrow((y @ t["region.basis"].T - middle) / half)
        location = xp.exp(-1j * narrow((wave * (y @ t["location.directions"].T)) % (2 * np.pi)))
        slopes = real("antenna", xi).reshape(len(positions), -1, elements.shape[1])
        array = xp.exp(1j * (slopes @ narrow(wave * elements.T)))
        band = xp.exp(-1j * (real("delay", xi)[:, :, None] * narrow(offsets)))
        return (array * (weights(xi) * location)[:, :, None]).swapaxes(1, 2) @ band

    return synthesize


class SphericalPeer:
    """(1) and (3): distances, gains and gates in float64, phasors and sums in complex64, as the core does.

    With ``tables``, phasors over subcarriers at equal steps are products of two short tables; else every one is
    evaluated.
    """

    def __init__(self, xp: Any, model: ChannelModel, tables: bool = False) -> None:
        tensors = safetensors.numpy.load(model.to_bytes())
        self.xp, self.tables, self.on_torch = xp, tables, xp.__name__ == "torch"
        self.convert: Callable[[Any], Any] = xp.from_numpy if self.on_torch else xp.asarray
        antennas = tensors["antenna_positions"]
        turned = np.einsum("lab,jb->lja", tensors["source_rotations"], antennas - antennas.mean(axis=0))
        self.sources = self.convert(tensors["source_positions"][:, None] + turned)
        self.origin = self.convert(tensors["region.origin"])
        self.turns = self.convert(tensors["frequencies"] / SPEED_OF_LIGHT)
        self.variables = self.convert(tensors["gain_variables"])
        self.gains = self.convert(tensors["gain_coefficients"].astype(float) @ [1, 1j])
        self.terms = gain_terms((int(np.sqrt(8 * self.gains.shape[1] + 1)) - 3) // 2)
        self.lines = self.convert(tensors.get("gate_lines", np.empty((0, 6))))
        self.cell_source = tensors.get("gate_cell_source", np.empty(0, int))
        self.line_cell = tensors.get("gate_line_cell", np.empty(0, int))

    def gates(self, x: Any) -> Any:
        """[n, L, A]"""
        xp = self.xp
        opened = xp.ones((len(x), *self.sources.shape[:2]), dtype=xp.float64)
        for source in np.unique(self.cell_source):
            s = (self.sources[source] - self.origin)[None]
            total = 0.0
            for cell in np.flatnonzero(self.cell_source == source):
                lit = 1.0
                for line in np.flatnonzero(self.line_cell == cell):
                    m, d = self.lines[line, :3], self.lines[line, 3:]
                    away = x[:, None] - self.origin
                    cross = xp.linalg.cross(away, s) if self.on_torch else np.cross(away, s)
                    lit = lit * (1 / (1 + xp.exp(cross @ d - (away - s) @ m)))
                total = total + lit
            opened[:, source] = total
        return opened

    def __call__(self, positions: NDArray[np.float64]) -> Any:
        xp, x = self.xp, self.convert(positions)
        away = x[:, None, None] - self.sources
        distance = xp.sqrt((away * away).sum(-1))
        v = xp.einsum("lva,nlja->vnlj", self.variables[..., :3], away / distance[..., None])
        v = v + xp.swapaxes(self.variables[..., 3], 0, 1)[:, None, :, None]
        w = sum(self.gains[:, i][:, None] * v[0] ** a * v[1] ** b for i, (a, b) in enumerate(self.terms))
        amplitude = w * (self.gates(x) / distance)
        if not self.tables:
            return (self.narrow(amplitude)[..., None] * self.phasors(distance, self.turns)).sum(1)
        # k = 8 r + c
        rows = self.narrow(amplitude)[..., None] * self.phasors(distance, self.turns[::8])
        columns = self.phasors(distance, self.turns[:8] - self.turns[0])
        product = xp.einsum("nljr,nljc->njrc", rows, columns)
        return product.reshape(*product.shape[:2], -1)

    def narrow(self, a: Any) -> Any:
        return a.to(self.xp.complex64) if self.on_torch else a.astype(np.complex64)

    def phasors(self, distance: Any, turns: Any) -> Any:
        turns = distance[..., None] * turns
        turns = turns - self.xp.round(turns)
        if self.on_torch:
            return self.xp.exp(-2j * np.pi * turns.to(self.xp.float32))
        return np.exp(np.complex64(-2j * np.pi) * turns.astype(np.float32))
