# SPDX-License-Identifier: Apache-2.0
"""Channels at positions, with the geometry of the array and the frequencies that they were measured at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefix._core import DataError, ShapeError
from wavefix.archives import is_hdf5, read_arrays, write_hdf5
from wavefix.arrays import as_array
from wavefix.constants import SPEED_OF_LIGHT
from wavefix.files import Path_, written_whole

_REQUIRED = ("channels", "antenna_positions", "frequencies")
_OPTIONAL = ("positions", "line_of_sight")


@dataclass(frozen=True, eq=False)
class ChannelDataset:
    """Channels ``H_jk(x)`` (docs/equations.md, (1)) at ``n`` positions ``x``.

    Attributes:
        channels: ``[n, n_antennas, n_subcarriers]`` complex64; absolute delay and carrier phase kept,
            phase sign ``e^(-j 2 pi f tau)``.
        antenna_positions: ``[n_antennas, 3]`` float64, meters, in the scene's frame.
        frequencies: ``[n_subcarriers]`` float64, absolute, hertz.
        positions: ``[n, 3]`` float64, meters; None for queries whose position is unknown.
        line_of_sight: ``[n]`` bool, or None where it is not known.

    Raises:
        ShapeError: an array does not have the shape above.
        TypeError: an array has a dtype that would lose information (complex positions, real channels).
        DataError: empty arrays, or values that are not finite (channels excepted when ``positions`` is None:
            a query with NaN gets a status of its own).
    """

    channels: NDArray[np.complex64]
    antenna_positions: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    positions: NDArray[np.float64] | None = None
    line_of_sight: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        channels = _array("channels", self.channels, np.complex64, (None, None, None))
        antennas = _array("antenna_positions", self.antenna_positions, np.float64, (channels.shape[1], 3))
        frequencies = _array("frequencies", self.frequencies, np.float64, (channels.shape[2],))
        if 0 in channels.shape:
            raise DataError(f"channels: expected at least one location, antenna and subcarrier, got {channels.shape}")
        _require_finite("antenna_positions", antennas)
        _require_finite("frequencies", frequencies)
        if np.any(frequencies <= 0):
            raise DataError("frequencies: expected absolute frequencies in hertz, all positive")
        for name, value in (("channels", channels), ("antenna_positions", antennas), ("frequencies", frequencies)):
            object.__setattr__(self, name, value)
        if self.positions is not None:
            positions = _array("positions", self.positions, np.float64, (len(channels), 3))
            _require_finite("positions", positions)
            _require_finite("channels", channels)
            object.__setattr__(self, "positions", positions)
        if self.line_of_sight is not None:
            flags = _array("line_of_sight", self.line_of_sight, np.bool_, (len(channels),))
            object.__setattr__(self, "line_of_sight", flags)

    def __len__(self) -> int:
        return len(self.channels)

    def __repr__(self) -> str:
        n, antennas, subcarriers = self.channels.shape
        band = np.ptp(self.frequencies) / 1e6
        return (
            f"ChannelDataset({n} locations, {antennas} antennas x {subcarriers} subcarriers, "
            f"{self.reference_frequency / 1e9:.4g} GHz, {band:.4g} MHz)"
        )

    @property
    def reference_frequency(self) -> float:
        """``f_r`` in hertz: the center of ``frequencies``."""
        return float((self.frequencies.min() + self.frequencies.max()) / 2)

    @property
    def wavelength(self) -> float:
        """``c / f_r`` in meters."""
        return SPEED_OF_LIGHT / self.reference_frequency

    def known_positions(self) -> NDArray[np.float64]:
        """``positions``, or DataError where the dataset has none."""
        if self.positions is None:
            raise DataError("positions: this dataset has none, and they are needed here")
        return self.positions

    def subset(self, index: NDArray[Any] | slice) -> ChannelDataset:
        """The locations that ``index`` (a slice, indices or a mask) selects."""
        return replace(
            self,
            channels=self.channels[index],
            positions=None if self.positions is None else self.positions[index],
            line_of_sight=None if self.line_of_sight is None else self.line_of_sight[index],
        )

    def with_noise(self, snr_db: float, seed: int = 0) -> ChannelDataset:
        """The same channels with white complex Gaussian noise at ``snr_db``.

        The signal-to-noise ratio is each channel's own: mean ``|H|^2`` over its entries divided by the noise
        variance of a complex entry (docs/conventions.md).

        Raises:
            ValueError: ``snr_db`` is not finite, or so low that the noise does not fit into float32.
        """
        if not math.isfinite(snr_db):
            raise ValueError(f"snr_db: expected a finite number of decibels, got {snr_db}")
        generator = np.random.default_rng(seed)
        noisy = np.empty_like(self.channels)
        for part in parts(self.channels):
            channels = self.channels[part]
            noise = generator.standard_normal((*channels.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
            power = np.mean(np.abs(channels.astype(np.complex128)) ** 2, axis=(1, 2), keepdims=True)
            with np.errstate(over="ignore", invalid="ignore"):
                deviation = np.sqrt(power / 2) * np.power(10.0, -snr_db / 20)
                noisy[part] = channels + deviation * noise
            if np.isinf(noisy[part][np.isfinite(power)[:, 0, 0]]).any():
                raise ValueError(f"snr_db: noise at {snr_db} dB is beyond the range of complex64")
        return replace(self, channels=noisy)

    def save(self, path: Path_) -> None:
        """Write ``.npz``, or HDF5 where the name ends in ``.h5`` or ``.hdf5`` (needs h5py)."""
        arrays = {name: value for name in (*_REQUIRED, *_OPTIONAL) if (value := getattr(self, name)) is not None}
        if is_hdf5(path):
            write_hdf5(path, arrays)
        else:
            with written_whole(path) as stream:
                np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: Path_) -> ChannelDataset:
        """Read what ``save`` writes. Nothing is unpickled.

        An ``.npz`` file from a stranger does no harm. HDF5 files are checked too, but read by the HDF5 library, which
        damaged chunks of a compressed array can crash or stall: take them only from those you trust.

        Raises:
            FileNotFoundError, PermissionError: as ``open`` does.
            DataError: not such a file, an array is missing in it or no plain numbers, or what it declares is larger
                than a file of its size can hold (over 256 MB and over 32 times its size).
        """
        arrays = read_arrays(path, _REQUIRED, _OPTIONAL)
        try:
            return cls(**arrays)
        except (DataError, ShapeError) as error:
            raise type(error)(f"{path}: {error}") from None
        except TypeError as error:  # of the file's doing here, not of the caller's
            raise DataError(f"{path}: {error}") from None


def _array(name: str, value: ArrayLike, dtype: type, shape: tuple[int | None, ...]) -> NDArray[Any]:
    array = as_array(name, value)
    fits = np.can_cast(array.dtype, dtype, casting="same_kind") and (array.dtype.kind == "c") == (dtype is np.complex64)
    if array.dtype != dtype and not fits:
        raise TypeError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")
    if array.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        expected = "(" + ", ".join("n" if extent is None else str(extent) for extent in shape) + ")"
        raise ShapeError(f"{name}: expected shape {expected}, got {array.shape}")
    with np.errstate(over="ignore"):  # infinite then: refused, or a status of its own
        return np.require(array, dtype, ["C", "A"])


def parts(array: NDArray[Any], most: int = 1 << 21) -> Iterator[slice]:
    """Slices of the first axis with some ``most`` numbers each, one row at least: what NumPy does to a whole array of
    gigabytes takes as many again, and hears no Ctrl-C for seconds."""
    rows = max(most * len(array) // max(array.size, 1), 1)
    for first in range(0, len(array), rows):
        yield slice(first, first + rows)


def _require_finite(name: str, array: NDArray[Any]) -> None:
    if not all(np.isfinite(array[part]).all() for part in parts(array)):
        finite = np.isfinite(array)
        first = int(np.argwhere(~finite)[0][0])
        raise DataError(f"{name}: {np.count_nonzero(~finite)} values are not finite, the first at index {first}")
