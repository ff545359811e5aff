# SPDX-License-Identifier: Apache-2.0
"""Channels of a scene of flat walls, written straight from docs/equations.md (1), (8), (9): slow and obvious.

A scene here is a plain dict: ``walls`` (list of corners [m, 3]), ``materials`` (list of (relative permittivity,
conductivity, thickness)), ``antennas`` [A, 3], ``carrier``, ``frequencies`` [K], ``max_bounces``.
"""

from itertools import pairwise, product

import numpy as np

C = 299792458.0
EPS0 = 8.8541878128e-12
UP = np.array([0.0, 0.0, 1.0])


def scene_of(scene):
    """The plain dict of a ``wavefix.Scene``."""
    materials = [scene.materials[wall.material] for wall in scene.walls]
    return {
        "walls": [np.array(wall.corners) for wall in scene.walls],
        "materials": [(m.relative_permittivity, m.conductivity, m.thickness or 0.0) for m in materials],
        "antennas": scene.antenna_positions,
        "carrier": scene.carrier,
        "frequencies": scene.carrier
        + (np.arange(scene.subcarriers) - (scene.subcarriers - 1) / 2) * scene.bandwidth / scene.subcarriers,
        "max_bounces": scene.max_bounces,
    }


def normal_of(corners):
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    return normal / np.linalg.norm(normal)


def mirror(point, corners):
    normal = normal_of(corners)
    return point - 2 * np.dot(point - corners[0], normal) * normal


def hit(a, b, corners):
    """Fraction of the segment a, b at which it crosses the polygon, or None."""
    normal = normal_of(corners)
    from_, to = np.dot(a - corners[0], normal), np.dot(b - corners[0], normal)
    if from_ * to >= 0:
        return None
    fraction = from_ / (from_ - to)
    point = a + fraction * (b - a)
    turns = [
        np.dot(np.cross(q - p, point - p), normal) for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    return fraction if min(turns) >= 0 or max(turns) <= 0 else None


def fresnel(material, frequency, cosine):
    """(8): (r_te, r_tm, q) of the half-space, and the phase q of one passage of the slab."""
    permittivity, conductivity, thickness = material
    eta = permittivity - 1j * conductivity / (2 * np.pi * frequency * EPS0)
    root = np.sqrt(eta - (1 - cosine**2))
    q = 2 * np.pi * frequency / C * thickness * root
    return (cosine - root) / (cosine + root), (eta * cosine - root) / (eta * cosine + root), q


def reflection(material, frequency, cosine):
    te, tm, q = fresnel(material, frequency, cosine)
    if material[2] == 0:
        return te, tm
    return tuple(r * (1 - np.exp(-2j * q)) / (1 - r**2 * np.exp(-2j * q)) for r in (te, tm))


def transmission(material, frequency, cosine):
    te, tm, q = fresnel(material, frequency, cosine)
    skipped = np.exp(2j * np.pi * frequency / C * material[2] * cosine)
    return tuple((1 - r**2) * np.exp(-1j * q) / (1 - r**2 * np.exp(-2j * q)) * skipped for r in (te, tm))


def interact(field, incoming, outgoing, normal, te, tm):
    """The field after a wall: its parts across and in the plane of incidence, each times its coefficient."""
    across = np.cross(incoming, normal)
    across /= np.linalg.norm(across)
    before, after = np.cross(across, incoming), np.cross(across, outgoing)
    return te * np.dot(field, across) * across + tm * np.dot(field, before) * after


def route(scene, antenna, user, sequence):
    """antenna, reflection points, user; None where a point is off its wall."""
    images = [antenna]
    for wall in sequence:
        images.append(mirror(images[-1], scene["walls"][wall]))
    points = [user]
    for wall, image in zip(reversed(sequence), reversed(images), strict=False):
        fraction = hit(image, points[0], scene["walls"][wall])
        if fraction is None:
            return None, None
        points.insert(0, image + fraction * (points[0] - image))
    return [antenna, *points], images[-1]


def gain(scene, antenna, user, sequence):
    """(virtual source, gamma) of one path, or None where it does not exist."""
    points, source = route(scene, antenna, user, sequence)
    if points is None:
        return None
    carrier = scene["carrier"]
    field = None
    for leg, (a, b) in enumerate(pairwise(points)):
        direction = (b - a) / np.linalg.norm(b - a)
        if field is None:
            field = UP - np.dot(UP, direction) * direction + 0j
        ends = {sequence[leg - 1] if leg > 0 else None, sequence[leg] if leg < len(sequence) else None}
        crossed = []
        for wall, corners in enumerate(scene["walls"]):
            fraction = None if wall in ends else hit(a, b, corners)
            if fraction is not None and 1e-9 < fraction < 1 - 1e-9:
                if scene["materials"][wall][2] == 0:
                    return None
                crossed.append((fraction, wall))
        for _, wall in sorted(crossed):
            normal = normal_of(scene["walls"][wall])
            coefficients = transmission(scene["materials"][wall], carrier, abs(np.dot(direction, normal)))
            field = interact(field, direction, direction, normal, *coefficients)
        if leg < len(sequence):
            normal = normal_of(scene["walls"][sequence[leg]])
            coefficients = reflection(scene["materials"][sequence[leg]], carrier, abs(np.dot(direction, normal)))
            outgoing = direction - 2 * np.dot(direction, normal) * normal
            field = interact(field, direction, outgoing, normal, *coefficients)
    return source, C / carrier / (4 * np.pi) * np.dot(UP, field)


def sequences(scene):
    walls = range(len(scene["walls"]))
    for order in range(scene["max_bounces"] + 1):
        for sequence in product(walls, repeat=order):
            if all(a != b for a, b in pairwise(sequence)):
                yield sequence


def channels(scene, positions):
    """[n, antennas, subcarriers] complex128 and the line-of-sight flags [n]."""
    H = np.zeros((len(positions), len(scene["antennas"]), len(scene["frequencies"])), dtype=np.complex128)
    seen = np.zeros((len(positions), len(scene["antennas"])), dtype=bool)
    for i, user in enumerate(positions):
        for j, antenna in enumerate(scene["antennas"]):
            for sequence in sequences(scene):
                found = gain(scene, antenna, user, sequence)
                if found is not None:
                    source, gamma = found
                    d = np.linalg.norm(user - source)
                    H[i, j] += gamma * np.exp(-2j * np.pi * scene["frequencies"] * d / C) / d
            seen[i, j] = all(hit(antenna, user, corners) is None for corners in scene["walls"])
    return H, 2 * seen.sum(axis=1) >= seen.shape[1]
