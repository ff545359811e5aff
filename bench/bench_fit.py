# SPDX-License-Identifier: Apache-2.0
"""How long a small fit takes, and what it reaches; the generic networks in the same group reach nothing."""

from __future__ import annotations

import os

import numpy as np
import pytest

import wavefix as wfx

FULL = os.environ.get("WAVEFIX_BENCH") == "full"
C = 299792458.0


def small_scene(n: int, seed: int) -> wfx.ChannelDataset:
    """Three virtual sources seen from a zone of 1.5 m by 1.5 m by a 16-antenna array in 16 tones."""
    generator = np.random.default_rng(seed)
    positions = np.concatenate([generator.uniform(-0.75, 0.75, (n, 2)), np.full((n, 1), 1.5)], 1)
    frequencies = 3.5e9 + np.linspace(-25e6, 25e6, 16)
    offsets = np.arange(16)[:, None] * (0.5 * C / 3.5e9) * np.array([[0.0, 1.0, 0.0]])
    total: np.ndarray = np.zeros((n, 16, 16), dtype=np.complex128)
    for source, gain in (((-30, 40, 12), 1.0), ((55, 25, 9), 0.5), ((20, -60, 4), 0.3j)):
        distance = np.linalg.norm(positions[:, None] - (np.array(source) + offsets), axis=-1)[..., None]
        total += gain * np.exp(-2j * np.pi * frequencies * distance / C) / distance
    return wfx.ChannelDataset(total.astype(np.complex64), offsets + np.array([-30, 40, 12]), frequencies, positions)


@pytest.mark.benchmark(group="fit")
@pytest.mark.parametrize(("kind", "worst"), [("spherical", -50.0), ("planar", -20.0), ("mlp", 1.0), ("rff", 1.0)])
def test_fit(benchmark, kind: str, worst: float) -> None:
    data, test = small_scene(400, 0), small_scene(100, 1)
    budget = {"max_rounds": 4} if kind == "spherical" else {"epochs": 20 if FULL else 2}
    model = benchmark.pedantic(wfx.fit, (data,), {"kind": kind, **budget}, rounds=1)
    error = np.sum(np.abs(model.synthesize(test.positions) - test.channels) ** 2) / np.sum(np.abs(test.channels) ** 2)
    benchmark.extra_info["nmse_db"] = float(10 * np.log10(error))
    assert 10 * np.log10(error) < worst
