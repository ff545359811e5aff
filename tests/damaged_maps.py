# SPDX-License-Identifier: Apache-2.0
"""A deep street whose paths all come from one side and are mostly partial: as it is, and as a fit would learn it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from known_maps import CARRIER, WAVELENGTH
from wavefix import ChannelModel
from wavefix.region import Region
from wavefix.spherical import SphericalParameters

Vector = NDArray[np.float64]
ORIGIN = np.array([12.0, 2.0, 1.5])
TOWARD = np.array([-0.864, -0.504, 0.0])  # where most paths come from


@dataclass(frozen=True)
class Edge:
    """A half-space, relative to the region's origin: its face passes ``point`` and an edge a share of the way there."""

    point: Vector
    share: float
    direction: Vector
    sharpness: float  # of the logit, per meter

    def line(self, source: Vector) -> Vector:
        at = self.point + self.share * (source - self.point)
        slope = np.linalg.norm(np.cross(self.direction, at - source))
        return self.sharpness / slope * np.concatenate((np.cross(at, self.direction), self.direction))


Leaf = tuple[tuple[int, int], ...]  # edges and the side of each


@dataclass(frozen=True)
class Map:
    array: Vector
    frequencies: Vector
    size: float
    positions: Vector  # of the sources
    rotations: Vector
    gains: NDArray[np.complex128]  # [L, 6]
    edges: tuple[Edge, ...]
    leaves: tuple[tuple[Leaf, ...], ...]  # of each source, none: seen everywhere

    def model(self, validation_nmse: float = 1e-8) -> ChannelModel:
        lines: list[Vector] = []
        cells: list[int] = []
        owners: list[int] = []
        for source, leaves in enumerate(self.leaves):
            for leaf in leaves:
                lines += [side * self.edges[edge].line(self.positions[source] - ORIGIN) for edge, side in leaf]
                cells += [len(owners)] * len(leaf)
                owners.append(source)
        half = np.full(2, self.size / 2)
        toward = ORIGIN - self.positions
        distance = np.linalg.norm(toward, axis=1)
        across = np.cross(toward, [0.0, 0.0, 1.0])
        up = np.cross(toward, across)
        variables = np.zeros((len(distance), 2, 4))  # about -1 to 1 over the region
        for row, axis in enumerate((across, up)):
            unit = axis / np.linalg.norm(axis, axis=1, keepdims=True)
            variables[:, row, :3] = unit * (distance / (0.7 * self.size))[:, None]
        return ChannelModel.from_bytes(
            SphericalParameters(
                antenna_positions=self.array,
                frequencies=self.frequencies,
                region=Region(origin=ORIGIN, basis=np.eye(3)[:2], lower=-half, upper=half),
                source_positions=self.positions,
                source_rotations=self.rotations,
                gain_variables=variables,
                gain_coefficients=np.stack((self.gains.real, self.gains.imag), axis=-1).astype(np.float32),
                validation_nmse=validation_nmse,
                gate_lines=np.array(lines),
                gate_line_cell=np.array(cells, np.int32),
                gate_cell_source=np.array(owners, np.int32),
            ).to_bytes()
        )


def deep_street(
    seed: int = 0, *, antennas: int = 32, subcarriers: int = 64, size: float = 5.0, sources: int = 24
) -> Map:
    """Sources 70 to 260 m away within some 12 degrees, one in twelve on the other side, 24 dB between them."""
    rng = np.random.default_rng(seed)
    index = np.arange(antennas) - (antennas - 1) / 2
    edges: list[Edge] = []
    positions, rotations, gains, leaves = [], [], [], []
    for _ in range(sources):
        turn = np.deg2rad(rng.normal(0, 12)) + np.pi * (rng.uniform() < 1 / 12)
        c, s = np.cos(turn), np.sin(turn)
        away = rng.uniform(70, 260) * np.array([[c, -s, 0], [s, c, 0], [0, 0, 0]]) @ TOWARD
        positions.append(ORIGIN + away + [0.0, 0.0, rng.choice((20.0, -20.0)) - 1.5])
        mirror = np.diag([rng.choice((-1.0, 1.0)), rng.choice((-1.0, 1.0)), 1.0])
        rotations.append(mirror if rng.uniform() < 0.5 else mirror[[1, 0, 2]])
        gain = 10 ** (-rng.uniform(0, 24) / 20) * np.linalg.norm(away) * np.exp(2j * np.pi * rng.uniform())
        slopes = 0.1 * (rng.standard_normal(5) + 1j * rng.standard_normal(5)) * [1, 1, 0.1, 0.1, 0.1]
        gains.append(gain * np.append(1.0, slopes))
        tree: list[Leaf] = [()]
        for _ in range(rng.integers(1, 3) if rng.uniform() < 0.85 else 0):
            upright = rng.uniform() < 0.75
            direction = np.array([0.0, 0.0, 1.0]) if upright else np.array([TOWARD[1], -TOWARD[0], 0.0])
            point = np.append(rng.uniform(-0.45, 0.45, 2) * size, 0.0)
            edges.append(Edge(point, rng.uniform(0.05, 0.6), direction, 400.0))
            leaf = tree.pop(int(rng.integers(len(tree))))
            tree += [(*leaf, (len(edges) - 1, 1)), (*leaf, (len(edges) - 1, -1))]
        on = 1 if rng.uniform() < 0.5 else max(1, len(tree) - 1)
        leaves.append(tuple(tree[i] for i in rng.permutation(len(tree))[:on] if tree[i]))
    return Map(
        array=np.array([-60.0, -40.0, 20.0]) + np.outer(index, [0.0, WAVELENGTH / 2, 0.0]),
        frequencies=CARRIER + 50e6 * (np.arange(subcarriers) - (subcarriers - 1) / 2) / subcarriers,
        size=size,
        positions=np.array(positions),
        rotations=np.array(rotations),
        gains=np.array(gains),
        edges=tuple(edges),
        leaves=tuple(leaves),
    )


