# SPDX-License-Identifier: Apache-2.0
"""Draws the tables of docs/performance.md and docs/figures/growth.png from bench/results/*.json.

    python bench/draw.py [--check]

A table stands between `<!-- NAME -->` and `<!-- end -->`. --check only says whether the page is what the files give.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wavefix.report import duration

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"


def result(name: str) -> Any:
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def rows_of(name: str) -> Any:
    return result(name)["rows"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    record = result("synthesize")
    environment, copying = record["environment"], record["peaks"]["bandwidth"] / 1e9
    peaks = [row["peak_flops"] / 1e9 for row in record["rows"]]
    versions = f"NumPy {environment['numpy']}, torch {environment['torch']}, Python {environment['python']}"
    return (
        f"{environment['processor']}, {environment['cores']} cores, "
        f"kernels `{environment['wavefix']['kernels']}`; {versions}. "
        f"Peak of one core by NumPy's product, in the run: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s; "
        f"copying: {copying:.0f} GB/s.{searched()}"
    )


def searched() -> str:
    """Where the search was measured, if elsewhere."""
    record, first = result("search"), result("synthesize")
    own = record["environment"]["processor"]
    if own == first["environment"]["processor"]:
        return ""
    peak, copying = record["peaks"]["float32_flops"] / 1e9, record["peaks"]["bandwidth"] / 1e9
    return f" Search: {own}, {peak:.0f} GFLOP/s, {copying:.0f} GB/s."


def synthesize() -> str:
    lines = []
    for row in rows_of("synthesize"):
        seconds = row["seconds"]
        ours = seconds["wavefix"]
        fastest = min(value for name, value in seconds.items() if not name.startswith("wavefix"))
        lines.append(
            [
                f"{row['antennas']}x{row['subcarriers']}, {row['sources']}",
                duration(ours / row["positions"]),
                f"{row['share_of_peak']:.0%}",
                duration(seconds["wavefix, Jacobian"] / row["positions"]),
                f"{row['share_of_peak_jacobian']:.0%}",
                f"{seconds['torch, every phasor'] / ours:.0f} x",
                f"{seconds['torch, tables'] / ours:.0f} x",
                f"{fastest / ours:.0f} x",
                f"{row['difference']:.1e}",
            ]
        )
    head = ["antennas x subcarriers, sources", "channel", "of peak", "with Jacobian", "of peak", "torch, plain"]
    return table([*head, "torch, tables", "best peer", "difference"], lines)


def search() -> str:
    lines = []
    for row in rows_of("search"):
        seconds = row["seconds"]
        lines.append(
            [
                f"{row['kind']}, {row['antennas']}x{row['subcarriers']}, {row['entries']}",
                str(row["batch"]),
                str(row["rank"] or "-"),
                duration(seconds["wavefix"] / row["batch"]),
                f"{seconds['numpy'] / seconds['wavefix']:.1f} x",
                f"{seconds['faiss'] / seconds['wavefix']:.1f} x",
                f"{seconds['numpy (5)'] / seconds['wavefix (5)']:.1f} x",
                f"{row['same']:.0%}",
            ]
        )
    head = ["entries", "batch", "rank", "a query", "NumPy", "FAISS flat", "NumPy, (5)", "same answer"]
    return table(head, lines)


def locate() -> str:
    lines = []
    for row in rows_of("locate"):
        peer = ["", "", ""]
        if "torch_seconds" in row:
            peer = [
                f"{row['torch_seconds'] / row['seconds']:.0f} x",
                f"{row['torch_median_error'] * 100:.4f} cm",
                f"{row['torch_wrong']:.0%}",
            ]
        lines.append(
            [
                f"{row['antennas']}x{row['subcarriers']}, {row['sources']} sources, {row['width']:g} m",
                duration(row["seconds"]),
                duration(row["seconds_99"]),
                f"{row['median_error'] * 100:.4f} cm",
                f"{row['wrong']:.1%}",
                *peer,
            ]
        )
    head = ["", "median", "99 %", "median error", "wrong", "paper's pipeline in torch", "its error", "its wrong"]
    return table(head, lines)


def growth() -> str:
    lines = []
    for name, curve in rows_of("growth").items():
        values = ", ".join(duration(s) for s in curve["seconds"])
        held = ", ".join(f"{n / 1e6:.3g}" for n in curve["bytes"])
        exponents = [f"{curve[name]:.2f}" for name in ("exponent", "exponent_bytes")]
        lines.append([name, ", ".join(f"{n:g}" for n in curve["at"]), values, exponents[0], held, exponents[1]])
    return table(["", "at", "time of one", "exponent", "MB held", "exponent"], lines)


def threads() -> str:
    rows = rows_of("threads")
    lines = [[name, f"{row['median']:.2f}", f"{row['best']:.2f}"] for name, row in rows["speed-up"].items()]
    shares = [[name, f"{row['median']:.0%}", f"{row['best']:.0%}"] for name, row in rows["share of peak"].items()]
    head = ["median round", "best round"]
    return table(["two threads over one", *head], lines) + "\n\n" + table(["of the peak of two cores", *head], shares)


def instructions() -> str:
    path = ROOT / "bench" / "results" / "instructions.json"
    return table(["kernel, level", "instructions"], [[k, str(v)] for k, v in json.loads(path.read_text()).items()])


def draw_growth(path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    curves = rows_of("growth")
    figure, axes = pyplot.subplots(6, 3, figsize=(9, 15))
    for axis in axes.ravel()[len(curves) :]:
        axis.remove()
    for axis, (name, curve) in zip(axes.ravel(), curves.items(), strict=False):
        memory = axis.twinx()
        axis.plot(curve["at"], [1e3 * s for s in curve["seconds"]], "o-", color="#1f5fa8")
        memory.plot(curve["at"], [n / 1e6 for n in curve["bytes"]], "--", color="#b05a2c")
        for side, unit in ((axis, "ms"), (memory, "MB")):
            side.set_xscale("log")
            side.set_yscale("log")
            low, high = side.get_ylim()
            wider = max(1.0, (10.0 / (high / low)) ** 0.5)  # a decade at least: flat curves are to look flat
            side.set_ylim(low / wider, high * wider)
            side.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            side.yaxis.set_major_formatter("{x:g}")
            side.set_ylabel(unit, fontsize=8)
            side.minorticks_off()
            side.tick_params(labelsize=6)
        axis.set_xticks(curve["at"], [f"{n:g}" for n in curve["at"]])
        axis.set_title(f"{name} (exponent {curve['exponent']:.2f})", fontsize=8)
        axis.grid(True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def filled(page: str, makers: Sequence[Callable[[], str]] = ()) -> str:
    """`page` with the table of each maker between its markers; without makers, those of docs/performance.md."""
    named = {f.__name__: f for f in makers or (machine, synthesize, search, locate, growth, threads, instructions)}

    def fill(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{named[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", fill, page, flags=re.DOTALL)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if filled(page) == page else "docs/performance.md is not what bench/results gives")
    PAGE.write_text(filled(page), encoding="utf-8")
    draw_growth(ROOT / "docs" / "figures" / "growth.png")


if __name__ == "__main__":
    main()
