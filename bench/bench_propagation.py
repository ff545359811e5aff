# SPDX-License-Identifier: Apache-2.0
"""simulate: the C++ image method against the same sums vectorized in NumPy over users and antennas."""

import os
from itertools import pairwise, product

import numpy as np
import pytest

import wavefix as wfx
from wavefix.propagation import Scene

FULL = os.environ.get("WAVEFIX_BENCH") == "full"
USERS = 60 if FULL else 4
C = 299792458.0
EPS0 = 8.8541878128e-12


class NumpyScene:
    """One array operation for all (user, antenna) pairs of a wall sequence; opaque walls only."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.walls = [np.array(wall.corners) for wall in scene.walls]
        self.normals = [np.cross(w[1] - w[0], w[2] - w[0]) for w in self.walls]
        self.normals = [n / np.linalg.norm(n) for n in self.normals]
        self.materials = [scene.materials[wall.material] for wall in scene.walls]

    def hit(self, wall, a, b):
        """Whether and where segments a, b cross a wall."""
        corners, normal = self.walls[wall], self.normals[wall]
        from_, to = (a - corners[0]) @ normal, (b - corners[0]) @ normal
        fraction = np.where(from_ * to < 0, from_ / (from_ - to), 0)
        point = a + fraction[..., None] * (b - a)
        inside = from_ * to < 0
        for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            inside &= (point - p) @ np.cross(normal, q - p) >= 0
        return inside & (fraction > 1e-9) & (fraction < 1 - 1e-9), point

    def reflect(self, wall, field, direction):
        normal, material = self.normals[wall], self.materials[wall]
        cosine = np.abs(direction @ normal)
        sigma = material.conductivity / (2 * np.pi * self.scene.carrier * EPS0)
        eta = material.relative_permittivity - 1j * sigma
        root = np.sqrt(eta - 1 + cosine**2)
        te, tm = (cosine - root) / (cosine + root), (eta * cosine - root) / (eta * cosine + root)
        across = np.cross(direction, normal)
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        part = np.sum(across * field, axis=-1, keepdims=True) * across
        total = te[..., None] * part - tm[..., None] * (field - part)
        return total - 2 * (total @ normal)[..., None] * normal

    def path(self, sequence, users):
        """Gains [n, antennas], 0 where the path is blocked, and distances."""
        image = self.scene.antenna_positions
        images = []
        for wall in sequence:
            image = image - 2 * ((image - self.walls[wall][0]) @ self.normals[wall])[:, None] * self.normals[wall]
            images.append(image)
        points = [np.broadcast_to(users[:, None], (len(users), len(image), 3))]
        visible = np.ones(points[0].shape[:2], dtype=bool)
        for wall, source in zip(sequence[::-1], images[::-1], strict=True):
            inside, point = self.hit(wall, np.broadcast_to(source, points[0].shape), points[0])
            visible &= inside
            points.insert(0, point)
        if not visible.any():
            return None, None
        points.insert(0, np.broadcast_to(self.scene.antenna_positions, points[0].shape))
        field = None
        for leg, (a, b) in enumerate(pairwise(points)):
            direction = (b - a) / np.linalg.norm(b - a, axis=-1, keepdims=True)
            if field is None:
                field = np.array([0, 0, 1]) - direction[..., 2:] * direction
            for wall in set(range(len(self.walls))) - set(sequence[max(leg - 1, 0) : leg + 1]):
                visible &= ~self.hit(wall, a, b)[0]
            if leg < len(sequence):
                field = self.reflect(sequence[leg], field, direction)
        distance = np.linalg.norm(users[:, None] - (images[-1] if images else image), axis=-1)
        gain = np.where(visible, C / self.scene.carrier / (4 * np.pi) * field[..., 2], 0)
        return gain, distance

    def channels(self, users):
        out = np.zeros((len(users), len(self.scene.antenna_positions), self.scene.subcarriers), dtype=np.complex128)
        for order in range(self.scene.max_bounces + 1):
            for sequence in product(range(len(self.walls)), repeat=order):
                if any(a == b for a, b in pairwise(sequence)):
                    continue
                with np.errstate(divide="ignore", invalid="ignore"):  # pairs that have no such path
                    gain, d = self.path(sequence, users)
                if gain is not None and gain.any():
                    out += (gain / d)[..., None] * np.exp(-2j * np.pi * d[..., None] / C * self.scene.frequencies)
        return out.astype(np.complex64)


@pytest.fixture(scope="module", params=["plaza", "canyon"] if FULL else ["plaza"])
def case(request):
    scene = Scene.named(request.param)
    users = scene.sample(USERS, 1)
    return scene, users, NumpyScene(scene).channels(users)


def agree(got, expected):
    assert np.linalg.norm(got - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("threads", [1, 0], ids=["one thread", "all threads"])
def test_simulate_wavefix(benchmark, case, threads):
    scene, users, expected = case
    benchmark.group = f"simulate {scene.name}, {USERS} locations, 64 x 64"
    agree(benchmark(lambda: wfx.simulate(scene, positions=users, threads=threads).channels), expected)


def test_simulate_numpy(benchmark, case):
    scene, users, expected = case
    benchmark.group = f"simulate {scene.name}, {USERS} locations, 64 x 64"
    agree(benchmark.pedantic(NumpyScene(scene).channels, args=(users,), rounds=2 if FULL else 1), expected)
