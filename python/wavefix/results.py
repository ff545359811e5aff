# SPDX-License-Identifier: Apache-2.0
"""What an evaluation found: plain records, JSON and a table."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefix.files import Path_, written_whole

SCHEMA_VERSION = "1"


@dataclass(frozen=True)
class ErrorSummary:
    """Position errors of ``n`` queries in meters. A query without a fix counts as infinitely far off.

    ``rmse`` is over the answered queries, ``wrong_fix_rate`` is the share of all queries further off than the limit.
    """

    n: int
    median: float
    p90: float
    p95: float
    max: float
    rmse: float
    wrong_fix_rate: float


@dataclass(frozen=True, eq=False)
class MethodResult:
    """One method on one test set.

    ``memory_bytes`` is what has to be stored (the model, or the fingerprints), ``working_bytes`` what a call with the
    whole test set holds at its largest, where the method can tell. ``rmse_right`` is over the fixes that are not wrong.
    """

    name: str
    positions: NDArray[np.float64]
    errors: NDArray[np.float64]
    summary: ErrorSummary
    groups: dict[str, ErrorSummary]
    status_share: dict[str, float]
    setup_seconds: float
    seconds: float
    memory_bytes: int
    working_bytes: int | None
    rmse_right: float
    rmse_to_bound: float | None = None

    @property
    def seconds_per_fix(self) -> float:
        return self.seconds / max(1, self.summary.n)


@dataclass(frozen=True)
class ChannelError:
    """Normalized mean squared error (10) of the model on the test locations, in dB."""

    nmse_db: float
    median_location_nmse_db: float
    groups: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of :func:`evaluate`: ``methods`` in the order they ran, ``channel``, and what they were run on."""

    methods: tuple[MethodResult, ...]
    channel: ChannelError
    bound_median: float | None
    wavelength: float
    settings: dict[str, Any]
    model: dict[str, Any]
    environment: dict[str, Any]

    def __getitem__(self, name: str) -> MethodResult:
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(f"{name}; evaluated: {', '.join(method.name for method in self.methods)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings; infinities and NaN become None. Lengths in meters, times in seconds."""
        record = {
            "schema": "wavefix.evaluation",
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "settings": self.settings,
            "wavelength": self.wavelength,
            "channel": {
                "nmse_db": self.channel.nmse_db,
                "median_location_nmse_db": self.channel.median_location_nmse_db,
                "groups": {
                    name: {"nmse_db": overall, "median_location_nmse_db": median}
                    for name, (overall, median) in self.channel.groups.items()
                },
            },
            "position_error_bound_median": self.bound_median,
            "methods": [_method_record(method) for method in self.methods],
            "environment": self.environment,
        }
        plain: dict[str, Any] = _finite(record)
        return plain

    def to_json(self, path: Path_ | None = None) -> str:
        """The JSON text; also written to ``path`` where one is given."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        if path is not None:
            with written_whole(path) as stream:
                stream.write(text.encode())
        return text

    def table(self) -> str:
        """The result as text, errors in centimeters."""
        from wavefix.report import evaluation_table

        return evaluation_table(self)


def _method_record(method: MethodResult) -> dict[str, Any]:
    return {
        "name": method.name,
        **vars(method.summary),
        "groups": {name: dict(vars(summary)) for name, summary in method.groups.items()},
        "status_share": method.status_share,
        "setup_seconds": method.setup_seconds,
        "seconds": method.seconds,
        "seconds_per_fix": method.seconds_per_fix,
        "memory_bytes": method.memory_bytes,
        "working_bytes": method.working_bytes,
        "rmse_right": method.rmse_right,
        "rmse_to_bound": method.rmse_to_bound,
    }


def _finite(value: Any) -> Any:
    """JSON has no infinity: None instead, all the way down."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
