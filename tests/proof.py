# SPDX-License-Identifier: Apache-2.0
"""What fixes are measured by where the truth is known: the bound, the covariance and refinement from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from wavefix import ChannelModel, Fixes, position_error_bound, refine

WRONG = 0.03  # meters, as wavefix.evaluation has it
CHANCE = 1e-4  # of the statistical checks, that may fail by chance, once and for all: the seeds are fixed


def users(model: ChannelModel, n: int, seed: int | list[int] = 0) -> NDArray[np.float64]:
    region = model.region
    y = np.random.default_rng(seed).uniform(region.lower, region.upper, (n, len(region.lower)))
    return np.ascontiguousarray(region.origin + y @ region.basis)


def errors(fixes: Fixes, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(fixes.position - truth, axis=1)


def search_failures(
    model: ChannelModel, channels: NDArray[np.complex64], fixes: Fixes, truth: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Fixes in another minimum than refinement from the truth reaches, and not a better one."""
    energy = np.sum(np.abs(channels.astype(np.complex128)) ** 2, axis=(1, 2))
    best = refine(model, channels, truth)
    elsewhere = np.linalg.norm(fixes.position - best.position, axis=1) > model.wavelength / 16
    return elsewhere & (fixes.residual * energy > best.cost)


def squared_errors_by_covariance(model: ChannelModel, fixes: Fixes, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """``e^T C^-1 e`` in the region's axes: chi-square with its dimension's degrees where the covariance is honest."""
    basis = model.region.basis
    error = (fixes.position - truth) @ basis.T
    spread = basis @ fixes.covariance @ basis.T
    return np.einsum("nd,nd->n", error, np.linalg.solve(spread, error[..., None])[..., 0])


def band(degrees: int, n: int, chance: float) -> tuple[float, float]:
    """What the mean of ``n`` chi-square variables lies between, but for one in ``1 / chance`` times."""
    low, high = chi2.ppf([chance / 2, 1 - chance / 2], degrees * n) / n
    return float(low), float(high)


@dataclass(frozen=True)
class Proof:
    """Fixes of ``n`` users at one signal-to-noise ratio.

    ``ratio``: root mean square error over that of the bound, of the right fixes; ``nees``: their mean normalized
    estimation error squared; ``wrong``, ``wrong_ok``, ``failed``: shares of all fixes.
    """

    n: int
    right: int
    wrong: float
    wrong_ok: float
    failed: float
    ratio: float
    nees: float
    median: float
    p95: float
    bound: float


def prove(
    model: ChannelModel,
    channels: NDArray[np.complex64],
    fixes: Fixes,
    truth: NDArray[np.float64],
    snr_db: float,
    known: ChannelModel | None = None,
) -> Proof:
    """``known``: the model of the bound, where ``model`` is a learned one."""
    error = errors(fixes, truth)
    right = error <= WRONG
    bound = position_error_bound(known or model, truth, snr_db)
    some = bool(right.any())
    ratio = np.sqrt(np.mean(error[right] ** 2) / np.mean(bound[right] ** 2)) if some else np.nan
    nees = squared_errors_by_covariance(model, fixes, truth)
    return Proof(
        n=len(truth),
        right=int(right.sum()),
        wrong=float(np.mean(~right)),
        wrong_ok=float(np.mean(~right & (fixes.status == 0))),
        failed=float(np.mean(search_failures(model, channels, fixes, truth))),
        ratio=float(ratio),
        nees=float(np.mean(nees[right])) if some else float("nan"),
        median=float(np.median(error)),
        p95=float(np.quantile(error, 0.95)),
        bound=float(np.median(bound)),
    )
