# SPDX-License-Identifier: Apache-2.0
"""How good are the fixes, and how good is the channel model? Every method under one protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wavefix._core import DataError, Status
from wavefix.channel_model import ChannelModel
from wavefix.dataset import ChannelDataset, parts
from wavefix.environment import environment_record
from wavefix.localizer import FingerprintLocalizer, Localizer
from wavefix.refine import position_error_bound
from wavefix.results import ChannelError, ErrorSummary, Evaluation, MethodResult

WRONG_FIX_DISTANCE = 0.03  # meters; a fix further off than this sits in a wrong local minimum
DEFAULT_STRATEGIES = (
    "on_grid_naive",
    "on_grid_pi_ps",
    "off_grid_naive",
    "off_grid_pi_ps",
    "off_grid_pi_ps_circles",
    "float_fix",
)


class Locates(Protocol):
    """Anything that turns channels ``[n, n_antennas, n_subcarriers]`` into ``Fixes`` or an array ``[n, 3]``."""

    def locate(self, channels: NDArray[np.complex64]) -> Any: ...


# name, how to set it up, bytes that it keeps
Method = tuple[str, Callable[[], Locates], int]


def evaluate(
    model: Any,
    test_data: ChannelDataset,
    *,
    localizers: Sequence[str] | Mapping[str, Locates] | None = None,
    train_data: ChannelDataset | None = None,
    regressor: Locates | None = None,
    snr_db: float | None = None,
    seed: int = 0,
    threads: int = 0,
    wrong_fix_distance: float = WRONG_FIX_DISTANCE,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Locate ``test_data`` by every method and compare with its positions; compare the model's channels as well.

    Args:
        model: a ``ChannelModel``; anything else with ``synthesize(positions)`` gets its channel error only.
        test_data: positions and channels that no training has seen; ``line_of_sight`` flags add a row for each kind.
        localizers: names of ``Localizer`` strategies, or objects with ``locate(channels)`` by name.
            None: ``float_fix`` and the strategies of the paper.
        train_data: the training set; adds the fingerprinting baselines (3 nearest neighbors, both similarities).
        regressor: a fitted ``wavefix.training.PositionRegressor``; adds its row.
        snr_db: white noise is added to the queries (never to the channels that (10) compares with); adds the
            position error bound (7).
        seed: of that noise.
        threads: 0 for all.
        wrong_fix_distance: meters.
        progress: is told the name of each method before it runs.

    Raises:
        DataError: the test set has no positions, or was measured with another array or at other frequencies.
    """
    truth = test_data.known_positions()
    if not (math.isfinite(wrong_fix_distance) and wrong_fix_distance > 0):
        raise DataError(f"wrong_fix_distance: expected a positive length in meters, got {wrong_fix_distance}")
    is_channel_model = isinstance(model, ChannelModel)
    if is_channel_model:
        require_same_setup(model, test_data, "test_data")
    tell = progress or (lambda _name: None)
    tell("channel error")
    channel = channel_error(model, test_data, threads=threads)
    bound = None
    if snr_db is not None and is_channel_model:
        bound = np.asarray(position_error_bound(model, truth, snr_db))
    queries = test_data if snr_db is None else test_data.with_noise(snr_db, seed)
    methods = []
    for method in _methods(model, localizers, train_data, regressor):
        tell(method[0])
        methods.append(_run(method, queries, truth, wrong_fix_distance, bound, threads))
    settings = {
        "test_locations": len(test_data),
        "train_locations": None if train_data is None else len(train_data),
        "antennas": test_data.channels.shape[1],
        "subcarriers": test_data.channels.shape[2],
        "snr_db": snr_db,
        "seed": seed,
        "threads": threads,
        "wrong_fix_distance": wrong_fix_distance,
    }
    return Evaluation(
        methods=tuple(methods),
        channel=channel,
        bound_median=None if bound is None else _quantile(np.where(np.isnan(bound), np.inf, bound), 0.5),
        wavelength=test_data.wavelength,
        settings=settings,
        model=_model_record(model),
        environment=environment_record(),
    )


