# SPDX-License-Identifier: Apache-2.0
"""Compares two builds of wavefix in interleaved rounds.

    python bench/compare.py A B [--rounds 15] [--only locate]

A and B are each a Python interpreter that has wavefix, or a directory that holds the package ``wavefix``. Every round
starts each build once, in random order, on the same inputs. The ratio A / B of the times of a round is free of what
slows the machine for longer than a round; its median stands in the table with a 95 % bootstrap interval. Above 1, B is
faster; an interval that holds 1 shows no difference.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

WORK = """
import json, sys, time
import numpy as np
import wavefix as wfx
sys.path.insert(0, sys.argv[1])
from known_maps import street
from plane_waves import add_noise

model = street(antennas=64, subcarriers=64, paths=12, size=6.0)
region = model.region
x = region.origin + np.random.default_rng(1).uniform(region.lower, region.upper, (64, 2)) @ region.basis
channels = add_noise(model.synthesize(x), 20.0)
data = wfx.ChannelDataset(model.synthesize(x.repeat(32, axis=0) + np.random.default_rng(2).normal(0, 0.3, (2048, 3))
                                           * [1, 1, 0]), model.antenna_positions, model.frequencies,
                          x.repeat(32, axis=0))
out = np.empty_like(channels)
localizer, dictionary = wfx.Localizer(model), wfx.Dictionary.from_measurements(data)
work = {
    "synthesize": lambda: model.synthesize(x, out=out, threads=1),
    "search": lambda: dictionary.search(channels, threads=1),
    "refine": lambda: wfx.refine(model, channels, x + 0.003, threads=1),
    "locate": lambda: localizer.locate(channels, threads=1),
}
times = {}
for name in sys.argv[2:] or work:
    work[name]()
    best = []
    for _ in range(3):
        begin = time.process_time()
        work[name]()
        best.append(time.process_time() - begin)
    times[name] = min(best)
print(json.dumps(times))
"""


def run_build(build: str, parts: list[str]) -> dict[str, float]:
    """Seconds of each part, on one core."""
    tests = str(Path(__file__).resolve().parents[1] / "tests")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    interpreter = build
    if Path(build).is_dir():
        interpreter, environment["PYTHONPATH"] = sys.executable, build
    else:
        environment.pop("PYTHONPATH", None)
    command = [interpreter, "-P", "-c", WORK, tests, *parts]
    times: dict[str, float] = json.loads(
        subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    )
    return times


def confidence_band(ratios: np.ndarray[Any, Any], seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap of the median."""
    generator = np.random.default_rng(seed)
    medians = np.median(generator.choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two builds of wavefix in interleaved rounds.")
    parser.add_argument("a", metavar="A", help="interpreter with wavefix, or directory that holds it")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", action="append", default=[], choices=["synthesize", "search", "refine", "locate"])
    arguments = parser.parse_args()
    order = np.random.default_rng(0)
    times: dict[str, list[dict[str, float]]] = {"a": [], "b": []}
    for _ in range(arguments.rounds):
        for side in order.permutation(["a", "b"]):
            times[side].append(run_build(getattr(arguments, side), arguments.only))
    print(f"{'':12}{'A, ms':>10}{'B, ms':>10}{'A / B':>8}   95 % of the median")
    for part in times["a"][0]:
        a, b = (np.array([entry[part] for entry in times[side]]) for side in ("a", "b"))
        low, high = confidence_band(a / b)
        verdict = "" if low <= 1 <= high else "   B is faster" if low > 1 else "   A is faster"
        print(f"{part:12}{1e3 * np.median(a):10.3f}{1e3 * np.median(b):10.3f}{np.median(a / b):8.3f}   ", end="")
        print(f"{low:.3f} to {high:.3f}{verdict}")


if __name__ == "__main__":
    main()
