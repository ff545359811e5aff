# SPDX-License-Identifier: Apache-2.0
"""Pictures of an evaluation: error distribution, scene, and fixes. Needs matplotlib, draws without a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefix._core import DataError
from wavefix.dataset import ChannelDataset
from wavefix.files import Path_, written_whole
from wavefix.report import label
from wavefix.results import Evaluation, MethodResult

FORMATS = ("png", "pdf", "svg")
_BASELINE_COLORS = ("#9a9a9a", "#5c5c5c", "#c2a878")
_COLORS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#000000", "#f0e442")
_BASELINES = ("fingerprints_3nn_phase_sensitive", "fingerprints_3nn_phase_insensitive", "mlp_regression")
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handletextpad": 0.4,
    "svg.hashsalt": "wavefix",
}
_WALL, _ANTENNA, _TRAIN, _TRUE, _ESTIMATE, _WRONG = "#404040", "#d55e00", "#c8c8c8", "#0072b2", "#e69f00", "#b00020"


def require_format(path: Path_) -> str:
    """The picture format that the name of ``path`` asks for; DataError where it is not one of ``FORMATS``."""
    suffix = Path(path).suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise DataError(f"{path}: expected a picture name that ends in .{', .'.join(FORMATS)}")
    return suffix


def save_error_cdf(path: Path_, evaluation: Evaluation) -> None:
    """Write the error distribution of all methods to ``path`` (.png, .pdf or .svg)."""
    with _drawing(path, 1, (5.6, 4.8)) as (axes,):
        error_cdf(axes, evaluation)


def save_picture(
    path: Path_,
    evaluation: Evaluation,
    test_data: ChannelDataset,
    *,
    train_data: ChannelDataset | None = None,
    model: Any = None,
    scene: Any = None,
    method: str | None = None,
) -> None:
    """Error distribution, map of the scene, and fixes of one method (None: the last) side by side."""
    chosen = evaluation.methods[-1] if method is None else evaluation[method]
    limit = evaluation.settings["wrong_fix_distance"]
    with _drawing(path, 3, (14.0, 4.8)) as (cdf, overview, zone):
        error_cdf(cdf, evaluation)
        scene_map(overview, test_data, train_data=train_data, model=model, scene=scene)
        fix_map(zone, test_data.known_positions(), chosen, limit, train_data=train_data)


def error_cdf(axes: Any, evaluation: Evaluation) -> None:
    """Share of fixes below an error; centimeters below, wavelengths above."""
    colors = iter(_COLORS * (1 + len(evaluation.methods) // len(_COLORS)))
    gray = iter(_BASELINE_COLORS)
    everything = np.concatenate([100 * method.errors for method in evaluation.methods])
    everything = everything[np.isfinite(everything) & (everything > 0)]
    low, high = (1e-3, 1e3) if everything.size == 0 else (np.quantile(everything, 0.005), everything.max())
    for method in evaluation.methods:
        baseline = method.name in _BASELINES
        error = np.sort(np.maximum(100 * np.where(np.isnan(method.errors), np.inf, method.errors), low))
        share = np.arange(1, len(error) + 1) / len(error)
        finite = np.isfinite(error)
        axes.step(
            error[finite],
            100 * share[finite],
            where="post",
            color=next(gray) if baseline else next(colors),
            linestyle="--" if baseline else "-",
            linewidth=1.6,
            label=label(method.name),
        )
    centimeters = 100 * evaluation.wavelength
    axes.set_xscale("log")
    axes.set_xlim(low / 1.3, high * 1.3)
    axes.set_ylim(0, 100)
    if low < centimeters < high:
        axes.axvline(centimeters, color="#b8b8b8", linewidth=0.9)
    axes.set_xlabel("position error in cm")
    axes.set_ylabel("share of fixes in %")
    top = axes.secondary_xaxis("top", functions=(lambda x: x / centimeters, lambda x: x * centimeters))
    top.set_xlabel("position error in wavelengths")
    _legend(axes)


def scene_map(
    axes: Any,
    test_data: ChannelDataset,
    *,
    train_data: ChannelDataset | None = None,
    model: Any = None,
    scene: Any = None,
) -> None:
    """Seen from above: walls, antennas, training positions, and the region that the model searches."""
    for points in wall_outlines(scene):
        axes.plot(points[:, 0], points[:, 1], color=_WALL, linewidth=1.6, solid_capstyle="round")
    if train_data is not None and train_data.positions is not None:
        axes.scatter(*train_data.positions[:, :2].T, s=1.5, color=_TRAIN, linewidths=0)
        axes.scatter([], [], s=14, color=_TRAIN, linewidths=0, label="training positions")  # visible in the legend
    corners = region_outline(model)
    if corners is not None:
        axes.plot(corners[:, 0], corners[:, 1], color=_TRUE, linewidth=1.2, label="search region")
    antennas = test_data.antenna_positions
    axes.plot(
        antennas[:, 0],
        antennas[:, 1],
        "^",
        color=_ANTENNA,
        markersize=5,
        markeredgewidth=0,
        label=f"{len(antennas)} antennas",
    )
    _as_map(axes, "scene")


def fix_map(
    axes: Any,
    truth: NDArray[np.float64],
    method: MethodResult,
    wrong_fix_distance: float,
    *,
    train_data: ChannelDataset | None = None,
) -> None:
    """True positions, and from each an error vector: right fixes magnified, wrong ones as they are."""
    if train_data is not None and train_data.positions is not None:
        axes.scatter(*train_data.positions[:, :2].T, s=1.5, color=_TRAIN, linewidths=0)
    extent = float(np.max(np.ptp(truth[:, :2], axis=0))) or 1.0
    right = method.errors <= wrong_fix_distance
    wrong = np.isfinite(method.errors) & ~right
    factor = magnification(method.errors[right], extent)
    axes.scatter(*truth[:, :2].T, s=7, color=_TRUE, linewidths=0, zorder=3, label="true position")
    vectors = method.positions - truth
    if right.any():
        ends = truth[right] + factor * vectors[right]
        text = "estimate" if factor == 1 else f"estimate, error x {factor:g}"
        _vectors(axes, truth[right], ends, _ESTIMATE, text)
    if wrong.any():
        text = f"wrong fix ({np.count_nonzero(~right)} of {len(right)}), true length"
        _vectors(axes, truth[wrong], method.positions[wrong], _WRONG, text)
    _as_map(axes, f"fixes: {label(method.name)}")


def magnification(errors: NDArray[np.float64], extent: float) -> float:
    """A power of ten that makes the typical error vector visible on a map ``extent`` meters wide, at least 1."""
    typical = float(np.quantile(errors, 0.9)) if errors.size else 0.0
    if typical <= 0:
        return 1.0
    return float(10.0 ** max(0, np.floor(np.log10(0.06 * extent / typical))))


def wall_outlines(scene: Any) -> list[NDArray[np.float64]]:
    """Each wall of a ``Scene`` as a closed line through its corners ``[n, 3]``; floors and ceilings left out."""
    outlines = []
    for wall in getattr(scene, "walls", None) or ():
        corners = np.asarray(wall.corners, dtype=np.float64)
        if np.ptp(corners[:, 2]) > 0:
            outlines.append(np.vstack((corners, corners[:1])))
    return outlines


def region_outline(model: Any) -> NDArray[np.float64] | None:
    """The search region's rectangle (or line) as a closed line ``[n, 3]``; None without a model."""
    region = getattr(model, "region", None)
    if region is None:
        return None
    basis, lower, upper = (np.asarray(getattr(region, name)) for name in ("basis", "lower", "upper"))
    low, high = lower[:2], upper[:2]
    if len(low) == 1:
        coordinates = np.array([low, high])
    else:
        coordinates = np.array([low, (high[0], low[1]), high, (low[0], high[1]), low])
    return np.asarray(np.asarray(region.origin) + coordinates @ basis[: len(low)])


