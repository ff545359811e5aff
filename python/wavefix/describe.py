# SPDX-License-Identifier: Apache-2.0
"""What is in this file? Models, datasets, scenes and fixes in a few lines."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

import wavefix
from wavefix._core import DataError
from wavefix.archives import read_npz
from wavefix.channel_model import ChannelModel
from wavefix.commands import dataset_record, decibels
from wavefix.dataset import ChannelDataset
from wavefix.environment import build_record
from wavefix.evaluation import status_share
from wavefix.files import Path_
from wavefix.localizer import Fixes

_FIXES = ("position", "covariance", "status", "residual", "ambiguity")  # float_position is newer


def describe(path: Path_ | None) -> dict[str, Any]:
    """A plain record of the file at ``path``, or of this build for None. The content decides, not the name.

    Raises:
        OSError: it cannot be read.
        DataError, ModelFormatError: it is none of ours.
    """
    if path is None:
        return {"what": "build", **build_record()}
    with open(path, "rb") as stream:
        head = stream.read(16)
    if head.startswith(b"PK"):
        record = _describe_npz(path)
    elif head.startswith(b"\x89HDF"):
        record = {"what": "dataset", **_dataset(ChannelDataset.load(path))}
    elif head.lstrip().startswith(b"{"):
        record = _describe_scene(path)
    else:
        record = _describe_model(path)
    return {"file": str(path), "bytes": os.path.getsize(path), **record}


def as_text(record: dict[str, Any]) -> str:
    """One line an entry, names aligned."""
    lines = [(name.replace("_", " "), _text(value)) for name, value in record.items() if value is not None]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def _describe_npz(path: Path_) -> dict[str, Any]:
    names = ("channels", "antenna_positions", "frequencies", "positions", *_FIXES)
    found = read_npz(path, (), names)
    if all(name in found for name in _FIXES):
        return _fixes(Fixes.load(path))
    if "channels" in found and "antenna_positions" in found:
        return {"what": "dataset", **_dataset(ChannelDataset.load(path))}
    if "channels" in found:
        return {"what": "queries", "channels_shape": list(found["channels"].shape)}
    raise DataError(f"{path}: neither a dataset (channels, ...) nor fixes (position, ...)")


def _dataset(data: ChannelDataset) -> dict[str, Any]:
    record = dataset_record(data)
    finite = np.isfinite(data.channels).all(axis=(1, 2))
    record["unusable_channels"] = int(np.count_nonzero(~finite))
    if finite.any():
        power = np.mean(np.abs(data.channels[finite].astype(np.complex128)) ** 2)
        record["mean_power_db"] = decibels(float(power)) if power > 0 else None
    record["array_extent_m"] = float(np.linalg.norm(np.ptp(data.antenna_positions, axis=0)))
    if data.positions is not None:
        record["positions_from_m"] = data.positions.min(axis=0).tolist()
        record["positions_to_m"] = data.positions.max(axis=0).tolist()
    return record


def _fixes(fixes: Fixes) -> dict[str, Any]:
    answered = np.isfinite(fixes.position).all(axis=-1)
    record: dict[str, Any] = {
        "what": "fixes",
        "queries": len(fixes),
        "answered": int(np.count_nonzero(answered)),
        "status_share": status_share(fixes.status),
    }
    if answered.any():
        record["positions_from_m"] = fixes.position[answered].min(axis=0).tolist()
        record["positions_to_m"] = fixes.position[answered].max(axis=0).tolist()
        record["median_residual"] = float(np.median(fixes.residual[answered]))
    return record


def _describe_scene(path: Path_) -> dict[str, Any]:
    scene = wavefix.Scene.load(path)
    return {"what": "scene", **_scene(scene)}


def _scene(scene: Any) -> dict[str, Any]:
    antennas, frequencies = np.asarray(scene.antenna_positions), np.asarray(scene.frequencies)
    return {
        "name": getattr(scene, "name", None),
        "walls": len(scene.walls),
        "antennas": len(antennas),
        "subcarriers": len(frequencies),
        "carrier_hz": float((frequencies.min() + frequencies.max()) / 2),
        "bandwidth_hz": float(np.ptp(frequencies)),
    }


def _describe_model(path: Path_) -> dict[str, Any]:
    model = ChannelModel.load(path)
    region = model.region
    record: dict[str, Any] = {
        "what": "model",
        "kind": model.kind,
        "format_version": model.metadata.get("format_version"),
        "atoms": model.n_atoms,
        "antennas": len(model.antenna_positions),
        "subcarriers": len(model.frequencies),
        "carrier_hz": float((model.frequencies.min() + model.frequencies.max()) / 2),
        "bandwidth_hz": float(np.ptp(model.frequencies)),
        "wavelength_m": model.wavelength,
        "validation_nmse_db": decibels(model.validation_nmse),
        "region_dimension": len(region.basis),
        "region_origin_m": np.asarray(region.origin).tolist(),
        "region_extent_m": (np.asarray(region.upper) - np.asarray(region.lower)).tolist(),
    }
    if model.kind == "spherical":
        record |= _sources(model)
    return record | {"training": _training(model.metadata.get("training"))}


def _sources(model: ChannelModel) -> dict[str, Any]:
    from safetensors.numpy import load

    tensors = load(model.to_bytes())
    terms = tensors["gain_coefficients"].shape[1]
    gated = np.unique(tensors["gate_cell_source"]) if "gate_lines" in tensors else ()
    return {
        "sources": model.n_atoms,
        "gain_degree": (math.isqrt(8 * terms + 1) - 3) // 2,  # terms = (degree + 1)(degree + 2) / 2
        "gated_sources": len(gated),
        "gate_lines": len(tensors["gate_lines"]) if "gate_lines" in tensors else 0,
    }


def _training(text: str | None) -> dict[str, Any] | None:
    """The scalars of the training record; curves are left to those who read the metadata."""
    if text is None:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    return {name: value for name, value in record.items() if isinstance(value, str | int | float | bool | dict)}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return str(value)
