# SPDX-License-Identifier: Apache-2.0
"""``float_fix`` with models of kind ``planar``, whose gains bend between nodes."""

from __future__ import annotations

import numpy as np
import pytest

from known_maps import WAVELENGTH
from plane_waves import add_noise, plane_wave_model
from proof import CHANCE, band, errors, prove, users
from wavefix import Localizer, Status


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_planar_models_on_a_line_on_a_plane_and_in_a_volume(dimension: int) -> None:
    extent = {1: 12.0, 2: 12.0, 3: 4.0}[dimension]
    model = plane_wave_model(2, dimension=dimension, antennas=12, subcarriers=16, waves=10, extent=extent)
    truth = users(model, 30)
    clean = model.synthesize(truth)
    exact = Localizer(model).locate(clean)
    assert errors(exact, truth).max() < 1e-4 * WAVELENGTH
    assert np.all(exact.status == Status.OK)
    channels = add_noise(clean, 15.0, seed=1)
    proof = prove(model, channels, Localizer(model).locate(channels), truth, 15.0)
    low, high = band(dimension, 30, CHANCE)
    assert low < proof.nees < high
    assert proof.wrong == proof.failed == 0


def test_weights_that_change_fast_are_followed_between_the_nodes() -> None:
    # with nodes as far apart as constant weights allow, a third of these fixes are wrong
    model = plane_wave_model(3, antennas=12, subcarriers=16, waves=10, rough=True)
    truth = users(model, 60)
    channels = add_noise(model.synthesize(truth), 15.0, seed=1)
    proof = prove(model, channels, Localizer(model).locate(channels), truth, 15.0)
    low, high = band(2, 60, CHANCE)
    assert low < proof.nees < high
    assert proof.wrong == proof.failed == 0


@pytest.mark.parametrize("snr_db", [None, 15.0])
@pytest.mark.parametrize("waves", [1, 2, 3])
def test_few_waves_of_a_planar_model_are_honest(waves: int, snr_db: float | None) -> None:
    model = plane_wave_model(1, waves=waves, antennas=12, subcarriers=16, extent=8.0)
    truth = users(model, 40)
    clean = model.synthesize(truth)
    fixes = Localizer(model).locate(clean if snr_db is None else add_noise(clean, snr_db, seed=1))
    wrong = errors(fixes, truth) > WAVELENGTH / 4
    assert not np.any(wrong & (fixes.status == Status.OK))
    # the place along the front of a single wave is not determined; two waves tell it, where noise is low
    assert np.isnan(fixes.covariance).any() == (waves == 1)
    assert wrong.mean() < (0.1 if waves == 3 or (waves == 2 and snr_db is None) else 1.1)


def test_a_scene_that_repeats_is_ambiguous() -> None:
    # Waves to and fro along one axis, so that half a wavelength further everything looks the same but the delays.
    model = plane_wave_model(0, twins=True, dimension=1, waves=8)
    fixes = Localizer(model).locate(add_noise(model.synthesize(users(model, 40)), 0.0))
    assert np.all(fixes.ambiguity > 0.5)
    inside = fixes.status != Status.OUTSIDE_REGION
    assert inside.sum() > 20
    assert np.mean(fixes.status[inside] == Status.AMBIGUOUS) > 0.9
