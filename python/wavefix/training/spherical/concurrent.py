# SPDX-License-Identifier: Apache-2.0
"""Several sources at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from wavefix import _core

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    function: Callable[[Item, np.random.Generator], Result], items: Sequence[Item], rng: np.random.Generator
) -> list[Result]:
    """``function`` of every item, on as many threads as a batch has: products and the C++ core run without the
    interpreter's lock. Each item has random numbers of its own, so that the threads change nothing."""
    generators = rng.spawn(len(items))
    threads = min(len(items), _core.max_threads())
    if threads < 2:
        return [function(*pair) for pair in zip(items, generators, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(function, *pair) for pair in zip(items, generators, strict=True)]
        try:
            return [future.result() for future in futures]
        except BaseException:  # an interrupt as well: those that have not begun are not waited for
            pool.shutdown(wait=False, cancel_futures=True)
            raise
