# SPDX-License-Identifier: Apache-2.0
"""Draws the tables of docs/accuracy.md and docs/figures/accuracy*.png from bench/results/accuracy.json.

python bench/draw_accuracy.py [--check]
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import draw
from proof import CHANCE, band

PAGE = draw.ROOT / "docs" / "accuracy.md"
FIGURES = draw.ROOT / "docs" / "figures"
RESOLVED = 0.01  # wrong fixes below which a scene is above its ambiguity threshold
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def part(name: str) -> dict[str, Any]:
    return dict(draw.result("accuracy").get(name, {}))


def groups(name: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Cases by what stands before the bar in their names."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for case, row in part(name).items():
        scene, rest = case.split(" | ")
        found.setdefault(scene, []).append((rest, row))
    return found


def share(value: float) -> str:
    return "0" if value == 0 else f"{100 * value:.2g} %"


def centimeters(value: float) -> str:
    return f"{100 * value:.2g}"


def decibels(value: float) -> str:
    return f"{value:.1f}"


def dimension(row: dict[str, Any]) -> int:
    """Of the region; rows that do not say are of planes."""
    return int(row.get("dimension", 2))


def known() -> str:
    lines = []
    for scene, rows in groups("known").items():
        for snr, row in rows:
            low, high = band(dimension(row), row["right"], CHANCE)
            lines.append(
                [
                    scene,
                    snr,
                    centimeters(row["bound"]),
                    f"{row['ratio']:.3f}",
                    f"{row['nees']:.2f}",
                    f"{low:.2f} to {high:.2f}",
                    share(row["wrong"]),
                    share(row["wrong_ok"]),
                    share(row["failed"]),
                ]
            )
    head = ["scene", "SNR, dB", "bound, cm", "error / bound", "NEES", "its band", "wrong", "wrong and `ok`"]
    return draw.table([*head, "search failures"], lines)


def learned() -> str:
    lines = []
    for scene, row in part("learned").items():
        for noise in ("none", "20", "5"):
            found = row[noise]
            lines.append(
                [
                    scene,
                    decibels(10 * math.log10(row["nmse"])),
                    noise,
                    centimeters(found["median"]),
                    f"{found['ratio']:.2f}" if "ratio" in found else "",
                    f"{found['nees']:.2f}",
                    share(found["wrong"]),
                    share(found["wrong_ok"]),
                    share(found["failed"]),
                ]
            )
    head = ["map", "validation NMSE, dB", "SNR, dB", "median, cm", "error / bound", "NEES", "wrong", "wrong and `ok`"]
    return draw.table([*head, "search failures"], lines)


def degradation() -> str:
    lines = []
    for scene, rows in groups("degradation").items():
        for case, row in rows:
            line = [scene, case, str(row["locations"]), f"{row['seconds']:.0f}"]
            if "refused" in row:
                lines.append([*line, "refused", *[""] * 6])
                continue
            none, noisy = row["none"], row["5"]
            line += [f"{row['bytes'] / 1000:.1f}", f"{row['overall_db']:.1f} ({row['median_db']:.1f})"]
            line += [centimeters(none["median"]), centimeters(none["p95"]), share(none["wrong"])]
            lines.append([*line, share(none["wrong_ok"]), share(noisy["wrong"])])
    head = [
        "scene",
        "training data",
        "locations",
        "fit, s",
        "kB",
        "NMSE (median), dB",
        "median, cm",
        "95 %, cm",
        "wrong",
    ]
    return draw.table([*head, "and `ok`", "wrong at 5 dB"], lines)


def draw_known(path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4))
    for color, (scene, rows) in zip(COLORS, groups("known").items(), strict=False):
        snr = [row["snr_db"] for _, row in rows]
        style = {"color": color, "marker": "o", "markersize": 3, "label": scene}
        axes[0].plot(snr, [row["ratio"] for _, row in rows], **style)
        axes[1].plot(snr, [row["nees"] / dimension(row) for _, row in rows], **style)
        axes[2].plot(snr, [100 * row["wrong"] for _, row in rows], **style)
        bands = [band(1, dimension(row) * max(row["right"], 1), CHANCE) for _, row in rows]
        axes[1].fill_between(snr, *zip(*bands, strict=True), color="#cccccc", alpha=0.15, linewidth=0)
    axes[0].axhline(1.1, color="black", linewidth=0.8, linestyle="--")
    titles = ("root mean square error / bound, right fixes", "NEES a dimension, bands of chi-square", "wrong fixes, %")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("SNR, dB", fontsize=8)
        axis.grid(True, alpha=0.3)
        axis.tick_params(labelsize=7)
    axes[2].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


CURVES = (
    ("density {0:g}", "locations a square wavelength", (0.1, 0.3, 1.0, 3.0), 1.0),
    ("noise {0:g}", "SNR of the training channels, dB", (10.0, 20.0), None),
    (
        "offset {0:g}, refined ({0:g})",
        "error of the positions, m, as position_std",
        (0.0, 0.01, 0.02),
        0.0,
    ),
)


def draw_degradation(path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(CURVES), figsize=(11, 5.6), squeeze=False)
    for color, (scene, found) in zip(COLORS, groups("degradation").items(), strict=False):
        rows = dict(found)
        for column, (name, title, values, at) in enumerate(CURVES):
            cases = [(v, rows.get("as it is" if v == at else name.format(v), {})) for v in values]
            cases = [(v, row) for v, row in cases if "none" in row]
            if not cases:
                continue
            x = [v for v, _ in cases]
            for quantity, line in (("median", "-"), ("p95", "--")):
                y = [100 * row["none"][quantity] for _, row in cases]
                axes[0, column].semilogy(
                    x, y, line, color=color, marker="o", markersize=3, label=f"{scene}, {quantity}"
                )
            axes[1, column].plot(x, [row["overall_db"] for _, row in cases], color=color, marker="o", label=scene)
            axes[0, column].set_title(title, fontsize=9)
    axes[0, 0].set_ylabel("error without noise, cm", fontsize=8)
    axes[1, 0].set_ylabel("NMSE, dB", fontsize=8)
    for axis in axes.ravel():
        axis.grid(True, alpha=0.3)
        axis.tick_params(labelsize=7)
        axis.locator_params(axis="x", nbins=5)
    axes[0, 0].legend(fontsize=7)
    axes[1, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def filled(page: str) -> str:
    return draw.filled(page, (known, learned, degradation))


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if filled(page) == page else "docs/accuracy.md is not what bench/results gives")
    PAGE.write_text(filled(page), encoding="utf-8")
    for name, make in (("known", draw_known), ("degradation", draw_degradation)):
        if part(name):
            make(FIGURES / f"accuracy_{name}.png")


if __name__ == "__main__":
    main()
