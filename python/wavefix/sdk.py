# SPDX-License-Identifier: Apache-2.0
"""Where this installed copy keeps what C++ and C need: headers, library, CMake package, pkg-config file."""

from __future__ import annotations

from pathlib import Path

from wavefix import _core
from wavefix._core import Error

PARTS = {
    "include": ("include", "wavefix/wavefix.h"),
    "cmake": ("lib/cmake/wavefix", "wavefix-config.cmake"),
    "pkgconfig": ("lib/pkgconfig", "wavefix.pc"),
    "library": ("lib", "libwavefix*"),
}


def sdk_path(part: str) -> Path:
    """Folder of a part, or the file of the ``library``. Error where this copy was built without it."""
    folder, marker = PARTS[part]
    path = Path(_core.__file__).resolve().parent / folder  # beside the extension, in editable installs too
    found = sorted(path.glob(marker))
    if not found:
        raise Error(f"{path} does not exist: this copy was built in place, without the C++ package; install the wheel")
    return found[0] if part == "library" else path
