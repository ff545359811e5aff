# SPDX-License-Identifier: Apache-2.0
"""The hall of these examples, and a model of it that is written down instead of learned: no training, no torch.

``python hall.py hall.safetensors`` writes the model. Walls that are seen as a whole give paths without edges, so each
path is one virtual source (docs/equations.md, (9)) with a smooth gain, which a polynomial of the direction holds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import wavefix as wfx
from wavefix.propagation import LinearArray, Material, UserRegion, Wall
from wavefix.region import Region
from wavefix.spherical import SphericalParameters, gain_terms

DEGREE = 4
SCENE = wfx.Scene(  # simulator.cpp describes the same hall
    array=LinearArray(antennas=16, center=(0.5, 6.0, 3.5), axis=(0.0, 1.0, 0.0)),
    region=UserRegion(center=(9.0, 5.0, 1.5), size=(1.2, 1.2, 0.0)),
    materials={"concrete": Material(5.24, 0.123), "brick": Material(3.91, 0.0238)},
    walls=(
        Wall(((0, 0, 0), (20, 0, 0), (20, 12, 0), (0, 12, 0)), "concrete", "floor"),
        Wall(((0, 0, 0), (20, 0, 0), (20, 0, 6), (0, 0, 6)), "brick", "south"),
        Wall(((20, 0, 0), (20, 12, 0), (20, 12, 6), (20, 0, 6)), "concrete", "east"),
        Wall(((20, 12, 0), (0, 12, 0), (0, 12, 6), (20, 12, 6)), "brick", "north"),
    ),
    subcarriers=16,
    bandwidth=80e6,
    max_bounces=1,
    name="hall",
)


def source_tensors(scene: wfx.Scene, positions: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Position, rotation, gain variables and gain coefficients of each path, from what ``trace`` says."""
    seen = [{path.walls: path for path in scene.paths(x)} for x in positions]
    if any(set(paths) != set(seen[0]) for paths in seen):
        raise ValueError("a path ends within the region: this scene needs gates")
    antennas = scene.antenna_positions
    axis = (antennas[-1] - antennas[0]) / np.linalg.norm(antennas[-1] - antennas[0])
    offsets = (antennas - antennas.mean(axis=0)) @ axis
    found: dict[str, list[NDArray[np.float64]]] = {
        "positions": [],
        "rotations": [],
        "variables": [],
        "coefficients": [],
    }
    for walls, path in seen[0].items():
        middle = path.sources.mean(axis=0)
        turned = offsets @ (path.sources - middle) / (offsets @ offsets)  # the array's axis at the virtual source
        rays = positions[:, None] - path.sources
        directions = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).reshape(-1, 3)
        gains = np.concatenate([paths[walls].gains for paths in seen])
        center = directions.mean(axis=0)
        axes = np.linalg.svd(directions - center, full_matrices=False)[2][
            :2
        ]  # the directions lie on a patch of a sphere
        scale = 1 / np.abs((directions - center) @ axes.T).max(axis=0)
        variables = np.c_[scale[:, None] * axes, -scale * (axes @ center)]
        v = np.c_[directions, np.ones(len(directions))] @ variables.T
        terms = np.stack([v[:, 0] ** a * v[:, 1] ** b for a, b in gain_terms(DEGREE)], axis=1)
        coefficients = np.linalg.lstsq(terms, gains, rcond=None)[0]
        found["positions"].append(middle)
        found["rotations"].append(np.outer(turned, axis))
        found["variables"].append(variables)
        found["coefficients"].append(np.stack([coefficients.real, coefficients.imag], axis=-1))
    return {name: np.array(values) for name, values in found.items()}


def hall_model(scene: wfx.Scene = SCENE) -> wfx.ChannelModel:
    """The model, with the error (10) that it has at positions that it was not made from."""
    tensors = source_tensors(scene, scene.sample(200, seed=0))
    center, size = np.array(scene.region.center), np.array(scene.region.size)
    region = Region(center, np.eye(3)[size > 0], -size[size > 0] / 2, size[size > 0] / 2)
    test = wfx.simulate(scene, 100, seed=1)
    nmse = 0.0
    for _ in range(2):  # first without the error, which is measured then
        parameters = SphericalParameters(
            antenna_positions=scene.antenna_positions,
            frequencies=scene.frequencies,
            region=region,
            source_positions=tensors["positions"],
            source_rotations=tensors["rotations"],
            gain_variables=tensors["variables"],
            gain_coefficients=tensors["coefficients"].astype(np.float32),
            validation_nmse=nmse,
        )
        model = wfx.ChannelModel.from_bytes(parameters.to_bytes())
        error = model.synthesize(test.known_positions()) - test.channels
        nmse = float(np.sum(np.abs(error) ** 2) / np.sum(np.abs(test.channels) ** 2))
    return model


def main() -> int:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "hall.safetensors")
    model = hall_model()
    model.save(path)
    decibels = 10 * np.log10(model.validation_nmse)
    print(f"{path}: {model.n_atoms} paths, {path.stat().st_size} bytes, channel error {decibels:.1f} dB")
    return 0 if decibels < -50 else 1


if __name__ == "__main__":
    sys.exit(main())
