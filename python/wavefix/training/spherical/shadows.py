# SPDX-License-Identifier: Apache-2.0
"""Paths that go on behind what blocks them, weaker: through a partition, say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wavefix.training.spherical.concurrent import for_each
from wavefix.training.spherical.state import Measured, Source, project


def shadow(source: Source, left: Measured) -> tuple[Source, float]:
    """A copy of ``source`` that is seen where it is not, with the one complex factor of its gain that explains most of
    the residual ``left``, and the energy by which it does."""
    copy = replace(source, gate=source.gate.complement)
    if copy.gate.dark:
        return copy, 0.0
    wave = copy.amplitudes(left).astype(np.complex128)
    power = len(left.frequencies) * float(np.sum(np.abs(wave) ** 2))
    if not power > 0:
        return copy, 0.0
    product = np.sum(wave.conj() * project(copy, left))
    return replace(copy, coefficients=product / power * copy.coefficients), float(np.abs(product) ** 2 / power)


def shadows(sources: list[Source], left: Measured, least_gain: float) -> list[tuple[float, int, Source]]:
    """What of ``sources`` goes on where they are not seen and explains ``least_gain`` of the energy ``left``, best
    first: that energy, the source's number, and its copy there."""
    found = for_each(lambda source, _: shadow(source, left), sources, np.random.default_rng(0))
    worthwhile = [(gain, i, copy) for i, (copy, gain) in enumerate(found) if gain > least_gain]
    return sorted(worthwhile, key=lambda one: -one[0])
