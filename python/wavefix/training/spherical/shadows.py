# SPDX-License-Identifier: Apache-2.0
"""Paths that go on behind what blocks them, weaker: through a partition, say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wavefix.training.spherical.concurrent import for_each
from wavefix.training.spherical.state import Floats, Measured, Source, project

_LEAST_SHARE = 0.05  # of the residual where a copy is seen; those that are no paths explain 0.5 to 2 % of it


def shadow(source: Source, left: Measured, energies: Floats) -> tuple[Source, float]:
    """A copy of ``source`` that is seen where it is not, with the one complex factor of its gain that explains most of
    the residual ``left``, whose ``energies`` are ``[n, A]``, and the energy by which it does; 0 where that is little of
    what is left there."""
    copy = replace(source, gate=source.gate.complement)
    if copy.gate.dark:
        return copy, 0.0
    wave = copy.amplitudes(left).astype(np.complex128)
    power = len(left.frequencies) * float(np.sum(np.abs(wave) ** 2))
    if not power > 0:
        return copy, 0.0
    product = np.sum(wave.conj() * project(copy, left))
    gain = float(np.abs(product) ** 2 / power)
    there = float(np.sum(energies * copy.gate_values(left) ** 2))
    scaled = replace(copy, coefficients=product / power * copy.coefficients)
    return scaled, gain if gain > _LEAST_SHARE * there else 0.0


def shadows(sources: list[Source], left: Measured, least_gain: float) -> list[tuple[float, int, Source]]:
    """What of ``sources`` goes on where they are not seen and explains ``least_gain`` of the energy ``left``, best
    first: that energy, the source's number, and its copy there."""
    energies: Floats = np.sum(np.abs(left.channels) ** 2, axis=2, dtype=np.float64)
    found = for_each(lambda source, _: shadow(source, left, energies), sources, np.random.default_rng(0))
    worthwhile = [(gain, i, copy) for i, (copy, gain) in enumerate(found) if gain > least_gain]
    return sorted(worthwhile, key=lambda one: -one[0])
