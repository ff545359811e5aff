# SPDX-License-Identifier: Apache-2.0
"""docs/accuracy.md says what bench/results holds, and that is what is promised."""

from __future__ import annotations

import draw_accuracy
from proof import band


def test_the_page_is_drawn_from_the_committed_results() -> None:
    page = draw_accuracy.PAGE.read_text(encoding="utf-8")
    assert draw_accuracy.filled(page) == page
    assert page.count("<!-- end -->") == 3


def test_the_committed_fixes_reach_the_bound_and_know_it() -> None:
    rows = draw_accuracy.part("known").values()
    assert len(rows) == 48
    users = sum(row["n"] for row in rows)
    assert sum(row["n"] * row["failed"] for row in rows) <= 1e-3 * users
    for row in rows:
        low, high = band(draw_accuracy.dimension(row), row["right"], draw_accuracy.CHANCE)
        assert low < row["nees"] < high
        if row["wrong"] <= draw_accuracy.RESOLVED:
            assert row["ratio"] < 1.1
