# SPDX-License-Identifier: Apache-2.0
"""synthesize: virtual sources (1) with gains and gates (3) in C++ against torch and NumPy, answers compared first.

The peers evaluate the whole batch: distances, gains and gates in float64, phasors and sums in complex64 as wavefix
does, either term by term or as products of two short phase tables. Work is counted as 8 operations an atom and entry;
the rates stand in ``extra_info``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import wavefix as wfx
from factories import ModelFile
from reference.spherical import spherical_channels, spherical_jacobian
from spherical_models import random_spherical_model
from wavefix.spherical import gain_terms

SIZES: dict[str, dict[str, Any]] = {
    "64x64, 12 sources": {"antennas": 64, "subcarriers": 64, "sources": 12},
    "32x64, 24 sources": {"antennas": 32, "subcarriers": 64, "sources": 24},
    "128x256, 12 sources": {"antennas": 128, "subcarriers": 256, "sources": 12},
}
POSITIONS = 64
TOLERANCE = 1e-6


class Peer:
    """(1) and (3) with the array library ``xp`` (numpy or torch) as one would write it by hand."""

    def __init__(self, tensors: dict[str, NDArray[Any]], xp: Any, tables: bool) -> None:
        self.xp, self.tables = xp, tables
        self.convert = torch.from_numpy if xp is torch else np.asarray
        get = {name: self.convert(value) for name, value in tensors.items()}
        antennas = tensors["antenna_positions"]
        turned = np.einsum("lab,jb->lja", tensors["source_rotations"], antennas - antennas.mean(axis=0))
        self.sources = self.convert(tensors["source_positions"][:, None] + turned)
        self.origin = get["region.origin"]
        self.turns = self.convert(tensors["frequencies"] / 299792458.0)
        self.variables = get["gain_variables"]
        self.gains = self.convert(tensors["gain_coefficients"].astype(float) @ [1, 1j])
        self.terms = gain_terms((int(np.sqrt(8 * self.gains.shape[1] + 1)) - 3) // 2)
        self.lines = get.get("gate_lines")
        self.cell_source = tensors.get("gate_cell_source", np.empty(0, int))
        self.line_cell = tensors.get("gate_line_cell", np.empty(0, int))

    def gates(self, x: Any) -> Any:
        """[n, L, A]"""
        xp = self.xp
        open_ = xp.ones((len(x), *self.sources.shape[:2]), dtype=xp.float64)
        for source in np.unique(self.cell_source):
            s = (self.sources[source] - self.origin)[None]
            hidden = 1.0
            for cell in np.flatnonzero(self.cell_source == source):
                lit = 1.0
                for line in np.flatnonzero(self.line_cell == cell):
                    m, d = self.lines[line, :3], self.lines[line, 3:]
                    away = x[:, None] - self.origin
                    cross = xp.linalg.cross(away, s) if xp is torch else np.cross(away, s)
                    v = (away - s) @ m - cross @ d
                    lit = lit * (1 / (1 + xp.exp(-v)))
                hidden = hidden * (1 - lit)
            open_[:, source] = 1 - hidden
        return open_

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
        # k = 8 r + c, frequencies at equal steps
        rows = self.narrow(amplitude)[..., None] * self.phasors(distance, self.turns[::8])
        columns = self.phasors(distance, self.turns[:8] - self.turns[0])
        product = xp.einsum("nljr,nljc->njrc", rows, columns)
        return product.reshape(*product.shape[:2], -1)

    def narrow(self, a: Any) -> Any:
        return a.to(torch.complex64) if self.xp is torch else a.astype(np.complex64)

    def phasors(self, distance: Any, turns: Any) -> Any:
        turns = distance[..., None] * turns
        turns = turns - self.xp.round(turns)
        if self.xp is torch:
            return torch.exp(-2j * np.pi * turns.to(torch.float32))
        return np.exp(np.complex64(-2j * np.pi) * turns.astype(np.float32))


@pytest.fixture(scope="module", params=list(SIZES))
def case(request: pytest.FixtureRequest) -> tuple[str, ModelFile, wfx.ChannelModel, NDArray[np.float64]]:
    file = random_spherical_model(1, **SIZES[request.param])
    return request.param, file, wfx.ChannelModel.from_bytes(file.data), file.positions(POSITIONS)


def difference(got: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def rate(benchmark: Any, model: wfx.ChannelModel) -> None:
    work = 8 * POSITIONS * model.n_atoms * len(model.antenna_positions) * len(model.frequencies)
    benchmark.extra_info["GFLOP/s"] = work / benchmark.stats.stats.min / 1e9


@pytest.mark.parametrize("threads", [1, 2])
def test_wavefix(benchmark, case, threads) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize, {name}"
    out = np.empty((POSITIONS, len(model.antenna_positions), len(model.frequencies)), np.complex64)
    benchmark(model.synthesize, positions, out=out, threads=threads)
    rate(benchmark, model)
    assert difference(out[:2], spherical_channels(file.tensors, positions[:2])) < TOLERANCE


@pytest.mark.parametrize("tables", [False, True], ids=["terms", "tables"])
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_peer(benchmark, case, library, tables) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize, {name}"
    peer = Peer(file.tensors, torch if library == "torch" else np, tables)
    with torch.no_grad():
        got = benchmark.pedantic(peer, (positions,), rounds=3, warmup_rounds=1)
    rate(benchmark, model)
    assert difference(np.asarray(got), model.synthesize(positions)) < TOLERANCE


@pytest.mark.parametrize("threads", [1, 2])
def test_wavefix_jacobian(benchmark, case, threads) -> None:
    name, file, model, positions = case
    benchmark.group = f"synthesize with Jacobian, {name}"
    shape = (POSITIONS, 3, len(model.antenna_positions), len(model.frequencies))
    out = np.empty((shape[0], *shape[2:]), np.complex64), np.empty(shape, np.complex64)
    benchmark(model.synthesize, positions, jacobian=True, out=out, threads=threads)
    assert difference(out[1][0], spherical_jacobian(file.tensors, positions[0])) < TOLERANCE
