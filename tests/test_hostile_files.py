# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's corpus, one file at a time: sound models answer, malformed ones are refused with a reason."""

from __future__ import annotations

import resource

import numpy as np
import pytest

import wavefix as wfx
from hostile_files import malformed_files, sound_models
from spherical_models import random_spherical_model

MALFORMED = malformed_files()
SOUND = {name: file.data for name, file in sound_models().items()}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_answers(name: str) -> None:
    model = wfx.ChannelModel.from_bytes(SOUND[name])
    channels, jacobian = model.synthesize(np.vstack([model.region.origin, model.region.origin + 1]), jacobian=True)
    assert np.isfinite(channels).all()
    assert np.isfinite(jacobian).all()
    assert np.abs(channels).max() > 0


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused(name: str) -> None:
    with pytest.raises(wfx.ModelFormatError) as raised:
        wfx.ChannelModel.from_bytes(MALFORMED[name])
    assert len(str(raised.value)) > 20  # says where and what


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_is_refused_when_truncated_at_any_byte(name: str) -> None:
    data = SOUND[name]
    accepted = []
    for length in range(len(data)):
        try:
            wfx.ChannelModel.from_bytes(data[:length])
            accepted.append(length)
        except wfx.ModelFormatError:
            pass
    assert not accepted


def spherical_with_region(half: float, **options: int) -> bytes:
    file = random_spherical_model(2, sources=3, gates=False, **options)
    file.tensors["region.lower"], file.tensors["region.upper"] = np.full(2, -half), np.full(2, half)
    return file.data


@pytest.mark.parametrize("half", [1e3, 1e6, 1e9])
def test_a_huge_region_makes_no_huge_plan(half: float) -> None:
    model = wfx.ChannelModel.from_bytes(spherical_with_region(half))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    localizer = wfx.Localizer(model)
    fixes = localizer.locate(model.synthesize([model.region.origin]))
    assert np.isfinite(fixes.position).all()
    assert localizer.nbytes(1) < 64 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10  # KiB on Linux
    if half > 1e4:
        with pytest.raises(wfx.ShapeError, match="a grid of at most"):
            wfx.Localizer(model, "off_grid_pi_ps")


def test_what_cannot_be_planned_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(wfx.ModelFormatError, match=r"region\.lower: expected at most 1e9 m"):
        wfx.ChannelModel.from_bytes(spherical_with_region(1e10))
    model = wfx.ChannelModel.from_bytes(spherical_with_region(1e8, antennas=1, subcarriers=20000))
    with pytest.raises(wfx.Error, match="4096 delays by 20000 subcarriers is more than is supported"):
        wfx.Localizer(model)
