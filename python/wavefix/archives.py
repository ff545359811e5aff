# SPDX-License-Identifier: Apache-2.0
"""Named arrays in ``.npz`` and HDF5 files, read as if a stranger had written them.

Nothing is unpickled, no other file is followed, and what a file declares is held against its size and ``MOST_BYTES``
before memory is allocated for it.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from wavefix._core import DataError
from wavefix.files import Path_, written_whole

# Arrays may be this large in any file, and larger than that only in a file that is large itself: what expands more
# than MOST_EXPANSION times was made to fill memory.
MOST_BYTES = 1 << 28
MOST_EXPANSION = 32
_PIECE = 1 << 20
_HDF5_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # built into h5py: no plugin is searched


def read_arrays(path: Path_, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The named arrays of an ``.npz`` or HDF5 file, by its name; DataError where it is none or lacks a required one."""
    return _read_hdf5(path, required, optional) if is_hdf5(path) else read_npz(path, required, optional)


def read_npz(path: Path_, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The named arrays of an ``.npz`` file, stored or deflated.

    Raises:
        OSError: as ``open`` does.
        DataError: not such a file, an array is missing or no plain numbers, or one is larger than the file allows.
    """
    with open(path, "rb") as stream, _damage_told(path, ".npz"):
        magic = stream.read(6)
        if magic == npy.MAGIC_PREFIX:
            raise DataError("expected an archive of named arrays, got a single array")
        if not magic.startswith(b"PK"):
            raise DataError("not a readable .npz file (no zip archive)")
        stream.seek(0)
        budget = _Budget(os.fstat(stream.fileno()).st_size)
        with zipfile.ZipFile(stream) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in members:
                    raise DataError(f"{name}: stands in it twice")
                members[name] = info
            names = _present(members, required, optional)
            return {name: _read_member(archive, name, members[name], budget) for name in names}


def write_hdf5(path: Path_, arrays: dict[str, NDArray[Any]]) -> None:
    h5py = _h5py()
    stream: BinaryIO
    with written_whole(path) as stream, h5py.File(stream, "w") as archive:
        for name, array in arrays.items():
            archive[name] = array


def is_hdf5(path: Path_) -> bool:
    return Path(path).suffix.lower() in (".h5", ".hdf5")


class _Budget:
    """How many bytes of arrays a file of ``size`` bytes may still ask for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = max(MOST_BYTES, MOST_EXPANSION * size)

    def take(self, name: str, size: int) -> None:
        if size > self.left:
            raise DataError(
                f"{name}: asks for {size} bytes of memory, more than a file of {self.size} bytes may expand to"
            )
        self.left -= size


@contextmanager
def _damage_told(path: Path_, kind: str) -> Iterator[None]:
    """Whatever the readers of archives raise on damaged ones (zipfile and h5py name no common root) as DataError."""
    try:
        yield
    except MemoryError:
        raise
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:
        raise DataError(f"{path}: not a readable {kind} file ({str(error) or type(error).__name__})") from error


def _present(available: Any, required: tuple[str, ...], optional: tuple[str, ...]) -> list[str]:
    missing = [name for name in required if name not in available]
    if missing:
        raise DataError(f"expected arrays {', '.join(required)}; missing: {', '.join(missing)}")
    return [name for name in (*required, *optional) if name in available]


def _require_plain(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biufc":
        raise DataError(f"{name}: expected plain numbers, got dtype {dtype}")


def _read_member(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, budget: _Budget) -> NDArray[Any]:
    # zipfile expands bzip2 and lzma a block at a time however large the block becomes
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name}: compressed by a method other than deflate")
    with archive.open(info) as member:
        version = npy.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"{name}: version {version[0]}.{version[1]} of the array format")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        try:
            shape, fortran_order, dtype = read_header(member)
        except (MemoryError, RecursionError) as error:  # of the parser, at deeply nested headers of a few kilobytes
            raise DataError(f"{name}: the header of the array cannot be parsed") from error
        _require_plain(name, dtype)
        if any(extent < 0 for extent in shape):
            raise DataError(f"{name}: shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        if member.tell() + size != info.file_size:
            raise DataError(f"{name}: {info.file_size - member.tell()} bytes, shape {shape} of {dtype} needs {size}")
        budget.take(name, size)
        array = np.empty(math.prod(shape), dtype)
        _fill(member, array.view(np.uint8))
        if member.read(1):  # reads to the end, where the checksum is compared
            raise DataError(f"{name}: bytes after the array")
    return array.reshape(shape, order="F" if fortran_order else "C")


def _fill(stream: Any, target: NDArray[np.uint8]) -> None:
    done = 0
    while done < len(target):
        piece = stream.read(min(_PIECE, len(target) - done))
        if not piece:
            raise EOFError(f"it ends after {done} of {len(target)} bytes of an array")
        target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need h5py: pip install 'wavefix[hdf5]'") from error
    return h5py


def _read_hdf5(path: Path_, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    h5py = _h5py()
    with open(path, "rb") as stream, _damage_told(path, "HDF5"):
        budget = _Budget(os.fstat(stream.fileno()).st_size)
        with h5py.File(stream, "r") as archive:
            names = _present(set(archive), required, optional)  # `in` of a file would follow links
            return {name: _read_dataset(h5py, archive, name, budget) for name in names}


def _read_dataset(h5py: Any, archive: Any, name: str, budget: _Budget) -> NDArray[Any]:
    if not isinstance(archive.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"{name}: a link, not an array")  # may lead to another file
    dataset = archive[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{name}: expected an array, got {type(dataset).__name__}")
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{name}: keeps its values in other files")
    if dataset.shape is None:
        raise DataError(f"{name}: has no values")
    _require_plain(name, dataset.dtype)
    plist = dataset.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        code = plist.get_filter(index)[0]
        if code not in _HDF5_FILTERS:
            known = ", ".join(_HDF5_FILTERS.values())
            raise DataError(f"{name}: filtered by method {code}; known are {known}")
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    budget.take(name, size + chunk)
    if size and not chunk and dataset.id.get_storage_size() < size:
        raise DataError(f"{name}: {dataset.id.get_storage_size()} bytes, shape {dataset.shape} needs {size}")
    values: NDArray[Any] = dataset[...]
    return values
