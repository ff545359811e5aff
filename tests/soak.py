# SPDX-License-Identifier: Apache-2.0
"""Loads, plans, locates, pickles and fails for minutes: ``python tests/soak.py [MINUTES]``. Memory must stay flat.

The resident memory of the last quarter may exceed that of the second by MOST_GROWTH: allocators settle in the first,
and a leak of a kilobyte a round shows after the thousand rounds of a minute.
"""

from __future__ import annotations

import io
import pickle
import resource
import sys
import time
from pathlib import Path

import numpy as np

import wavefix as wfx
from factories import random_planar_model
from plane_waves import add_noise, plane_wave_model, random_positions
from spherical_models import random_spherical_model

MOST_GROWTH = 1 << 20
STRATEGIES = ("float_fix", "off_grid_pi_ps_circles", "on_grid_naive")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def models() -> list[wfx.ChannelModel]:
    spherical = random_spherical_model(2, sources=5, antennas=8, subcarriers=8)
    spherical.tensors["region.lower"], spherical.tensors["region.upper"] = np.full(2, -0.1), np.full(2, 0.1)
    return [plane_wave_model(0, waves=6, extent=1.0), wfx.ChannelModel.from_bytes(spherical.data)]


class Round:
    """What an integrator does, over and over, with what it gets wrong in between."""

    def __init__(self) -> None:
        self.models = models()
        self.localizers = [wfx.Localizer(model, name) for model in self.models for name in STRATEGIES]
        self.queries = []
        for model in self.models:
            self.queries.append(add_noise(model.synthesize(random_positions(model, 8)), 10.0))
            self.queries[-1][3] = np.nan
        self.fixes = [localizer.locate(self.of(localizer)) for localizer in self.localizers]
        self.bad = random_planar_model(0).data[:-9]

    def of(self, localizer: wfx.Localizer) -> np.ndarray:
        return self.queries[[model is localizer.model for model in self.models].index(True)]

    def run(self, number: int) -> None:
        model, queries = self.models[number % 2], self.queries[number % 2]
        localizer = self.localizers[number % len(self.localizers)]
        wanted = self.fixes[number % len(self.localizers)]
        found = localizer.locate(self.of(localizer), threads=1 + number % 3)
        np.testing.assert_array_equal(found.position, wanted.position)
        localizer.locate(self.of(localizer), out=found)
        channels, _ = model.synthesize(random_positions(model, 50, seed=number), jacobian=True)
        wfx.Dictionary.from_model(model, 0.03).search(queries, k=2)
        wfx.refine(model, channels[:4], random_positions(model, 4))
        wfx.position_error_bound(model, random_positions(model, 4), 10.0)
        again = pickle.loads(pickle.dumps(wfx.ChannelModel.from_bytes(model.to_bytes())))
        if number % 8 == 0:
            pickle.loads(pickle.dumps(wfx.Localizer(again))).locate(queries[:1])
        for wrong in (
            lambda: wfx.ChannelModel.from_bytes(self.bad),
            lambda: localizer.locate(queries[:, :1]),
            lambda: model.synthesize([[np.nan, 0, 0]]),
            lambda: wfx.Localizer(model, "no such strategy"),
        ):
            try:
                wrong()
            except wfx.Error:
                continue
            raise AssertionError("a mistake went unnoticed")
        data = wfx.ChannelDataset(channels, model.antenna_positions, model.frequencies)
        np.savez(io.BytesIO(), channels=data.channels)


def main() -> int:
    seconds = 60 * float(sys.argv[1] if len(sys.argv) > 1 else 1)
    work = Round()
    begin, rounds, quarters = time.monotonic(), 0, [0, 0, 0, 0]
    while (passed := time.monotonic() - begin) < seconds:
        work.run(rounds)
        rounds += 1
        quarter = min(int(4 * passed / seconds), 3)
        quarters[quarter] = max(quarters[quarter], resident())
    growth = quarters[3] - quarters[1]
    print(f"{rounds} rounds in {seconds:.0f} s; resident MB by quarter {[round(q / 2**20, 2) for q in quarters]}")
    if growth > MOST_GROWTH:
        print(f"memory grew by {growth / rounds * 2:.0f} bytes a round", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
