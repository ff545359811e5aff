# SPDX-License-Identifier: Apache-2.0
"""Queries: channels whose positions nobody knows yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wavefix._core import DataError, ShapeError
from wavefix.archives import read_arrays
from wavefix.channel_model import ChannelModel
from wavefix.evaluation import require_same_arrays
from wavefix.files import Path_


def load_queries(path: Path_, model: ChannelModel) -> NDArray[np.complex64]:
    """The channels ``[n, n_antennas, n_subcarriers]`` of an ``.npz`` or HDF5 file.

    A file that also holds ``antenna_positions`` and ``frequencies`` (a ``ChannelDataset``) must agree with ``model``;
    one without is taken at its word. Values that are not finite pass: such a query gets a status of its own.

    Raises:
        ShapeError, TypeError, DataError: not such channels, or measured with another array or other frequencies.
    """
    arrays = read_arrays(path, ("channels",), ("antenna_positions", "frequencies"))
    channels = np.asarray(arrays["channels"])
    expected = (len(model.antenna_positions), len(model.frequencies))
    if channels.ndim != 3:
        raise ShapeError(f"{path}: channels: expected shape (n, {expected[0]}, {expected[1]}), got {channels.shape}")
    if not np.can_cast(channels.dtype, np.complex64, casting="same_kind") or channels.dtype.kind != "c":
        raise TypeError(f"{path}: channels: expected complex64, got {channels.dtype}")
    for name, extent in (("antenna_positions", channels.shape[1]), ("frequencies", channels.shape[2])):
        if name in arrays and len(np.atleast_1d(arrays[name])) != extent:
            raise ShapeError(f"{path}: {name}: expected {extent} entries, got {len(np.atleast_1d(arrays[name]))}")
    antennas = np.asarray(arrays.get("antenna_positions", model.antenna_positions), dtype=np.float64)
    frequencies = np.asarray(arrays.get("frequencies", model.frequencies), dtype=np.float64)
    require_same_arrays(model, antennas, frequencies, str(path))
    if channels.shape[1:] != expected:
        raise ShapeError(f"{path}: channels: expected shape (n, {expected[0]}, {expected[1]}), got {channels.shape}")
    if len(channels) == 0:
        raise DataError(f"{path}: channels: expected at least one query, got none")
    return np.ascontiguousarray(channels, dtype=np.complex64)
