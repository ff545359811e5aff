# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries: over the same memory where dtype and layout fit, refused with a reason where not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefix._core import ShapeError

_IN_MAIN_MEMORY = (1, 3, 11)  # DLPack: CPU, and memory that CUDA or ROCm pinned
_DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 13: "CUDA managed", 14: "oneAPI"}


def as_array(name: str, value: Any) -> NDArray[Any]:
    """``value`` as a NumPy array, without a copy if it has ``__dlpack__`` (torch, JAX) or the buffer protocol.

    Raises:
        TypeError: masked, on another device, or a tensor that is more than its memory (conjugate, negative or
            requires-grad bit, sparse, a dtype that NumPy does not have).
        ShapeError: nested lists of different lengths.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask; filled() makes one")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return _from_dlpack(name, value)
    try:
        return np.asarray(memoryview(value))
    except (TypeError, ValueError, BufferError):  # no buffer, or one of a format that NumPy does not know
        pass
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: expected rows of one length ({error})") from error


def as_output(name: str, value: Any) -> NDArray[Any]:
    """``value`` as an array to write to, over the same memory.

    Raises:
        TypeError: as ``as_array``; read-only, or not an array.
    """
    if not hasattr(value, "__dlpack__"):
        try:
            memoryview(value)
        except (TypeError, BufferError):
            raise TypeError(f"{name}: expected an array to write to, got {type(value).__name__}") from None
    array = as_array(name, value)
    if not array.flags.writeable and not isinstance(value, np.ndarray):
        # before 2.3, NumPy took whatever came by DLPack for read-only; the other protocols may know better
        again = np.asarray(value)
        same = again.__array_interface__["data"][0] == array.__array_interface__["data"][0]
        array = again if same and again.strides == array.strides else array
    if not array.flags.writeable:
        raise TypeError(f"{name}: expected a writeable array, got a read-only one")
    return array


def as_points(name: str, value: Any) -> NDArray[np.float64]:
    """``value`` as positions ``[n, 3]``, float64 in C order; copied only if they are something else.

    Raises:
        TypeError: not real numbers, or of a dtype that does not fit into float64; as ``as_array``.
        ShapeError: another shape.
    """
    array = as_array(name, value)
    if array.dtype != np.float64 and not np.can_cast(array.dtype, np.float64, casting="safe"):
        raise TypeError(f"{name}: expected float64, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] != 3:
        raise ShapeError(f"{name}: expected shape (n, 3), got {array.shape}")
    return np.require(array, np.float64, ["C", "A"])


def _from_dlpack(name: str, value: Any) -> NDArray[Any]:
    kind = type(value).__name__
    try:
        device = int(value.__dlpack_device__()[0])
        # torch exports the memory of a tensor that is lazily negated as it is, with the wrong sign
        negated = hasattr(value, "is_neg") and bool(value.is_neg())
        if device in _IN_MAIN_MEMORY and not negated:
            return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        hint = "; resolve_conj() makes one without" if "conjugate" in str(error) else ""
        raise TypeError(f"{name}: this {kind} does not share its memory: {error}{hint}") from error
    if negated:
        raise TypeError(f"{name}: this {kind} has the negative bit set; resolve_neg() makes one without")
    where = _DEVICES.get(device, f"device type {device}")
    raise TypeError(f"{name}: expected an array in main memory, got a {kind} on {where}; copy it to the CPU first")
