# SPDX-License-Identifier: Apache-2.0
"""The C interface (wavefix.h) from Python's ctypes: nothing of the Python package but the place of its library.

``python hall.py hall.safetensors && python locate_ctypes.py hall.safetensors [libwavefix.so]``
"""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint8, c_void_p


class Description(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("kind", c_char_p),
        *((name, c_size_t) for name in ("n_antennas", "n_subcarriers", "n_atoms", "bytes")),
        ("antenna_positions", POINTER(c_double)),
        ("frequencies", POINTER(c_double)),
        ("wavelength", c_double),
        ("validation_nmse", c_double),
        ("region_dimension", c_size_t),
        *((f"region_{name}", POINTER(c_double)) for name in ("origin", "basis", "lower", "upper")),
    )


class Fixes(Structure):  # what is not set is NULL, and not wanted
    _fields_ = (
        ("struct_size", c_size_t),
        ("position", POINTER(c_double)),
        ("covariance", POINTER(c_double)),
        ("status", POINTER(c_uint8)),
        ("residual", POINTER(c_double)),
        ("ambiguity", POINTER(c_double)),
        ("float_position", POINTER(c_double)),
    )


class Wavefix:
    """The functions of the library; a code that is not 0 becomes an exception with the message."""

    def __init__(self, path: str) -> None:
        self.shared = ctypes.CDLL(path)
        self.shared.wavefix_version.restype = c_char_p
        self.shared.wavefix_message.restype = c_char_p

    def call(self, name: str, *arguments: object) -> None:
        function = getattr(self.shared, f"wavefix_{name}")
        function.restype = c_int32
        code = function(*arguments)
        if code:
            raise RuntimeError(f"{name}: code {code}: {self.shared.wavefix_message().decode()}")


def installed_library() -> str:
    command = [sys.executable, "-m", "wavefix", "--library"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    path = sys.argv[1] if len(sys.argv) > 1 else "hall.safetensors"
    wavefix = Wavefix(sys.argv[2] if len(sys.argv) > 2 else installed_library())
    model, localizer, about = c_void_p(), c_void_p(), Description(struct_size=ctypes.sizeof(Description))
    try:
        wavefix.call("model_load", b"/no/such/file", byref(model))
    except RuntimeError as error:
        print(f"as it should be: {error}")
    else:
        return 1
    wavefix.call("model_load", path.encode(), byref(model))
    wavefix.call("model_describe", model, byref(about))
    print(f"wavefix {wavefix.shared.wavefix_version().decode()}, {about.kind.decode()} model of {about.n_atoms} paths")

    n = 3
    offsets = [(0.11, -0.27, 0.0), (0.3, 0.3, 0.0), (-0.42, 0.05, 0.0)]
    truth = [about.region_origin[c] + offset[c] for offset in offsets for c in range(3)]
    channels = (c_float * (2 * n * about.n_antennas * about.n_subcarriers))()
    wavefix.call("synthesize", model, c_size_t(n), (c_double * (3 * n))(*truth), channels, None, None)
    wavefix.call("localizer_create", model, None, byref(localizer))
    wavefix.shared.wavefix_model_free(model)  # the localizer keeps what it needs
    position, status = (c_double * (3 * n))(), (c_uint8 * n)()
    fixes = Fixes(struct_size=ctypes.sizeof(Fixes), position=position, status=status)
    shape = (c_size_t(n), c_size_t(about.n_antennas), c_size_t(about.n_subcarriers))
    wavefix.call("locate", localizer, channels, *shape, byref(fixes), None)
    wavefix.shared.wavefix_localizer_free(localizer)
    distances = [math.dist(position[3 * i : 3 * i + 3], truth[3 * i : 3 * i + 3]) for i in range(n)]
    for distance, mark in zip(distances, status, strict=True):
        print(f"off by {distance:.1e} m, status {mark}")
    return 0 if max(distances) < 1e-5 and not any(status) else 1  # float32 channels: 1e-4 of a wavelength


if __name__ == "__main__":
    sys.exit(main())
