# SPDX-License-Identifier: Apache-2.0
"""Learn a source's visibility: a tree of half-spaces of straight edges, grown one edge at a time; (3) and (19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix.training.spherical.state import Floats, Gate, Measured, Source, add, sample_energies


def grow(
    source: Source,
    measured: Measured,
    projected: NDArray[np.complex64],
    least_gain: float,
    most_lines: int,
    number_worth: float = 0.0,
) -> Gate:
    """The gate that explains ``projected [n, A]`` best, the residual plus the source itself, turned back (19); an edge
    stays that explains ``least_gain`` more energy, of the kind whose numbers explain ``number_worth`` samples each.
    Grown from the gate that the source has."""
    wave = source.amplitudes(measured, gated=False).astype(np.complex128)
    return _grown_for(wave, projected, source, measured, source.gate, least_gain, most_lines, number_worth)


def grow_together(sources: Sequence[Source], whole: Measured, least_gain: float, most_lines: int) -> Gate:
    """One gate for all of ``sources``, from nothing, with which they explain ``whole`` best: edges at which the shadows
    of the first two, each seen from its own place, are the same."""
    wave = whole.with_channels(np.zeros_like(whole.channels))
    add([replace(source, gate=Gate()) for source in sources], wave)
    product = np.einsum("njk,njk->nj", wave.channels.conj(), whole.channels).real
    power = sample_energies(wave.channels).astype(np.float64)
    return _grown(sources[:2], whole, product, power, Gate(), least_gain, most_lines)


def grow_between(
    pair: Sequence[Source],
    measured: Measured,
    projected: NDArray[np.complex64],
    seen: NDArray[np.bool_],
    gate: Gate,
    least_gain: float,
    most_lines: int,
) -> Gate:
    """Grown from ``gate``: open where the first of two sources at one place explains ``projected`` better, which is as
    for ``grow``, dark where the second one does; told by the samples ``seen [n, A]``."""
    first, second = (one.amplitudes(measured, gated=False).astype(np.complex128) for one in pair)
    rest = projected - len(measured.frequencies) * second
    return _grown_for(np.where(seen, first - second, 0.0), rest, pair[0], measured, gate, least_gain, most_lines)


def worth(source: Source, measured: Measured) -> float:
    """The energy of a sample of mean weight, of those that see the source; (19)."""
    wave, seen = source.amplitudes(measured, gated=False), source.gate_values(measured) > 0.5
    return len(measured.frequencies) * float(np.mean(np.abs(wave[seen]) ** 2)) if seen.any() else 0.0


def edge_distances(source: Source, measured: Measured) -> Floats:
    """``[n]``: meters to the nearest shadow boundary of any of the antennas, along the zone's steepest way there: of a
    line where the gate differs on its two sides."""
    arms, out = source.arms(measured.offsets), np.full(len(measured.positions), np.inf)
    for number, line in enumerate(source.gate.lines, 1):
        below, above = (
            replace(source, gate=source.gate.with_side(side * number)).gate_values(measured) for side in (-1, 1)
        )
        moment, direction = line[:3], line[3:]
        across = moment + np.cross(direction, measured.positions)
        logits = (measured.positions @ moment)[:, None] - across @ arms.T
        slopes = np.linalg.norm(moment - np.cross(arms, direction), axis=1)
        distances = np.abs(logits) / np.maximum(slopes, 1e-30)
        out = np.minimum(out, np.min(np.where(np.abs(above - below) > 0.5, distances, np.inf), axis=1))
    return out


def _grown_for(
    wave: NDArray[np.complex128],
    projected: NDArray[np.complexfloating],
    source: Source,
    measured: Measured,
    gate: Gate,
    least_gain: float,
    most_lines: int,
    number_worth: float = 0.0,
) -> Gate:
    """For the amplitudes ``wave [n, A]`` from the source's place."""
    power = len(measured.frequencies) * np.abs(wave) ** 2
    product = np.real(wave.conj() * projected)
    return _grown([source], measured, product, power, gate, least_gain, most_lines, number_worth)


def _grown(
    sources: Sequence[Source],
    measured: Measured,
    product: NDArray[np.floating],
    power: NDArray[np.floating],
    gate: Gate,
    least_gain: float,
    most_lines: int,
    number_worth: float = 0.0,
) -> Gate:
    """``product``, ``power``: of the sources' wave with what it is to explain, and its own, summed over the
    subcarriers; each source has an equal part. Their antennas are the antennas of one array for the core."""
    place = sources[0].position
    arms = np.concatenate([source.arms(measured.offsets) for source in sources]) - place
    wanted = np.clip(product / np.maximum(power, 1e-30), -1e6, 1e6).astype(np.float32)
    parts = len(sources)
    lines, leaves = _core.source_grow_gate(
        measured.positions,
        arms,
        measured.frequencies,
        place,
        np.eye(3),
        gate.lines.tolist(),
        [list(leaf) for leaf in gate.leaves],
        np.tile(wanted, (1, parts)),
        np.tile((power / parts).astype(np.float32), (1, parts)),
        least_gain,
        most_lines,
        number_worth,
    )
    return Gate(np.array(lines, float).reshape(-1, 6), tuple(tuple(leaf) for leaf in leaves))
