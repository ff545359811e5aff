# SPDX-License-Identifier: Apache-2.0
"""What a scene file holds, turned into dataclasses; every refusal names the entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefix._core import DataError, ShapeError
from wavefix.arrays import as_array

Point = tuple[float, float, float]


def points(name: str, value: ArrayLike) -> NDArray[np.float64]:
    array = as_array(name, value)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ShapeError(f"{name}: expected shape (n, 3), got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    if not np.isfinite(array).all():
        raise DataError(f"{name}: expected finite coordinates")
    return np.require(array, np.float64, ["C", "A"])


def require_count(name: str, value: object) -> None:
    minimum = 0 if name == "max_bounces" else 1
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < minimum:
        raise DataError(f"{name}: expected a whole number, {minimum} or more, got {value!r}")


def number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{name}: expected a number, got {value!r}")
    return float(value)


def mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{name}: expected names with values, got {type(value).__name__}")
    return value


def known(name: str, value: object, record: Any) -> Mapping[str, Any]:
    """``value`` as a mapping with the fields of the dataclass ``record``, those without a default present."""
    values = mapping(name, value)
    allowed = {item.name for item in fields(record)}
    needed = [item.name for item in fields(record) if item.default is MISSING and item.default_factory is MISSING]
    for problem, keys in (
        ("unknown", [key for key in values if key not in allowed]),
        ("missing", [key for key in needed if key not in values]),
    ):
        if keys:
            raise DataError(f"{name}: {problem} {', '.join(map(str, keys))}; expected {', '.join(sorted(allowed))}")
    return values


def record_of(name: str, value: object, record: Any) -> Any:
    converted: dict[str, Any] = {}
    for key, entry in known(name, value, record).items():
        where = f"{name}.{key}"
        if key in ("corners", "positions"):
            converted[key] = point_tuples(where, entry)
        elif key in ("center", "size", "axis"):
            converted[key] = point_tuples(where, (entry,))[0]
        elif key in ("name", "material"):
            if not isinstance(entry, str):
                raise DataError(f"{where}: expected text, got {entry!r}")
            converted[key] = entry
        elif key == "antennas" or (key == "thickness" and entry is None):
            converted[key] = entry
        else:
            converted[key] = number(where, entry)
    return record(**converted)


def point_tuples(name: str, value: Any) -> tuple[Point, ...]:
    try:
        array = points(name, value)
    except (ShapeError, TypeError) as error:
        raise DataError(str(error)) from error
    return tuple((float(x), float(y), float(z)) for x, y, z in array)
