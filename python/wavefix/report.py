# SPDX-License-Identifier: Apache-2.0
"""Results as text for people: tables with aligned columns, numbers with units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wavefix.results import ErrorSummary, Evaluation

LABELS = {
    "fingerprints_3nn_phase_sensitive": "3-NN fingerprints, PS",
    "fingerprints_3nn_phase_insensitive": "3-NN fingerprints, PI",
    "mlp_regression": "MLP regression",
    "on_grid_naive": "on grid, PS",
    "on_grid_pi_ps": "on grid, PI then PS",
    "off_grid_naive": "off grid, PS",
    "off_grid_pi_ps": "off grid, PI then PS",
    "float_fix": "float, then fix",
}
_GROUPS = {"line_of_sight": "line of sight", "non_line_of_sight": "no line of sight"}


def label(name: str) -> str:
    """A method's name as people read it."""
    if name in LABELS:
        return LABELS[name]
    stem, circles = name.removesuffix("_circles"), name.endswith("_circles")
    return f"{LABELS.get(stem, stem)}, circles" if circles else name


def evaluation_table(evaluation: Evaluation) -> str:
    """Rows: methods, and below each its line-of-sight and non-line-of-sight parts. Then the channel error."""
    bound = evaluation.bound_median is not None
    header = ["method", "median", "90 %", "95 %", "max", "wrong", "memory", "per fix"] + (["RMSE"] if bound else [])
    units = ["", "cm", "cm", "cm", "cm", "%", "", ""] + (["/bound"] if bound else [])
    rows = [header, units]
    for method in evaluation.methods:
        tail = [size(method.memory_bytes), duration(method.seconds_per_fix)]
        if bound:
            tail.append(number(method.rmse_to_bound))
        rows.append([label(method.name), *_numbers(method.summary), *tail])
        for name, summary in method.groups.items():
            rows.append([f"  {_GROUPS[name]} ({summary.n})", *_numbers(summary), *[""] * len(tail)])
    lines = [aligned(rows), ""] if evaluation.methods else []
    return "\n".join([*lines, *_footer(evaluation)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, the first to the left, the others to the right; a rule below the units row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for index, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
        if index == 1:
            lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None or math.isnan(value):
        return "-"
    return "no fix" if math.isinf(value) else f"{value:.3g}"


def size(count: int) -> str:
    """Bytes in decimal units."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def duration(seconds: float) -> str:
    """Seconds in a unit that fits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _numbers(summary: ErrorSummary) -> list[str]:
    lengths = (summary.median, summary.p90, summary.p95, summary.max)
    return [*(number(100 * length) for length in lengths), f"{100 * summary.wrong_fix_rate:.3g}"]


def _footer(evaluation: Evaluation) -> list[str]:
    channel, settings = evaluation.channel, evaluation.settings
    noise = "no noise" if settings["snr_db"] is None else f"SNR {settings['snr_db']:g} dB"
    lines = [
        f"{settings['test_locations']} test locations, {noise}, wavelength {100 * evaluation.wavelength:.3g} cm; "
        f"wrong: more than {100 * settings['wrong_fix_distance']:.3g} cm off or no fix",
        f"channel NMSE {channel.nmse_db:.1f} dB overall, {channel.median_location_nmse_db:.1f} dB median location",
    ]
    for name, (overall, median) in channel.groups.items():
        lines.append(f"  {_GROUPS[name]}: {overall:.1f} dB overall, {median:.1f} dB median location")
    if evaluation.bound_median is not None:
        lines.append(f"position error bound {number(100 * evaluation.bound_median)} cm (median)")
    return lines
