# SPDX-License-Identifier: Apache-2.0
"""A planar network that starts as what the sources predict: a random start stays at 0 dB for many epochs.

Every source becomes atoms. One atom is exact for a plane wave; where the source is near, its zone is split into
overlapping windows, each with the direction at its own middle, and what the separable atom cannot do over array
and band (curvature, delay that differs over the array) is done by atoms beside it, offset in slope and delay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefix.constants import SPEED_OF_LIGHT
from wavefix.training.paths import Grid, antenna_lengths, turn
from wavefix.training.planar import Geometry, Mlp, PlanarNetwork, Widths
from wavefix.training.sources import Sources

_PHASE_LIMIT = 20.0  # radians of phase left to the weight network across one window
_WHITENING = 1e-4
_NEGLIGIBLE = 1e-5  # of the total power: an atom that explains less is not worth its time


@dataclass(frozen=True)
class Group:
    """The atoms of one source in one window, at ``middle``: their choice among the offset candidates."""

    source: int
    window: int
    middles: Tensor
    power: float
    choices: list[tuple[float, list[int]]]
    """Error and picks with 1, 2, ... atoms."""


@dataclass(frozen=True)
class Atoms:
    """The groups, and how many choices up their ladder each goes."""

    groups: list[Group]
    levels: list[int]

    def __len__(self) -> int:
        return sum(len(picks) for _, picks in self)

    def __iter__(self) -> Iterator[tuple[Group, list[int]]]:
        for group, level in zip(self.groups, self.levels, strict=True):
            yield group, group.choices[level][1]


def offset_candidates(grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Slope offsets ``[C, r]``, length offsets ``[C]`` and their atoms ``[C, A K]`` (the first is no offset)."""
    rank = grid.antennas.shape[1]
    spans = [float(grid.antennas[:, q].max() - grid.antennas[:, q].min()) for q in range(rank)]
    band = float(grid.frequencies[-1] - grid.frequencies[0]) / SPEED_OF_LIGHT
    axes = [
        [0.0, *(s * 0.45 * 2 * np.pi / (grid.wavenumber * span) for s in _steps(rank) if span > 0)] for span in spans
    ]
    lengths = [0.0, 0.45 / band, -0.45 / band] if band > 0 else [0.0]
    choices = torch.tensor(list(itertools.product(*axes, lengths)), dtype=torch.float64, device=grid.antennas.device)
    slopes, length = choices[:, :rank], choices[:, rank]
    over_antennas = turn(-grid.wavenumber * slopes @ grid.antennas.T)
    tones = 2 * torch.pi * (grid.frequencies - grid.reference) / SPEED_OF_LIGHT
    atoms = over_antennas[:, :, None] * turn(length[:, None] * tones)[:, None, :]
    return slopes, length, atoms.flatten(1)


def _steps(rank: int) -> tuple[int, ...]:
    return (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6) if rank == 1 else (1, -1)


def planar_error(sources: Sources, index: int, y: Tensor, grid: Grid) -> Tensor:
    """One source's wave over its own plane wave, ``[n, A K]``: one where the plane wave is exact."""
    length, slopes = (field[:, index] for field in sources.paths.fields(y))
    curve = antenna_lengths(length, slopes, grid) - length[:, None]
    tones = 2 * torch.pi * (grid.frequencies - grid.reference) / SPEED_OF_LIGHT
    flat = curve + slopes @ grid.antennas.T
    phase = grid.wavenumber * flat[:, :, None] + curve[:, :, None] * tones
    return turn(phase).flatten(1)


def plan_atoms(sources: Sources, y: Tensor, grid: Grid, max_atoms: int) -> Atoms:
    """Windows for every source, then offsets one at a time where they explain most power."""
    weights = sources.weights(y).abs().square()
    total = float(weights.mean(0).sum())
    _, _, dictionary = offset_candidates(grid)
    groups: list[Group] = []
    for index in range(len(sources.paths)):
        middles = _windows(sources, index, y, grid)
        share = window_values(middles, y)
        for window, middle in enumerate(middles):
            power = float((weights[:, index] * share[:, window]).mean()) / total
            if power >= _NEGLIGIBLE or len(middles) == 1:
                target = planar_error(sources, index, middle[None], grid)[0]
                groups.append(Group(index, window, middles, power, _ladder(target, dictionary)))
    groups = sorted(groups, key=lambda group: -group.power)[:max_atoms]
    levels = [0] * len(groups)
    count = len(groups)
    while count < max_atoms:
        gain, best, to = max(
            _best_step(group, at, index) for index, (group, at) in enumerate(zip(groups, levels, strict=True))
        )
        if gain < _NEGLIGIBLE:
            break
        to = min(to, levels[best] + max_atoms - count)
        count += to - levels[best]
        levels[best] = to
    return Atoms(groups, levels)