def _vectors(axes: Any, start: NDArray[np.float64], end: NDArray[np.float64], color: str, text: str) -> None:
    from matplotlib.collections import LineCollection

    lines = np.stack((start[:, :2], end[:, :2]), axis=1)
    axes.add_collection(LineCollection(list(lines), colors=color, linewidths=0.8, zorder=2))
    axes.scatter(*end[:, :2].T, s=7, facecolors="none", edgecolors=color, linewidths=0.8, zorder=4, label=text)


def _as_map(axes: Any, title: str) -> None:
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("x in m")
    axes.set_ylabel("y in m")
    axes.set_title(title, fontsize=9)
    _legend(axes)


def _legend(axes: Any) -> None:
    """Below the axes: nothing drawn is ever hidden."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


@contextmanager
def _drawing(path: Path_, panels: int, inches: tuple[float, float]) -> Iterator[list[Any]]:
    """Axes of a figure that is written to ``path`` at the end. No display, no global state of matplotlib."""
    kind = require_format(path)
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'wavefix[plot]'") from error
    # no date in the file: the same result gives the same bytes
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(figure)
        yield [figure.add_subplot(1, panels, index + 1) for index in range(panels)]
        with written_whole(path) as stream:
            figure.savefig(stream, format=kind, dpi=110, metadata=metadata)
