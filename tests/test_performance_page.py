# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md says what bench/results holds, and bench/compare.py finds a difference where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import compare
import draw
import wavefix


def test_the_page_is_drawn_from_the_committed_results() -> None:
    page = draw.PAGE.read_text(encoding="utf-8")
    assert draw.filled(page) == page
    assert page.count("<!-- end -->") == 7
    for row in draw.rows_of("search"):
        assert row["same"] == 1.0


def test_a_confidence_band_covers_the_median_and_narrows() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for seed in range(100):
        low, high = compare.confidence_band(generator.lognormal(np.log(1.1), 0.05, 25), seed)
        inside += low <= 1.1 <= high
    assert inside >= 85  # 95 expected; the percentile bootstrap of a median is a little too narrow
    few, many = (np.diff(compare.confidence_band(generator.normal(1, 0.1, n)))[0] for n in (10, 1000))
    assert many < few / 3


def test_a_build_is_timed() -> None:
    package = str(Path(wavefix.__file__).parents[1])
    times = compare.run_build(package, ["synthesize"])
    assert set(times) == {"synthesize"}
    assert 0 < times["synthesize"] < 10
