# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's corpus, one file at a time: sound models answer, malformed ones are refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest

import wavefix as wfx
from hostile_files import malformed_files, sound_models

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
