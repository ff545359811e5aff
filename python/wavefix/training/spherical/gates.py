# SPDX-License-Identifier: Apache-2.0
"""Learn a source's visibility: a tree of half-spaces of straight edges, grown one edge at a time; (3) and (19)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix.training.spherical.state import Gate, Measured, Source


def grow(
    source: Source,
    measured: Measured,
    projected: NDArray[np.complex64],
    least_gain: float,
    most_lines: int,
    anew: bool = True,
) -> Gate:
    """The gate that explains ``projected [n, A]`` best, the residual plus the source itself, turned back (19); an edge
    stays that explains ``least_gain`` more energy. ``anew``: beside the gate that it has, one is grown from nothing."""
    wave = source.amplitudes(measured, gated=False).astype(np.complex128)
    tones = len(measured.frequencies)
    power = np.abs(wave) ** 2
    wanted = np.real(wave.conj() * projected) / np.maximum(power * tones, 1e-30)
    lines, leaves = _core.source_grow_gate(
        *measured.geometry,
        source.position,
        source.rotation,
        source.gate.lines.tolist(),
        [list(leaf) for leaf in source.gate.leaves],
        np.clip(wanted, -1e6, 1e6).astype(np.float32),
        (tones * power).astype(np.float32),
        least_gain,
        most_lines,
        anew=anew,
    )
    return Gate(np.array(lines, float).reshape(-1, 6), tuple(tuple(leaf) for leaf in leaves))
