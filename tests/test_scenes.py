# SPDX-License-Identifier: Apache-2.0
"""The whole chain on shipped scenes, with and without line of sight: simulate, fit, locate, against the bound."""

from __future__ import annotations

import numpy as np
import pytest

import wavefix as wfx

pytest.importorskip("torch")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plaza", "canyon"])
def test_fixes_are_sub_wavelength_and_reach_the_bound(name: str) -> None:
    scene = wfx.Scene.named(name).with_(antennas=32, subcarriers=32, region_size=2.0)
    train, test = wfx.simulate(scene, n=600, seed=0), wfx.simulate(scene, n=150, seed=1)
    model = wfx.fit(train, max_rounds=8, progress=False)
    localizer = wfx.Localizer(model)
    clean = wfx.evaluate(model, test, localizers={"default": localizer})
    noisy = wfx.evaluate(model, test, localizers={"default": localizer}, snr_db=10.0)
    # Measured: plaza -33.0 dB, 0.0057 cm, 1.01 times the bound; canyon -32.1 dB, 0.0093 cm, 1.03 times.
    assert clean.channel.nmse_db < -20.0
    assert clean.methods[0].summary.median < 2e-4
    assert clean.methods[0].summary.wrong_fix_rate < 0.02
    assert noisy.methods[0].summary.wrong_fix_rate < 0.02
    assert noisy.methods[0].rmse_to_bound is not None
    assert noisy.methods[0].rmse_to_bound < 1.2
    fixes = localizer.locate(test.channels)
    wrong = np.linalg.norm(fixes.position - test.known_positions(), axis=1) > 0.03
    assert not np.any(fixes.status[wrong] == wfx.Status.OK)