def channel_error(model: Any, data: ChannelDataset, *, threads: int = 0) -> ChannelError:
    """(10) over ``data``: all locations together, and the median over locations of each one's own."""
    positions = data.known_positions()
    error = np.empty(len(data))
    power = np.empty(len(data))
    options = {"threads": threads} if isinstance(model, ChannelModel) else {}
    for part in parts(data.channels):
        estimate = np.asarray(model.synthesize(positions[part], **options))
        truth = data.channels[part].astype(np.complex128)
        error[part] = np.sum(np.abs(estimate - truth) ** 2, axis=(1, 2))
        power[part] = np.sum(np.abs(truth) ** 2, axis=(1, 2))
    groups = {name: _nmse(error[mask], power[mask]) for name, mask in _groups(data).items()}
    return ChannelError(*_nmse(error, power), groups)


def summarize(errors: NDArray[np.float64], wrong_fix_distance: float = WRONG_FIX_DISTANCE) -> ErrorSummary:
    """Quantiles of distances in meters; NaN (no fix) counts as infinity."""
    distance = np.where(np.isnan(errors), np.inf, errors)
    answered = distance[np.isfinite(distance)]
    return ErrorSummary(
        n=len(distance),
        median=_quantile(distance, 0.5),
        p90=_quantile(distance, 0.9),
        p95=_quantile(distance, 0.95),
        max=float(distance.max()),
        rmse=_rms(answered),
        wrong_fix_rate=float(np.mean(distance > wrong_fix_distance)),
    )


def require_same_setup(model: Any, data: ChannelDataset, name: str) -> None:
    """DataError unless ``data`` has the array and the frequencies of ``model``."""
    require_same_arrays(model, data.antenna_positions, data.frequencies, name)


def require_same_arrays(
    model: Any, antenna_positions: NDArray[np.float64], frequencies: NDArray[np.float64], name: str
) -> None:
    """DataError unless both arrays are the model's: antennas to λ/1000, frequencies to 1e-7 of their value."""
    for what, mine, theirs, tolerance, unit in (
        ("antenna_positions", model.antenna_positions, antenna_positions, 1e-3 * model.wavelength, "m"),
        ("frequencies", model.frequencies, frequencies, 1e-7 * float(np.max(model.frequencies)), "Hz"),
    ):
        if mine.shape != theirs.shape:
            raise DataError(f"{name}: {what} disagree with the model: expected shape {mine.shape}, got {theirs.shape}")
        deviation = float(np.max(np.abs(mine - theirs)))
        if not deviation <= tolerance:
            raise DataError(
                f"{name}: {what} disagree with the model by up to {deviation:.4g} {unit} "
                f"(at most {tolerance:.2g} {unit} is allowed)"
            )


def _methods(
    model: Any,
    localizers: Sequence[str] | Mapping[str, Locates] | None,
    train_data: ChannelDataset | None,
    regressor: Locates | None,
) -> list[Method]:
    """What is to be run: baselines first."""
    methods: list[Method] = []
    if train_data is not None:
        stored = train_data.channels.nbytes + train_data.known_positions().nbytes
        methods += [
            (
                "fingerprints_3nn_phase_sensitive",
                lambda: FingerprintLocalizer(train_data, 3, "phase_sensitive"),
                stored,
            ),
            (
                "fingerprints_3nn_phase_insensitive",
                lambda: FingerprintLocalizer(train_data, 3, "phase_insensitive"),
                stored,
            ),
        ]
    if regressor is not None:
        methods.append(("mlp_regression", lambda: regressor, _stored_bytes(regressor)))
    if isinstance(localizers, Mapping):
        methods += [(name, _constant(it), _stored_bytes(it)) for name, it in localizers.items()]
    elif isinstance(model, ChannelModel):
        names = DEFAULT_STRATEGIES if localizers is None else localizers
        methods += [(name, _strategy(model, name), int(model.nbytes)) for name in names]
    return methods