def damaged(truth: Map, *, geometry: float = 1.0, edges: float = 1.0, seed: int = 0) -> Map:
    """Sources off by 0.3 mm across and less along, because a fit keeps the phase, gains by 1 per mille, edges by up to
    8 mm and blurred, the weakest sources lost."""
    rng = np.random.default_rng([seed, 1])
    toward = truth.positions - ORIGIN
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    shift = 3e-4 * geometry * rng.standard_normal(toward.shape)
    shift -= 0.97 * np.sum(shift * toward, axis=1, keepdims=True) * toward
    noise = rng.standard_normal(truth.gains.shape) + 1j * rng.standard_normal(truth.gains.shape)
    gains = truth.gains + 1e-3 * geometry * np.abs(truth.gains[:, :1]) * noise * [1, 1, 1, 0.3, 0.3, 0.3]
    moved = []
    for edge in truth.edges:
        step = np.append(rng.standard_normal(2), 0.0)
        step *= edges * rng.uniform(0.002, 0.008) / np.linalg.norm(step)
        moved.append(replace(edge, point=edge.point + step, sharpness=400.0 / (1 + rng.uniform(0, 2))))
    power = np.abs(gains[:, 0]) ** 2 / np.sum((truth.positions - ORIGIN) ** 2, axis=1)
    order = np.argsort(power)
    kept = np.sort(order[np.cumsum(power[order]) > 1e-4 * power.sum()])
    return replace(
        truth,
        positions=(truth.positions + shift)[kept],
        rotations=truth.rotations[kept],
        gains=gains[kept],
        edges=tuple(moved),
        leaves=tuple(truth.leaves[source] for source in kept),
    )


def blocked(truth: Map, positions: Vector, share: float, seed: int = 0) -> NDArray[np.complex64]:
    """Channels of which each path is blocked with a chance of ``share``, at each position anew."""
    count = len(truth.gains)
    seen = np.random.default_rng([seed, 2]).uniform(size=(count, len(positions))) > share
    channels = np.zeros((len(positions), len(truth.array), len(truth.frequencies)), np.complex64)
    for path in range(count):
        alone = replace(truth, gains=truth.gains * (np.arange(count) == path)[:, None])
        channels += seen[path, :, None, None] * alone.model().synthesize(positions)
    return channels


def twinned(truth: Map, strongest: int, seed: int = 0) -> Map:
    """The strongest sources as pairs that nearly cancel, not lit alike, which is what fits make of a path and its
    mirror image."""
    rng = np.random.default_rng([seed, 3])
    which = np.argsort(-np.abs(truth.gains[:, 0]))[:strongest]
    gains = truth.gains.copy()
    gains[which] *= 5.0
    shift = rng.standard_normal((strongest, 3))
    shift *= 0.3 / np.linalg.norm(shift, axis=1, keepdims=True)
    part = tuple(truth.leaves[i] if rng.uniform() < 0.5 else truth.leaves[i][:1] for i in which)
    return replace(
        truth,
        positions=np.vstack((truth.positions, truth.positions[which] + shift)),
        rotations=np.concatenate((truth.rotations, truth.rotations[which])),
        gains=np.vstack((gains, -4.0 * truth.gains[which])),
        leaves=truth.leaves + part,
    )


def learned(truth: Map, positions: Vector, **damage: float) -> ChannelModel:
    """The damaged model with its error (10) over ``positions`` as validation error."""
    channels = truth.model().synthesize(positions).astype(np.complex128)
    wrong = damaged(truth, **damage)
    error = np.sum(np.abs(wrong.model().synthesize(positions) - channels) ** 2)
    return wrong.model(float(error / np.sum(np.abs(channels) ** 2)))
