# SPDX-License-Identifier: Apache-2.0
"""Locate: the paper's strategies end to end, errors asserted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plane_waves import WAVELENGTH, add_noise, plane_wave_model, random_positions
from wavefix import STRATEGIES, Localizer


@pytest.mark.benchmark(group="locate")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_wavefix(benchmark: Any, strategy: str) -> None:
    model = plane_wave_model(0, antennas=16, subcarriers=32, waves=12)
    truth = random_positions(model, 20)
    channels = add_noise(model.synthesize(truth), 20.0)
    fixes = benchmark(Localizer(model, strategy).locate, channels)
    assert np.median(np.linalg.norm(fixes.position - truth, axis=1)) < 0.2 * WAVELENGTH
