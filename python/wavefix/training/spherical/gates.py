# SPDX-License-Identifier: Apache-2.0
"""Learn a source's visibility: a tree of half-spaces of straight edges, grown one edge at a time; (3) and (19)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavefix.training.spherical.state import Floats, Gate, Measured, Source

_ANGLES = 24
_SHIFTS = (0.0, 0.15, 0.5, 1.5, 4.0)  # how far a boundary moves in the zone when the source moves, as a ratio
_BINS = 96
_WIDTH = 0.04  # of a new edge, as a part of the zone's half extent
_TRIALS = 4
_STARTS = 6000  # samples that trials are compared on


@dataclass(frozen=True, eq=False)
class Target:
    """What the gate should be: ``wanted [s]`` with ``weight [s]``, where the logits' ``features [s, 6]`` are."""

    features: Floats
    wanted: Floats
    weight: Floats

    def cost(self, gate: Gate) -> float:
        return float(self.weight @ (self.wanted - gate.values(self.features)) ** 2)

    def part(self, rows: NDArray[np.intp]) -> Target:
        return Target(self.features[rows], self.wanted[rows], self.weight[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """A straight boundary: ``normal . (x + shift * arm) = offset``, and the child of the leaf that changes."""

    leaf: tuple[tuple[int, int], ...]
    lit: bool  # whether the leaf is lit now
    normal: Floats
    offset: float
    shift: float
    above: bool  # the side that changes
    gain: float


def target_of(source: Source, measured: Measured, projected: NDArray[np.complex64]) -> Target:
    """Least squares target of the gate given ``projected``, the residual plus the source itself, turned back (19)."""
    wave = source.amplitudes(measured, gated=False)
    tones = len(measured.frequencies)
    power = np.abs(wave) ** 2
    wanted = np.real(wave.conj() * projected) / np.maximum(power * tones, 1e-30)
    return Target(source.features(measured).reshape(-1, 6), wanted.reshape(-1), (tones * power).reshape(-1))


def grow(
    source: Source,
    measured: Measured,
    target: Target,
    least_gain: float,
    most_lines: int,
    seed: int = 0,
) -> Gate:
    """The source's gate refined, and split while an edge explains ``least_gain`` more energy."""
    rng = np.random.default_rng(seed)
    gate, cost = settle(source.gate, target, 6)
    count = len(target.wanted)
    few = np.sort(rng.choice(count, min(count, _STARTS), replace=False))
    sample = target.part(few)
    share = len(few) / count
    while len(gate.lines) < most_lines:
        best: tuple[float, Gate] | None = None
        for split in best_splits(gate, source, measured, target, least_gain):
            trial, trial_cost = settle(with_edge(gate, split, source, measured), sample, 5)
            if best is None or trial_cost < best[0]:
                best = trial_cost, trial
        if best is None or sample.cost(gate) - best[0] < 0.5 * share * least_gain:
            break
        trial, trial_cost = settle(best[1], target, 8)
        if cost - trial_cost < least_gain:
            break
        gate, cost = trial, trial_cost
    return gate


def best_splits(gate: Gate, source: Source, measured: Measured, target: Target, least_gain: float) -> list[Split]:
    """The most promising boundaries of each leaf, lit or dark, found by exhaustive search over straight lines."""
    arms = source.arms(measured.offsets) - source.position
    plane = _plane(measured.positions)
    places = measured.positions @ plane.T
    moves = arms @ plane.T
    present = gate.values(target.features)
    error = target.wanted - present
    out: list[Split] = []
    for leaf, lit in all_leaves(gate):
        value = Gate(gate.lines, (leaf,)).values(target.features)
        change = -value if lit else value
        gain = target.weight * (error**2 - (error - change) ** 2)
        if np.sum(np.maximum(gain, 0)) < least_gain:
            continue
        found = []
        for angle, shift in itertools.product(range(_ANGLES), _SHIFTS):
            normal = _normal(angle, len(plane))
            along = ((places @ normal)[:, None] + shift * (moves @ normal)).reshape(-1)
            low, high = along.min(), along.max()
            if high - low < 1e-6:
                continue
            bins = np.minimum(((along - low) * (_BINS / (high - low))).astype(np.intp), _BINS - 1)
            sums = np.cumsum(np.bincount(bins, gain, _BINS))
            below, above = int(np.argmax(sums)), int(np.argmin(sums))
            for at, value_, side in ((below, sums[below], False), (above, sums[-1] - sums[above], True)):
                if value_ > least_gain:
                    edge = low + (at + 1) * (high - low) / _BINS
                    found.append(Split(leaf, lit, normal @ plane, edge, shift, side, float(value_)))
        found.sort(key=lambda split: -split.gain)
        for split in found:
            if sum(kept.leaf == leaf for kept in out) >= _TRIALS:
                break
            if not any(_alike(split, kept) for kept in out):
                out.append(split)
    out.sort(key=lambda split: -split.gain)
    return out[: 2 * _TRIALS]


def _alike(a: Split, b: Split) -> bool:
    return a.leaf == b.leaf and a.shift == b.shift and abs(float(a.normal @ b.normal)) >= 0.95


def all_leaves(gate: Gate) -> list[tuple[tuple[tuple[int, int], ...], bool]]:
    """Every leaf of the tree, with whether it is lit."""
    lit = set(gate.leaves)
    out = []
    stack: list[tuple[tuple[int, int], ...]] = [()]
    splits = {}  # prefix -> line, from the lit leaves; siblings without lit descendants are dark leaves
    for leaf in gate.leaves:
        for depth, (line, _) in enumerate(leaf):
            splits[leaf[:depth]] = line
    while stack:
        prefix = stack.pop()
        if prefix in splits:
            stack += [(*prefix, (splits[prefix], sign)) for sign in (1, -1)]
        else:
            out.append((prefix, prefix in lit))
    return out


def with_edge(gate: Gate, split: Split, source: Source, measured: Measured) -> Gate:
    """The tree with the leaf split along the boundary, as an edge that is there for the array's middle."""
    line = edge_line(split, source, measured)
    number = len(gate.lines)
    inside = 1 if split.above else -1
    leaves = [leaf for leaf in gate.leaves if leaf != split.leaf]
    kept = -inside if split.lit else inside
    leaves.append((*split.leaf, (number, kept)))
    return Gate(np.vstack([gate.lines, line]), tuple(leaves))


def edge_line(split: Split, source: Source, measured: Measured) -> Floats:
    """``[6]``: moment and direction of the edge whose shadow the boundary is, positive above it.

    A source that moves by ``a`` moves a shadow by ``-a (1 - t) / t``; the edge lies at ``t`` of the way to the user.
    """
    plane = _plane(measured.positions)
    foot = measured.positions.mean(axis=0)
    foot = foot + (split.offset - foot @ split.normal) * split.normal
    along = plane[0] - (plane[0] @ split.normal) * split.normal
    if len(plane) > 1 and np.linalg.norm(along) < 0.5:
        along = plane[1] - (plane[1] @ split.normal) * split.normal
    if len(plane) == 1:
        along = np.cross(split.normal, foot - source.position)
    along = along / np.linalg.norm(along)
    between = 1 / (1 + split.shift)
    point = source.position + between * (foot - source.position)
    line = np.concatenate([np.cross(point, along), along])
    half = 0.5 * float(np.max(np.ptp(measured.positions, axis=0)))
    step = foot + _WIDTH * half * split.normal
    scale = (step - source.position) @ line[:3] - np.cross(step, source.position) @ line[3:]
    if abs(scale) < 1e-12:  # the ray lies in the boundary's plane
        scale = 1e-12
    out: Floats = line / scale
    return out


def settle(gate: Gate, target: Target, iterations: int) -> tuple[Gate, float]:
    """Levenberg-Marquardt on all lines of the gate."""
    cost = target.cost(gate)
    if gate.trivial:
        return gate, cost
    # features along their principal axes: those of a plane of users and a line of antennas span less than six
    gram = (target.features * target.weight[:, None]).T @ target.features / max(float(target.weight.sum()), 1e-300)
    size = np.sqrt(np.maximum(np.diag(gram), 1e-18 * np.trace(gram)))
    values, axes = np.linalg.eigh(gram / np.outer(size, size))
    kept = values > 1e-12 * values[-1]
    whiten = axes[:, kept] / np.sqrt(values[kept]) / size[:, None]
    seen = target.features @ whiten
    lines = gate.lines * size @ axes[:, kept] * np.sqrt(values[kept])
    white = Target(seen, target.wanted, target.weight)
    damping, system = 1e-3, None
    for _ in range(iterations):
        if system is None:
            system = _gate_equations(Gate(lines, gate.leaves), white)
        matrix, gradient = system
        if not np.trace(matrix) > 0:  # no sample lies on any edge
            break
        damped = matrix + np.diag(damping * np.diag(matrix) + 1e-9 * np.trace(matrix) / len(matrix))
        trial = lines + np.linalg.solve(damped, gradient).reshape(lines.shape)
        largest = np.max(np.abs(seen @ trial.T), axis=0)
        trial = trial * np.minimum(1.0, 600.0 / np.maximum(largest, 1e-300))[:, None]
        trial_cost = white.cost(Gate(trial, gate.leaves))
        if trial_cost < cost:
            gained = cost - trial_cost
            lines, cost, system, damping = trial, trial_cost, None, max(damping / 10, 1e-8)
            if gained < 1e-4 * cost:
                break
        else:
            damping *= 10
            if damping > 1e4:
                break
    return replace(gate, lines=lines @ whiten.T), cost


def _gate_equations(gate: Gate, target: Target) -> tuple[Floats, Floats]:
    logits = target.features @ gate.lines.T
    half = np.tanh(np.clip(0.5 * logits, -20, 20))
    rates = np.zeros_like(logits)
    total = np.zeros(len(logits))
    for leaf, value in zip(gate.leaves, gate.leaf_values(target.features), strict=True):
        total += value
        for line, sign in leaf:
            rates[:, line] += sign * value * (0.5 - 0.5 * sign * half[:, line])
    near = np.flatnonzero(np.max(np.abs(rates), axis=1) > 1e-4)
    error = (target.wanted - total)[near]
    slopes = (rates[near, :, None] * target.features[near, None, :]).reshape(len(near), gate.lines.size)
    weighted = slopes * target.weight[near, None]
    return weighted.T @ slopes, weighted.T @ error


def _plane(positions: Floats) -> Floats:
    """``[d, 3]``: orthonormal axes of the zone, at most two or three of them."""
    centered = positions - positions.mean(axis=0)
    _, singular, rows = np.linalg.svd(centered, full_matrices=False)
    return np.asarray(rows[: max(1, int(np.count_nonzero(singular > 1e-3 * singular[0])))])


def _normal(index: int, dimension: int) -> Floats:
    if dimension == 1:
        return np.ones(1)
    if dimension == 2:
        angle = np.pi * index / _ANGLES
        return np.array([np.cos(angle), np.sin(angle)])
    height = (index + 0.5) / _ANGLES  # a spiral over the half sphere
    angle = index * np.pi * (3 - np.sqrt(5))
    wide = np.sqrt(1 - height**2)
    return np.array([wide * np.cos(angle), wide * np.sin(angle), height])
