# SPDX-License-Identifier: Apache-2.0
"""Small random models of virtual sources and their files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from factories import LIGHT, METADATA, ModelFile

ARRAYS = ("line", "plane", "spread")


def random_spherical_model(
    seed: int = 0,
    *,
    antennas: int = 8,
    subcarriers: int = 8,
    sources: int = 4,
    degree: int = 2,
    dimension: int = 2,
    array: str = "line",
    gates: bool = True,
    equispaced: bool = True,
    center_frequency: float = 3.5e9,
    bandwidth: float = 50e6,
) -> ModelFile:
    """A model of kind ``spherical`` whose sources lie 10 to 40 m away.

    With ``gates``, every other source is seen in some leaves of a tree of half-space splits. Each split passes near
    the region and blurs over 0.1 to 1 m, so that leaves are open, closed and in between for some antennas and
    positions.
    """
    rng = np.random.default_rng(seed)
    origin = rng.uniform(-20, 20, 3)
    offsets = _offsets(rng, antennas, array, LIGHT / center_frequency)
    positions = origin + 25 * _unit(rng.standard_normal(3)) + offsets
    center = origin + rng.uniform(10, 40, (sources, 1)) * _unit(rng.standard_normal((sources, 3)))
    step = (
        np.arange(subcarriers) - (subcarriers - 1) / 2 if equispaced else np.sort(rng.uniform(-0.5, 0.5, subcarriers))
    )
    count = (degree + 1) * (degree + 2) // 2
    tensors: dict[str, NDArray[Any]] = {
        "antenna_positions": positions,
        "frequencies": center_frequency + bandwidth * (step / subcarriers if equispaced else step),
        "region.origin": origin,
        "region.basis": np.linalg.qr(rng.standard_normal((3, 3)))[0][:dimension],
        "region.lower": -rng.uniform(1, 3, dimension),
        "region.upper": rng.uniform(1, 3, dimension),
        "validation_nmse": np.array([1e-5]),
        "source_positions": center,
        "source_rotations": np.array([np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(sources)]),
        "gain_variables": rng.standard_normal((sources, 2, 4)) / 2,
        "gain_coefficients": rng.standard_normal((sources, count, 2)).astype(np.float32),
    }
    if gates:
        tensors |= _gates(rng, tensors)
    metadata = {**METADATA, "kind": "spherical"}
    del metadata["activation"]
    return ModelFile(tensors, metadata)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _offsets(rng: np.random.Generator, n: int, array: str, wavelength: float) -> NDArray[np.float64]:
    if array == "spread":  # a distributed array, meters apart
        return rng.uniform(-4, 4, (n, 3))
    frame = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    index = np.arange(n)
    columns = [index] if array == "line" else [index % 4, index // 4]
    return wavelength / 2 * np.stack(columns, axis=1) @ frame[: len(columns)]


def _gates(rng: np.random.Generator, tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    lines: list[NDArray[np.float64]] = []
    line_cell: list[int] = []
    cell_source: list[int] = []
    for source in range(0, len(tensors["source_positions"]), 2):
        center = tensors["source_positions"][source] - tensors["region.origin"]
        leaves = split_tree(rng, center, int(rng.integers(1, 4)))
        for leaf in leaves[: rng.integers(1, len(leaves))]:  # on in at least one, off in at least one
            lines += leaf
            line_cell += [len(cell_source)] * len(leaf)
            cell_source.append(source)
    return {
        "gate_lines": np.array(lines),
        "gate_line_cell": np.array(line_cell, np.int32),
        "gate_cell_source": np.array(cell_source, np.int32),
    }


def split_tree(rng: np.random.Generator, center: NDArray[np.float64], splits: int) -> list[list[NDArray[np.float64]]]:
    """Leaves, in random order, of a tree of ``splits`` half-spaces for a source at ``center`` from the origin."""
    leaves: list[list[NDArray[np.float64]]] = [[]]
    ray = -_unit(center)
    for _ in range(splits):
        # an edge halfway to the source: a point on it and its direction, relative to the region's origin
        point = -5 * ray + rng.uniform(-0.5, 0.5, 3)
        direction = _unit(np.cross(ray, rng.standard_normal(3)))
        line = rng.uniform(1, 10) / 5.0 * np.concatenate((np.cross(point, direction), direction))
        leaf = leaves.pop(int(rng.integers(len(leaves))))
        leaves += [[*leaf, line], [*leaf, -line]]
    return [leaves[index] for index in rng.permutation(len(leaves))]
