# SPDX-License-Identifier: Apache-2.0
"""Refinement by damped Gauss-Newton, and the bound that it can reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix._core import RefineOptions
from wavefix.arrays import as_array, as_points
from wavefix.channel_model import ChannelModel


@dataclass(frozen=True, eq=False)
class Refined:
    """What ``refine`` found, a row a query.

    Attributes:
        position: ``[n, 3]`` meters; NaN where the input was not finite.
        cost: ``[n]``, ``||H - f(position)||^2``.
        iterations: ``[n]``, steps tried.
        converged: ``[n]``, whether the last step was shorter than the tolerance.
    """

    position: NDArray[np.float64]
    cost: NDArray[np.float64]
    iterations: NDArray[np.intc]
    converged: NDArray[np.bool_]


def refine(
    model: ChannelModel,
    channels: NDArray[np.complex64],
    starts: NDArray[np.float64],
    options: RefineOptions | None = None,
    threads: int = 0,
) -> Refined:
    """Minimize ``||H - f(x)||^2`` from ``starts`` by damped Gauss-Newton (docs/equations.md, (6)).

    Args:
        model: the channel model ``f``.
        channels: ``[n, n_antennas, n_subcarriers]`` complex64, the measured ``H``.
        starts: ``[n, 3]`` float64, meters.
        options: step, damping and stopping rule.
        threads: 0 for all cores.

    Raises:
        ShapeError, TypeError: an array does not fit.
    """
    position, cost, iterations = _core.refine(
        model._core, as_array("channels", channels), as_points("starts", starts), options or RefineOptions(), threads
    )
    return Refined(position, cost, np.abs(iterations), iterations > 0)


def position_error_bound(
    model: ChannelModel, positions: NDArray[np.float64], snr_db: float, threads: int = 0
) -> NDArray[np.float64]:
    """Cramer-Rao bound on the position error, ``sqrt(tr F^-1)`` in meters (docs/equations.md, (7)).

    Args:
        model: the channel model, taken as exact.
        positions: ``[n, 3]`` float64, meters.
        snr_db: signal-to-noise ratio of each channel, decibels.
        threads: 0 for all cores.

    Returns:
        ``[n]`` float64; NaN where the channel does not determine the position.

    Raises:
        ShapeError, TypeError: ``positions`` has another shape or dtype, or ``snr_db`` is not finite.
    """
    return _core.position_error_bound(model._core, as_points("positions", positions), snr_db, threads)