def _constant(localizer: Locates) -> Callable[[], Locates]:
    return lambda: localizer


def _strategy(model: ChannelModel, name: str) -> Callable[[], Locates]:
    return lambda: Localizer(model, strategy=name)


def _stored_bytes(localizer: Any) -> int:
    model = getattr(localizer, "model", localizer)
    size = getattr(model, "nbytes", 0)
    return int(size) if not callable(size) else int(size())


def _run(
    method: Method,
    queries: ChannelDataset,
    truth: NDArray[np.float64],
    limit: float,
    bound: NDArray[np.float64] | None,
    threads: int,
) -> MethodResult:
    name, make, memory = method
    start = perf_counter()
    localizer: Any = make()
    planned = perf_counter()
    options = {"threads": threads} if isinstance(localizer, Localizer | FingerprintLocalizer) else {}
    fixes = localizer.locate(queries.channels, **options)
    end = perf_counter()
    positions = np.asarray(getattr(fixes, "position", fixes), dtype=np.float64)
    unanswered = np.isnan(positions).any(axis=1)
    status = np.asarray(getattr(fixes, "status", np.where(unanswered, Status.INVALID_INPUT, Status.OK)))
    errors = np.linalg.norm(positions - truth, axis=1)
    right = errors <= limit
    rmse_right, ratio = _rms(errors[right]), None
    if bound is not None and (known := right & np.isfinite(bound)).any():
        ratio = _rms(errors[known]) / _rms(bound[known])
    return MethodResult(
        name=name,
        positions=positions,
        errors=errors,
        summary=summarize(errors, limit),
        groups={group: summarize(errors[mask], limit) for group, mask in _groups(queries).items()},
        status_share=status_share(status),
        setup_seconds=planned - start,
        seconds=end - planned,
        memory_bytes=memory,
        working_bytes=int(localizer.nbytes(len(truth))) if options else None,
        rmse_right=rmse_right,
        rmse_to_bound=ratio,
    )


def status_share(status: NDArray[Any]) -> dict[str, float]:
    """Share of each status that occurs, by its name in lower case."""
    values, counts = np.unique(status, return_counts=True)
    return {
        Status(int(value)).name.lower(): float(count / counts.sum())
        for value, count in zip(values, counts, strict=True)
    }


def _groups(data: ChannelDataset) -> dict[str, NDArray[np.bool_]]:
    """Masks of the locations with and without line of sight; empty unless both kinds occur."""
    flags = data.line_of_sight
    if flags is None or flags.all() or not flags.any():
        return {}
    return {"line_of_sight": flags, "non_line_of_sight": ~flags}


def _quantile(distance: NDArray[np.float64], q: float) -> float:
    """Linear interpolation as NumPy's, but an infinite neighbor gives infinity rather than NaN."""
    high = float(np.quantile(distance, q, method="higher"))
    return float(np.quantile(distance, q)) if math.isfinite(high) else math.inf


def _rms(values: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.mean(values**2))) if len(values) else math.nan


def _nmse(error: NDArray[np.float64], power: NDArray[np.float64]) -> tuple[float, float]:
    """Overall and median-location (10) in dB; the median is that of the locations that anything arrives at."""
    reached = power > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        median = np.median(error[reached] / power[reached]) if reached.any() else np.nan
        return float(10 * np.log10(error.sum() / power.sum())), float(10 * np.log10(median))


def _model_record(model: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": str(getattr(model, "kind", type(model).__name__))}
    for name in ("n_atoms", "nbytes", "validation_nmse"):
        if (value := getattr(model, name, None)) is not None:
            record[name] = float(value) if name == "validation_nmse" else int(value)
    return record
