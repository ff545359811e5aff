# SPDX-License-Identifier: Apache-2.0
"""``python -m wavefix.selftest`` passes on a sound copy, needs no torch, and fails where the copy computes wrongly."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import wavefix
from wavefix import selftest


def test_it_passes_within_ten_seconds_and_without_torch() -> None:
    program = (
        "import sys, wavefix.selftest as s; code = s.main();"
        "sys.exit(code or any(name == 'torch' or name.startswith('torch.') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *checks, last = done.stdout.splitlines()
    assert len(checks) == 8
    assert all(line.startswith("ok  ") for line in checks)
    assert float(re.findall(r"passed, ([\d.]+) s", last)[0]) < 10


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (wavefix.ChannelModel, "synthesize", lambda right: lambda *a, **k: _scaled(right(*a, **k))),
        (wavefix.Localizer, "locate", lambda right: lambda self, channels, **k: right(self, channels[::-1], **k)),
        (wavefix, "simulate", lambda right: lambda *a, **k: _with_channels(right(*a, **k))),
        (wavefix.Fixes, "load", lambda right: lambda path: right(f"{path}x")),
        (wavefix, "__version__", lambda right: "0.0.0"),
    ],
)
def test_it_fails_where_something_is_wrong(where, name, broken, monkeypatch, capsys) -> None:
    monkeypatch.setattr(where, name, broken(getattr(where, name)))
    assert selftest.main() == 1
    assert "FAILED" in capsys.readouterr().out


def _scaled(result):
    return tuple(np.float32(1.0002) * part for part in result) if isinstance(result, tuple) else 1.0002 * result


def _with_channels(data):
    return wavefix.ChannelDataset(data.channels * 1j, data.antenna_positions, data.frequencies, data.positions)
