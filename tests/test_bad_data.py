# SPDX-License-Identifier: Apache-2.0
"""Training data that cannot be learned, or not wholly: an error that says why, or fixes whose status is honest."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import wavefix as wfx

pytest.importorskip("torch")

from test_fit_spherical import CARRIER, GAINS, TRUE, C, array_of, nmse_db, places, scene, turns, with_channels

ROUNDS = {"max_rounds": 3, "progress": False}


def fitted(data: wfx.ChannelDataset) -> wfx.ChannelModel | str:
    """A model, or why there is none."""
    try:
        return wfx.fit(data, **ROUNDS)
    except wfx.DataError as error:
        return str(error)


def require_honest(model: wfx.ChannelModel, test: wfx.ChannelDataset) -> NDArray[np.float64]:
    """The errors of the fixes; one that is in a wrong minimum is not ``OK``."""
    fixes = wfx.Localizer(model).locate(test.channels)
    error = np.linalg.norm(fixes.position - test.known_positions(), axis=1)
    assert not np.any((error > 0.03) & (fixes.status == wfx.Status.OK))
    return error


def test_too_few_locations_are_refused() -> None:
    with pytest.raises(wfx.DataError, match="at least 16 distinct locations, got 15"):
        wfx.fit(scene(15, 0), **ROUNDS)


@pytest.mark.parametrize("n", [16, 24])
def test_few_locations_give_an_honest_model_or_none(n: int) -> None:
    model, test = fitted(scene(n, 0)), scene(60, 9)
    if isinstance(model, str):
        assert "no virtual source explains them" in model
        return
    error = require_honest(model, test)
    # two held-out locations say what the model is worth to some decibels
    assert abs(10 * np.log10(model.validation_nmse) - nmse_db(model, test)) < 15
    assert model.validation_nmse < 1e-3 or np.mean(error > 0.03) > 0.1


def test_locations_on_a_line_make_a_model_of_the_line() -> None:
    model = wfx.fit(scene(150, 0, "line"), **ROUNDS)
    assert len(model.region.lower) == 1
    assert require_honest(model, scene(40, 9, "line")).max() < 1e-5  # float32 and the fit's last digits


def test_one_path_fixes_a_position_where_there_is_no_noise() -> None:
    model, test = wfx.fit(scene(120, 0, sources=1), **ROUNDS), scene(40, 9, sources=1)
    assert require_honest(model, test).max() < 1e-4
    # one path's carrier repeats every wavelength; 50 MHz and 0 dB tell ranges to a meter
    noisy = wfx.Localizer(model).locate(test.with_noise(0.0).channels)
    wrong = np.linalg.norm(noisy.position - test.known_positions(), axis=1) > 0.03
    assert wrong.mean() > 0.2
    assert not np.any(wrong & (noisy.status == wfx.Status.OK))


def beyond(n: int, seed: int) -> wfx.ChannelDataset:
    """As ``scene``, but the first source is more than c / (frequency spacing) away, the second twice that."""
    positions, antennas = places(n, seed), array_of("linear")
    frequencies = CARRIER + np.linspace(-25e6, 25e6, 16)
    unambiguous = C / (frequencies[1] - frequencies[0])
    channels = np.zeros((n, 8, 16), complex)
    for source, gain, turn, times in zip(TRUE, GAINS, turns(3), (1, 2, 0), strict=True):
        ray = source - [1.0, 2.0, 1.5]
        longer = 1 + times * unambiguous / np.linalg.norm(ray)
        at = [1.0, 2.0, 1.5] + longer * ray + (antennas - antennas.mean(axis=0)) @ turn.T
        distance = np.linalg.norm(positions[:, None] - at[None], axis=-1)
        wave = longer * gain / distance
        channels += wave[..., None] * np.exp(-2j * np.pi * frequencies * distance[..., None] / C)
    return wfx.ChannelDataset(channels.astype(np.complex64), antennas, frequencies, positions)


def test_paths_beyond_the_unambiguous_range_are_found() -> None:
    model, test = wfx.fit(beyond(260, 0), **ROUNDS), beyond(60, 9)
    assert nmse_db(model, test) < -40
    assert require_honest(model, test).max() < 1e-3


def normalized(data: wfx.ChannelDataset, what: str) -> wfx.ChannelDataset:
    channels = data.channels.astype(np.complex128)
    if what == "the sum's phase":
        channels *= np.exp(-1j * np.angle(channels.sum(axis=(1, 2), keepdims=True)))
    elif what == "phases at random":
        channels *= np.exp(2j * np.pi * np.random.default_rng(0).uniform(size=(len(channels), 1, 1)))
    else:  # the delay of the first path, whose carrier phase stays
        delay = np.linalg.norm(data.known_positions() - TRUE[0], axis=1) / C
        channels *= np.exp(2j * np.pi * (data.frequencies - data.reference_frequency) * delay[:, None, None])
    return with_channels(data, channels.astype(np.complex64))


@pytest.mark.parametrize("what", ["the sum's phase", "phases at random", "delays, not carrier phases"])
def test_what_is_normalized_per_location_makes_no_silently_wrong_model(what: str) -> None:
    model = fitted(normalized(scene(120, 0), what))
    if isinstance(model, str):
        assert "normalized per location" in model
        return
    assert what == "delays, not carrier phases"  # which a model of displaced sources explains in part
    assert model.validation_nmse > 1e-3
    require_honest(model, normalized(scene(60, 9), what))