def _best_step(group: Group, at: int, index: int) -> tuple[float, int, int]:
    """Power explained an atom by the best way up from level ``at``, the group's index, the level."""
    errors = [error for error, _ in group.choices]
    steps = [(group.power * (errors[at] - errors[to]) / (to - at), index, to) for to in range(at + 1, len(errors))]
    return max(steps, default=(0.0, index, at))


def _ladder(target: Tensor, dictionary: Tensor) -> list[tuple[float, list[int]]]:
    """Error (of one) and choice with 1, 2, ... candidates: orthogonal matching pursuit from no offset."""
    picks, ladder = [0], []
    while True:
        chosen = dictionary[picks].T
        rest = target - chosen @ torch.linalg.lstsq(chosen, target[:, None]).solution[:, 0]
        error = float(rest.abs().square().mean())
        ladder.append((error, list(picks)))
        if len(picks) >= min(16, len(dictionary)) or error < 1e-4:
            return ladder
        score = (dictionary.conj() @ rest).abs()
        score[picks] = 0
        picks.append(int(score.argmax()))


def _windows(sources: Sources, index: int, y: Tensor, grid: Grid) -> Tensor:
    """Middles ``[V, d]`` on a lattice fine enough for the phase limit."""
    lower, upper = y.min(0).values, y.max(0).values
    one = sources.paths[index : index + 1]
    for count in range(1, 9):
        axes = [
            a + (b - a) * (torch.arange(count, dtype=y.dtype, device=y.device) + 0.5) / count
            for a, b in zip(lower, upper, strict=True)
        ]
        middles = torch.cartesian_prod(*axes).reshape(-1, y.shape[1])
        nearest = torch.cdist(y, middles).argmin(1)
        worst = 0.0
        for window, middle in enumerate(middles):
            members = y[nearest == window]
            if len(members):
                moved = one.moved(middle)
                length = moved.fields(members - middle)[0][:, 0]
                left = length - moved.distance - (members - middle) @ moved.direction[0]
                worst = max(worst, float(grid.wavenumber * left.abs().max()))
        if worst <= _PHASE_LIMIT:
            break
    return middles


def window_values(middles: Tensor, y: Tensor) -> Tensor:
    """Smooth partition of unity ``[n, V]``."""
    if len(middles) == 1:
        return torch.ones(len(y), 1, dtype=y.dtype, device=y.device)
    pitch = torch.cdist(middles, middles).fill_diagonal_(float("inf")).min()
    bumps = torch.exp(-torch.cdist(y, middles).square() / (2 * (0.45 * pitch) ** 2))
    values: Tensor = bumps / bumps.sum(1, keepdim=True).clamp(min=1e-30)
    return values


