# SPDX-License-Identifier: Apache-2.0
"""What the machine can do, measured: the speeds that those of wavefix are fractions of."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from wavefix.environment import usable_cores


def measured_peaks(repetitions: int = 7) -> dict[str, float]:
    """float32 operations and bytes a second of all cores, by NumPy's matrix product and by copying (read and written).

    The best of some repetitions: what else runs on the machine only makes it slower.
    """
    side = 1536
    a = np.ones((side, side), np.float32)
    product = np.empty_like(a)
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    return {
        "float32_flops": 2 * side**3 / _fastest(lambda: np.matmul(a, a, out=product), repetitions),
        "bandwidth": 2 * source.nbytes / _fastest(lambda: np.copyto(target, source), repetitions),
        "cores": float(usable_cores()),
    }


def share_of_peak(work: float, seconds: float, threads: int, peaks: dict[str, float]) -> float:
    """``work`` float32 operations in ``seconds``, over the peak of as many threads (0: all cores)."""
    used = min(threads, peaks["cores"]) if threads > 0 else peaks["cores"]
    return work / seconds / (peaks["float32_flops"] * used / peaks["cores"])


def _fastest(run: Callable[[], Any], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)
