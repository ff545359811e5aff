# SPDX-License-Identifier: Apache-2.0
"""Trained channel models: position to channel, and its derivative."""

from __future__ import annotations

import os
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefix import _core
from wavefix.arrays import as_output, as_points
from wavefix.files import Path_, read_up_to, written_whole


class ChannelModel:
    """A trained channel model, evaluated in C++ (docs/equations.md, (1) to (3)).

    It never changes, so it may be shared between threads; copies are references. Pickles hold the model file.
    ``load``, ``from_bytes`` and ``wavefix.fit`` make one.
    """

    __slots__ = ("_core", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = bytes(memoryview(data))  # bytes() alone would take a number for a size
        self._core = _core.ChannelModel.from_bytes(self._data)

    @classmethod
    def from_bytes(cls, data: bytes) -> ChannelModel:
        """The model whose file has these bytes.

        Raises:
            ModelFormatError: not a model file, or one that contradicts itself; the message says where.
            TypeError: ``data`` is neither ``bytes`` nor anything else with the buffer protocol.
        """
        return cls(data)

    def to_bytes(self) -> bytes:
        """The bytes of the model file (safetensors)."""
        return self._data

    @classmethod
    def load(cls, path: Path_) -> ChannelModel:
        """Read a model file.

        Raises:
            FileNotFoundError, PermissionError, IsADirectoryError: as ``open`` does.
            ModelFormatError: as ``from_bytes`` does.
        """
        if os.path.getsize(path) > _core.MAX_MODEL_BYTES:
            raise _core.ModelFormatError(f"{path}: larger than {_core.MAX_MODEL_BYTES} bytes")
        data = read_up_to(path, _core.MAX_MODEL_BYTES + 1)  # one more than is accepted, so that from_bytes refuses it
        try:
            return cls(data)
        except _core.ModelFormatError as error:
            raise _core.ModelFormatError(f"{path}: {error}") from None

    def save(self, path: Path_) -> None:
        """Write the model file; a file at ``path`` is replaced only by a complete one."""
        with written_whole(path) as stream:
            stream.write(self._data)

    @overload
    def synthesize(
        self,
        positions: ArrayLike,
        jacobian: Literal[False] = False,
        out: NDArray[np.complex64] | None = None,
        threads: int = 0,
    ) -> NDArray[np.complex64]: ...

    @overload
    def synthesize(
        self,
        positions: ArrayLike,
        jacobian: Literal[True],
        out: tuple[NDArray[np.complex64], NDArray[np.complex64]] | None = None,
        threads: int = 0,
    ) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]: ...

    def synthesize(self, positions: ArrayLike, jacobian: bool = False, out: Any = None, threads: int = 0) -> Any:
        """Channels ``[n, n_antennas, n_subcarriers]`` complex64 at ``positions [n, 3]``, in meters.

        A position outside ``region`` is evaluated too, but the model has seen no data there. The result does not
        depend on ``threads`` nor on which positions share a call.

        Args:
            positions: real numbers; ``n`` may be 0.
            jacobian: also return the derivatives by x, y, z, ``[n, 3, n_antennas, n_subcarriers]``, per meter.
            out: where to write: an array, or a pair of arrays with ``jacobian``, in C order; it is returned.
            threads: 0 for all.

        Raises:
            ShapeError: ``positions`` or ``out`` has the wrong shape.
            ValueError: ``out`` shares memory with ``positions`` or, as a pair, with itself.
            DataError: a position is not finite.
        """
        points = as_points("positions", positions)
        if not jacobian:
            target = None if out is None else as_output("out", out)
            channels = self._core.synthesize(points, target, threads)
            return channels if out is None else out
        if out is None:
            return self._core.synthesize_with_jacobian(points, None, None, threads)
        self._core.synthesize_with_jacobian(points, *_pair(out), threads)
        return out

    @property
    def kind(self) -> str:
        """Architecture, ``"planar"`` or ``"spherical"``."""
        return self._core.kind

    @property
    def antenna_positions(self) -> NDArray[np.float64]:
        """``[n_antennas, 3]``, meters, in the scene's frame."""
        return self._core.antenna_positions

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """``[n_subcarriers]``, absolute, hertz."""
        return self._core.frequencies

    @property
    def wavelength(self) -> float:
        """In meters, at the center of ``frequencies``."""
        return self._core.wavelength

    @property
    def region(self) -> _core.Region:
        """Where the model was trained: the box ``lower <= y <= upper`` of the points ``origin + basis.T @ y``."""
        return self._core.region

    @property
    def metadata(self) -> dict[str, str]:
        """What the model file says about itself; ``"training"`` is a record in JSON."""
        return self._core.metadata

    @property
    def validation_nmse(self) -> float:
        """Normalized mean squared error at positions held out of training; linear (docs/equations.md, (10))."""
        return self._core.validation_nmse

    @property
    def n_atoms(self) -> int:
        """Number of terms in the sum (2), or of sources in (1)."""
        return self._core.n_atoms

    @property
    def nbytes(self) -> int:
        """Size of the model file."""
        return len(self._data)

    def __repr__(self) -> str:
        size = f"{self.nbytes / 1e3:.1f} kB" if self.nbytes < 1e6 else f"{self.nbytes / 1e6:.1f} MB"
        return (
            f"ChannelModel({self.kind}, {self.n_atoms} atoms, {self._core.n_antennas} antennas x "
            f"{self._core.n_subcarriers} subcarriers, {size})"
        )

    def __reduce__(self) -> tuple[type[ChannelModel], tuple[bytes]]:
        return type(self), (self._data,)

    def __copy__(self) -> ChannelModel:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ChannelModel:
        return self


def _pair(out: Any) -> tuple[Any, Any]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError("out: with jacobian=True, expected a pair (channels, jacobian)")
    return as_output("out", out[0]), as_output("out_jacobian", out[1])
