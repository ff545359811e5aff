# SPDX-License-Identifier: Apache-2.0
"""Files: written complete or not at all, read up to a limit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_PIECE = 1 << 20
Path_ = str | os.PathLike[str]


@contextmanager
def written_whole(path: Path_) -> Iterator[BinaryIO]:
    """A binary file that takes the name ``path`` only once it is complete (written beside, then renamed).

    On any exception, Ctrl-C included, what was written is removed and an older file at ``path`` stays as it was.
    """
    target = Path(path)
    descriptor, name = tempfile.mkstemp(dir=target.parent or ".", prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def read_up_to(path: Path_, limit: int) -> bytes:
    """The first ``limit`` bytes of a file, in memory that grows with what is there: a pipe or a device tells no size,
    and asking for the limit at once would allocate it."""
    pieces = []
    with open(path, "rb") as stream:
        while limit > 0 and (piece := stream.read(min(limit, _PIECE))):
            pieces.append(piece)
            limit -= len(piece)
    return b"".join(pieces)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