def targets(sources: Sources, atoms: Atoms, y: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """At positions ``y``: lengths ``[n, D]``, slopes ``[n, D, r]``, weights ``[n, D]``; directions ``[D, d]``."""
    slope_offsets, length_offsets, dictionary = offset_candidates(grid)
    length, slopes = sources.paths.fields(y)
    gains = sources.weights(y)
    all_lengths, all_slopes, weights, directions = [], [], [], []
    for group, picks in atoms:
        index, window, middles = group.source, group.window, group.middles
        moved = sources.paths[index : index + 1].moved(middles[window])
        direction = moved.direction[0]
        phase = grid.wavenumber * (length[:, index] - y @ direction)
        share = gains[:, index] * window_values(middles, y)[:, window] * turn(phase)
        if len(picks) > 1:
            solver = torch.linalg.pinv(dictionary[picks].T)
            mix = torch.cat([planar_error(sources, index, part, grid) @ solver.T for part in torch.split(y, 256)])
        else:
            mix = torch.ones(len(y), 1, device=y.device)
        weights.append(share[:, None] * mix)
        all_lengths.append(length[:, index, None] + length_offsets[picks])
        all_slopes.append(slopes[:, index, None] + slope_offsets[picks])
        directions.append(direction.expand(len(picks), -1))
    return torch.cat(all_lengths, 1), torch.cat(all_slopes, 1), torch.cat(weights, 1), torch.cat(directions)


def build(
    sources: Sources,
    y: Tensor,
    grid: Grid,
    geometry: Geometry,
    widths: Widths,
    max_atoms: int,
    seed: int,
    bandwidth: float,
) -> PlanarNetwork:
    """The network whose layers reproduce the sources' fields; ``y`` about the middle of the region.

    ``bandwidth`` is that of the weight network's random features.
    """
    atoms = plan_atoms(sources, y, grid, max_atoms)
    points = torch.cat([y, _lattice(y)])
    lengths, slopes, weights, directions = targets(sources, atoms, points, grid)
    full = _completed(directions.cpu().numpy(), geometry)
    network = PlanarNetwork(geometry, full, widths).to(y.device)
    generator = torch.Generator().manual_seed(seed)
    # About the origin instead of the middle: the file's location phase is exp(-j k u.(x - origin)).
    weights = weights * turn(-(torch.tensor(geometry.region.middle, device=y.device) @ network.waves.mT))
    scaled = (points / network.half_extent).to(torch.float32)
    for mlp, bends in ((network.delay, 1.0), (network.antenna, 1.0), (network.weight, bandwidth)):
        mlp.randomize(generator, bends)
    _fit_last(network.delay, scaled, lengths, 1e-7)
    _fit_last(network.antenna, scaled, slopes.flatten(1), 1e-7)
    network.scale.fill_(float(weights.abs().max()) * len(full))
    _fit_last(network.weight, scaled, invert_weights(weights / network.scale), 1e-6)
    return network


def invert_weights(weights: Tensor) -> Tensor:
    """``z`` with ``z * softmax(|z|) = weights``: ``|z| e^|z| = |weights| S``, ``S = sum e^|z|`` by fixed point."""
    size = weights.abs().to(torch.float64)
    magnitude = torch.zeros_like(size)
    for _ in range(30):
        right = size * torch.exp(magnitude).sum(1, keepdim=True)
        for _ in range(4):  # Newton for Lambert's W
            grown = torch.exp(magnitude)
            magnitude = magnitude - (magnitude * grown - right) / (grown * (1 + magnitude))
        magnitude = magnitude.clamp(0, 20)
    return weights * (magnitude / size.clamp(min=1e-300)).to(weights.dtype)


def _fit_last(mlp: Mlp, scaled: Tensor, values: Tensor, ridge: float) -> None:
    """Ridge regression of the last layer, in double precision."""
    mlp.whiten(scaled, _WHITENING)
    with torch.no_grad():
        features = mlp.features(scaled) @ mlp.mix
        dtype = torch.complex128 if features.is_complex() else torch.float64
        features = torch.cat([features, torch.ones(len(features), 1, device=features.device)], 1).to(dtype)
        gram = features.mH @ features
        gram = gram + ridge * gram.diagonal().real.mean() * torch.eye(len(gram), dtype=dtype, device=gram.device)
        solution = torch.linalg.solve(gram, features.mH @ values.to(dtype))
        mlp.weights[-1].copy_(solution[:-1].T)
        mlp.biases[-1].copy_(solution[-1])


def _lattice(y: Tensor) -> Tensor:
    lower, upper = y.min(0).values, y.max(0).values
    count = {1: 200, 2: 40, 3: 12}[y.shape[1]]
    axes = [
        torch.linspace(float(a), float(b), count, dtype=y.dtype, device=y.device)
        for a, b in zip(lower, upper, strict=True)
    ]
    return torch.cartesian_prod(*axes).reshape(-1, y.shape[1])


def _completed(directions: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """Unit vectors in the scene whose projection on the search space is ``directions``."""
    basis = geometry.region.basis
    normal = np.linalg.svd(basis)[2][-1]
    inside = directions @ basis
    if len(basis) == 3:
        unit: NDArray[np.float64] = inside / np.linalg.norm(inside, axis=1, keepdims=True)
        return unit
    off = np.sqrt(np.maximum(0.0, 1 - np.sum(inside**2, axis=1)))
    full = inside + off[:, None] * normal
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    return np.asarray(full, dtype=np.float64)
