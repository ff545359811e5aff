# SPDX-License-Identifier: Apache-2.0
"""Every long call hears Ctrl-C within a second, wherever in it: not once is the time between two looks for a signal as
long, on arrays that are large in whatever makes the call slow."""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

import wavefix as wfx
from plane_waves import plane_wave_model, random_positions
from spherical_models import random_spherical_model

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that sends signals here")
FEW, MANY = 0.5, 15.0  # seconds of a call that are watched: the first stages, and what comes later


class Listening:
    """A timer's signals come all the time; notes the longest that one was not heard, and at the end presses Ctrl-C.

    What counts is the time that passed or what the process computed in it, whichever is less: other programs lengthen
    the first and several threads the second."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.longest = 0.0

    def clocks(self) -> tuple[float, float]:
        return time.monotonic(), time.process_time()

    def __enter__(self) -> Listening:
        self.before = signal.signal(signal.SIGALRM, self.heard)
        self.last = self.clocks()
        self.end = self.last[0] + self.seconds
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        return self

    def heard(self, number: int = 0, frame: FrameType | None = None) -> None:
        now = self.clocks()
        self.longest = max(self.longest, min(now[0] - self.last[0], now[1] - self.last[1]))
        self.last = now
        if frame is not None and now[0] > self.end:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)
        self.heard()


@functools.cache
def model(kind: str, antennas: int = 8, subcarriers: int = 12, half: float = 1.0, sources: int = 6) -> wfx.ChannelModel:
    if kind == "planar":
        return plane_wave_model(0, antennas=antennas, subcarriers=subcarriers, waves=sources, extent=2 * half)
    file = random_spherical_model(0, antennas=antennas, subcarriers=subcarriers, sources=sources, gates=False)
    file.tensors["region.lower"], file.tensors["region.upper"] = np.full(2, -half), np.full(2, half)
    return wfx.ChannelModel.from_bytes(file.data)


@functools.cache
def data(kind: str, n: int, antennas: int = 8, subcarriers: int = 12) -> wfx.ChannelDataset:
    made = model(kind, antennas, subcarriers)
    positions = random_positions(made, n)
    return wfx.ChannelDataset(made.synthesize(positions), made.antenna_positions, made.frequencies, positions)


def wide(kind: str, n: int = 2) -> tuple[wfx.ChannelModel, wfx.ChannelDataset]:
    """Channels of half a million numbers."""
    return model(kind, 512, 1024), data(kind, n, 512, 1024)


def locate(kind: str, strategy: str) -> None:
    made, queries = wide(kind)
    wfx.Localizer(made, strategy).locate(queries.channels, threads=2)


def locate_one(threads: int) -> None:
    localizer = wfx.Localizer(model("planar"), candidate_radius=90.0, max_candidates=10**7)
    localizer.locate(data("planar", 2).channels[:threads], threads=threads)


def fingerprints(subspace: bool) -> None:
    wfx.Dictionary.from_measurements(data("spherical", 1300, 128, 128), subspace=subspace)


def search(kind: str, threads: int) -> None:
    made, queries = wide(kind)
    wfx.Dictionary.from_model(made, 0.01).search(queries.channels, threads=threads)


def fit(kind: str, **options: Any) -> None:
    wfx.fit(data("spherical", 2000, 32, 32), kind, progress=False, **options)


def regress() -> None:
    from wavefix.training import PositionRegressor

    PositionRegressor().fit(data("spherical", 2000, 32, 32), progress=False)


CALLS: dict[str, Callable[[], Any]] = {
    "plan": lambda: wfx.Localizer(model("spherical", 512, 64, 50.0, sources=90)),
    "locate one query": lambda: locate_one(1),
    "locate two queries": lambda: locate_one(2),
    "search": lambda: search("planar", 2),
    "search on one thread": lambda: search("planar", 1),
    "search many": lambda: wfx.Dictionary.from_model(model("planar"), 1e-4).search(data("planar", 64).channels),
    "fingerprints": lambda: fingerprints(True),
    "fingerprints as they are": lambda: fingerprints(False),
    "nearest fingerprints": lambda: wfx.FingerprintLocalizer(wide("planar", 16)[1]).locate(
        wide("planar", 16)[1].channels
    ),
    "simulate": lambda: wfx.simulate("canyon", n=100000),
    "simulate images": lambda: wfx.simulate(wfx.Scene.named("room").with_(max_bounces=8, antennas=2), n=2),
    "simulate wide": lambda: wfx.simulate(wfx.Scene.named("room").with_(antennas=512, subcarriers=1024), n=8),
    "noise": lambda: wide("planar", 16)[1].with_noise(3.0),
    "evaluate": lambda: wfx.evaluate(wide("planar", 16)[0], wide("planar", 16)[1], localizers=["float_fix"]),
    "read": lambda: wfx.ChannelModel.from_bytes(large_file()),
}
for _kind in ("planar", "spherical"):
    CALLS |= {
        f"channels, {_kind}": lambda k=_kind: wide(k)[0].synthesize(np.zeros((100, 3)), threads=2),
        f"jacobian, {_kind}": lambda k=_kind: wide(k)[0].synthesize(np.zeros((20, 3)), jacobian=True, threads=1),
        f"refine, {_kind}": lambda k=_kind: wfx.refine(wide(k)[0], wide(k)[1].channels, np.zeros((2, 3))),
        f"bound, {_kind}": lambda k=_kind: wfx.position_error_bound(wide(k)[0], np.zeros((99, 3)), 10.0),
    }
    CALLS |= {f"{name}, {_kind}": functools.partial(locate, _kind, name) for name in wfx.STRATEGIES}
FITS: dict[str, Callable[[], Any]] = {
    **{f"fit {kind}": functools.partial(fit, kind) for kind in ("spherical", "planar", "mlp", "rff")},
    "fit positions": regress,
}


@functools.cache
def large_file() -> bytes:
    return random_spherical_model(0, antennas=1 << 16, subcarriers=2, sources=1, gates=False).data


def longest_silence(call: Callable[[], Any], seconds: float) -> float:
    with Listening(seconds) as listening, contextlib.suppress(KeyboardInterrupt):
        while True:
            call()
    return listening.longest


OFTEN = [name for name in CALLS if "grid" not in name or "off_grid_pi_ps_circles" in name]


@pytest.mark.parametrize("name", OFTEN)
def test_interrupts_are_answered_within_a_second(name: str) -> None:
    _ = wide("planar", 16), wide("planar"), wide("spherical"), data("spherical", 1300, 128, 128)  # what calls share
    _ = large_file()
    assert longest_silence(CALLS[name], FEW) < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CALLS, *FITS])
def test_interrupts_are_answered_in_later_stages(name: str) -> None:
    if name in FITS:
        pytest.importorskip("torch")
        # all that torch imports on the way: an import that Ctrl-C ends leaves it broken for the calls that follow
        wfx.fit(data("spherical", 40, 8, 8), "mlp", epochs=1, progress=False)
    _ = wide("planar", 16), wide("spherical"), data("spherical", 1300, 128, 128), data("spherical", 2000, 32, 32)
    _ = large_file()
    assert longest_silence(CALLS.get(name) or FITS[name], MANY) < 1.0
