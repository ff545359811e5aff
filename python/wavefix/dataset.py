# SPDX-License-Identifier: Apache-2.0
"""Channels at positions, with the geometry of the array and the frequencies that they were measured at."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefix._core import DataError, ShapeError
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
        return 299792458.0 / self.reference_frequency

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
        """
        generator = np.random.default_rng(seed)
        noise = generator.standard_normal((*self.channels.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        power = np.mean(np.abs(self.channels.astype(np.complex128)) ** 2, axis=(1, 2), keepdims=True)
        deviation = np.sqrt(power / 2 * 10 ** (-snr_db / 10))
        return replace(self, channels=(self.channels + deviation * noise).astype(np.complex64))

    def save(self, path: Path_) -> None:
        """Write ``.npz``, or HDF5 where the name ends in ``.h5`` or ``.hdf5`` (needs h5py)."""
        arrays = {name: value for name in (*_REQUIRED, *_OPTIONAL) if (value := getattr(self, name)) is not None}
        if _is_hdf5(path):
            _write_hdf5(path, arrays)
        else:
            with written_whole(path) as stream:
                np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: Path_) -> ChannelDataset:
        """Read what ``save`` writes.

        Raises:
            FileNotFoundError, PermissionError: as ``open`` does.
            DataError: not such a file, or an array is missing in it.
        """
        return cls(**read_arrays(path, _REQUIRED, _OPTIONAL))


def read_arrays(path: Path_, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    """The named arrays of an ``.npz`` or HDF5 file; DataError where the file is none or lacks a required one."""
    return _read_hdf5(path, required, optional) if _is_hdf5(path) else read_npz(path, required, optional)


def read_npz(path: Path_, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    """The named arrays of an ``.npz`` file (no pickles); DataError where the file is none or lacks one."""
    with open(path, "rb") as stream:
        try:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: expected an .npz archive, got a single array")
            with archive:
                return _pick(path, archive, required, optional)
        except (BadZipFile, zlib.error, NotImplementedError, ValueError, EOFError, OSError) as error:
            if isinstance(error, ShapeError):
                raise
            raise DataError(f"{path}: not a readable .npz file ({error})") from error


def _pick(
    path: Path_, archive: Mapping[str, Any], required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    missing = [name for name in required if name not in archive]
    if missing:
        raise DataError(f"{path}: expected arrays {', '.join(required)}; missing: {', '.join(missing)}")
    return {name: archive[name][...] for name in (*required, *optional) if name in archive}


def _array(name: str, value: ArrayLike, dtype: type, shape: tuple[int | None, ...]) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype != dtype and not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise TypeError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")
    if array.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        expected = "(" + ", ".join("n" if extent is None else str(extent) for extent in shape) + ")"
        raise ShapeError(f"{name}: expected shape {expected}, got {array.shape}")
    return np.ascontiguousarray(array, dtype=dtype)


def _require_finite(name: str, array: NDArray[Any]) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        first = int(np.argwhere(~finite)[0][0])
        raise DataError(f"{name}: {np.count_nonzero(~finite)} values are not finite, the first at index {first}")


def _is_hdf5(path: Path_) -> bool:
    return Path(path).suffix.lower() in (".h5", ".hdf5")


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need h5py: pip install 'wavefix[hdf5]'") from error
    return h5py


def _write_hdf5(path: Path_, arrays: dict[str, NDArray[Any]]) -> None:
    h5py = _h5py()
    stream: BinaryIO
    with written_whole(path) as stream, h5py.File(stream, "w") as archive:
        for name, array in arrays.items():
            archive[name] = array


def _read_hdf5(path: Path_, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    h5py = _h5py()
    with open(path, "rb") as stream:
        try:
            with h5py.File(stream, "r") as archive:
                return _pick(path, archive, required, optional)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable HDF5 file ({error})") from error
