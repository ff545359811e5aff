# SPDX-License-Identifier: Apache-2.0
"""An event loop that locates moving users, while other threads use localizers of their own: simulator.cpp in Python.

``python hall.py hall.safetensors && python simulator.py hall.safetensors [users]``
"""

from __future__ import annotations

import heapq
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from hall import SCENE
from numpy.typing import NDArray

import wavefix as wfx

SNR_DB, SLOT, PERIOD, DURATION = 20.0, 0.02, 0.1, 0.14  # dB, seconds
OPTIONS: dict[str, Any] = {
    "strategy": "off_grid_pi_ps",
    "starts": 4,
}  # a rich channel and a good model: no circles, few starts


class Users:
    """Each walks straight on and turns back at the border of the region."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.center, self.size = np.array(SCENE.region.center), np.array(SCENE.region.size)
        self.start, self.velocity = rng.random((n, 3)) * self.size, rng.uniform(-2, 2, (n, 3))
        self.first_pilot = rng.uniform(0, PERIOD, n)

    def positions(self, users: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.float64]:
        folded = np.abs(self.start[users] + self.velocity[users] * times[:, None])
        folded %= np.maximum(2 * self.size, 1e-300)
        return np.asarray(self.center - self.size / 2 + np.minimum(folded, 2 * self.size - folded) * (self.size > 0))


def slots(users: Users) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Who sent a pilot in each slot, and when: the event loop."""
    events = [(time, user) for user, time in enumerate(users.first_pilot)]
    heapq.heapify(events)
    for end in np.arange(SLOT, DURATION + SLOT / 2, SLOT):
        pilots = []
        while events[0][0] < end:
            time, user = heapq.heappop(events)
            pilots.append((user, time))
            heapq.heappush(events, (time + PERIOD, user))
        if pilots:
            yield np.array([user for user, _ in pilots]), np.array([time for _, time in pilots])


class Neighbor(threading.Thread):
    """Locates the same queries again and again with its own localizer, which must not change what it answers."""

    def __init__(self, model: wfx.ChannelModel, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self.model, self.stop = model, stop
        self.truth = SCENE.sample(16, seed)
        self.rounds = self.differences = 0

    def run(self) -> None:
        localizer = wfx.Localizer(self.model, **OPTIONS)
        channels = self.model.synthesize(self.truth)
        first = localizer.locate(channels, threads=1).position
        self.differences += int((np.linalg.norm(first - self.truth, axis=1) > 1e-5).sum())
        while not self.stop.wait(0.1):
            self.differences += not np.array_equal(localizer.locate(channels, threads=1).position, first)
            self.rounds += 1


def locate_users(model: wfx.ChannelModel, n_users: int) -> bool:
    """Whether the fixes of all slots are as good as the noise allows."""
    localizer = wfx.Localizer(model, **OPTIONS)
    errors, bounds, status = [], [], []
    users = Users(n_users, np.random.default_rng(1))
    for seed, (who, when) in enumerate(slots(users)):
        truth = users.positions(who, when)
        received = wfx.simulate(SCENE, positions=truth).with_noise(SNR_DB, seed)
        fixes = localizer.locate(received.channels)
        errors.append(np.linalg.norm(fixes.position - truth, axis=1))
        bounds.append(wfx.position_error_bound(model, truth, SNR_DB))
        status.append(fixes.status)
    error, marks = np.concatenate(errors), np.concatenate(status)
    ratio = float(np.median(error / np.concatenate(bounds)))
    wrong, ok = float(np.mean(error > model.wavelength / 4)), float(np.mean(marks == wfx.Status.OK))
    print(f"{len(error)} fixes in {len(errors)} slots: median error {1e3 * np.median(error):.3f} mm,", end=" ")
    print(f"{ratio:.2f} of the bound; {wrong:.1%} wrong, {ok:.1%} ok")
    # Gaussian errors in a plane: 0.67 (all in one direction) to 0.83 (the same in all), with room for chance.
    return 0.5 < ratio < 1 and wrong <= 0.01 and ok >= 0.98


def main() -> int:
    model = wfx.ChannelModel.load(sys.argv[1] if len(sys.argv) > 1 else "hall.safetensors")
    stop = threading.Event()
    neighbors = [Neighbor(model, seed, stop) for seed in (10, 11)]
    for neighbor in neighbors:
        neighbor.start()
    try:
        right = locate_users(model, int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    finally:
        stop.set()
        for neighbor in neighbors:
            neighbor.join()
    rounds, differences = (sum(getattr(n, name) for n in neighbors) for name in ("rounds", "differences"))
    print(f"{rounds} batches on two other threads, {differences} not what they should be")
    return 0 if right and not differences and rounds else 1


if __name__ == "__main__":
    sys.exit(main())
