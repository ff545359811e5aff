# SPDX-License-Identifier: Apache-2.0
"""The state of a spherical fit as a file (safetensors with a JSON record), complete or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wavefix._core import DataError
from wavefix.files import Path_, written_whole
from wavefix.training.spherical.rounds import Errors, State
from wavefix.training.spherical.state import Gate, Source

_FORMAT, _VERSION = "wavefix-spherical-checkpoint", "6"
Record = TypeVar("Record")


def write_state(path: Path_, identity: str, state: State, record: Any) -> None:
    """The sources and what went before."""
    from safetensors.numpy import save

    tensors, shapes = {}, []
    for number, source in enumerate(state.sources):
        values = np.stack([source.coefficients.real, source.coefficients.imag])
        arrays = {"position": source.position, "rotation": source.rotation, "variables": source.variables}
        for name, array in (arrays | {"coefficients": values}).items():
            tensors[f"{number}/{name}"] = np.ascontiguousarray(array)
        if not source.gate.trivial:
            tensors[f"{number}/lines"] = np.ascontiguousarray(source.gate.lines)
        shapes.append([source.degree, source.gate.leaves])
    tensors["errors"] = np.array([state.errors.nmse, state.errors.median, state.errors.usual])
    metadata = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "identity": identity,
        "record": json.dumps(vars(record)),
        "sources": json.dumps(shapes),
    }
    with written_whole(path) as stream:
        stream.write(save(tensors, metadata=metadata))


def read_state(path: Path_, identity: str, record_type: type[Record]) -> tuple[State | None, Record]:
    """What ``write_state`` wrote; None and an empty record where there is no file.

    Raises:
        DataError: not such a checkpoint, or one of other data or options.
    """
    if not Path(path).exists():
        return None, record_type()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as archive:
            metadata = dict(archive.metadata() or {})
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable checkpoint ({error})") from error
    if metadata.get("format") != _FORMAT or metadata.get("format_version") != _VERSION:
        raise DataError(f"{path}: not a checkpoint of this version of wavefix")
    if metadata.get("identity") != identity:
        raise DataError(f"{path}: a checkpoint of other data or options; remove it, or give another name")
    try:
        record = record_type(**json.loads(metadata["record"]))
        shapes = json.loads(metadata["sources"])
        sources = [_source(tensors, number, *shape) for number, shape in enumerate(shapes)]
        errors = Errors(*(float(value) for value in tensors["errors"]))
        return State(sources, errors), record
    except (KeyError, TypeError, ValueError, RecursionError, IndexError) as error:
        raise DataError(f"{path}: not a readable checkpoint (its record: {error})") from error


def _source(tensors: dict[str, Any], number: int, degree: int, leaves: list[list[int]]) -> Source:
    real, imaginary = tensors[f"{number}/coefficients"]
    gate = Gate()
    if f"{number}/lines" in tensors:
        gate = Gate(tensors[f"{number}/lines"], tuple(tuple(leaf) for leaf in leaves))
    return Source(
        tensors[f"{number}/position"],
        tensors[f"{number}/rotation"],
        tensors[f"{number}/variables"],
        real + 1j * imaginary,
        degree,
        gate,
    )
