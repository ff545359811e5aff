# SPDX-License-Identifier: Apache-2.0
"""Hostile and damaged dataset files: a DataError that says what is wrong, and no memory that the file cannot fill."""

from __future__ import annotations

import io
import random
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wavefix
from factories import random_planar_model
from wavefix import archives
from wavefix.describe import describe

ARRAYS = {
    "channels": (np.arange(12) + 1j).reshape(2, 2, 3).astype(np.complex64),
    "antenna_positions": np.zeros((2, 3)),
    "frequencies": 3.5e9 + 1e6 * np.arange(3),
    "positions": np.arange(6.0).reshape(2, 3),
}
MEMORY = 4 << 20  # what refusing a small file may take: far above what it needs, far below what hostile files declare


def refused(path: Path, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(wavefix.DataError, match=message):
            wavefix.ChannelDataset.load(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def npy(array: Any, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=pickled)
    return stream.getvalue()


def npy_declaring(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + content


def write_npz(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def test_stored_and_deflated_arrays_of_any_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **{name: np.asfortranarray(array) for name, array in ARRAYS.items()})
    for name, array in archives.read_npz(path, tuple(ARRAYS), ()).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
    np.savez(path, scalar=np.float32(3), empty=np.empty((0, 3)), big_endian=np.arange(3, dtype=">f8"))
    found = archives.read_npz(path, ("scalar", "empty", "big_endian"), ("more",))
    assert found["scalar"] == 3
    assert found["empty"].shape == (0, 3)
    np.testing.assert_array_equal(found["big_endian"], np.arange(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.array([{}], object), pickled=True), "channels: expected plain numbers, got dtype object"),
        (npy(np.array(["text"])), "expected plain numbers, got dtype <U4"),
        (npy(np.zeros(2, [("a", "f4")])), "expected plain numbers"),
        (npy(np.zeros(2, "m8[s]")), "expected plain numbers"),
        (b"", "not a readable"),
        (b"\x93NUM", "not a readable"),
        (b"no array at all", "not a readable"),
        (npy(np.zeros(4))[:-1], "31 bytes, shape"),
        (npy(np.zeros(4)) + b"\0", "33 bytes, shape"),
        (npy_declaring("{'descr': '<c8', 'fortran_order': False, 'shape': (1000000, 1000, 1000)}"), "0 bytes, shape"),
        (npy_declaring("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"), "0 bytes"),
        (npy_declaring("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)), r"shape \(-1, -1\)"),
        (npy_declaring("{'descr': '<f8', 'fortran_order': False, 'shape': (1.5,)}", bytes(8)), "not a readable"),
        (npy_declaring("{'descr': '|V2000000000', 'fortran_order': False, 'shape': (1,)}"), "plain numbers"),
        (npy_declaring("{'descr': 'O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n."), "got dtype object"),
        (npy_declaring("{'descr': '<f8', 'shape': (1,)}"), "not a readable"),
        (npy_declaring("__import__('os').getpid()"), "not a readable"),
        (npy_declaring("(" * 9000), "not a readable|cannot be parsed"),
        (npy_declaring("-" * 9000 + "1"), "not a readable|cannot be parsed"),
        (npy_declaring("{'descr': " + "[" * 150 + "]" * 150 + "}"), "not a readable|cannot be parsed"),
        (npy_declaring(" " * 60000, version=b"\x02\x00"), "not a readable"),
        (npy_declaring("{}", version=b"\x03\x00"), "version 3.0"),
        (npy_declaring("{}", version=b"\x09\x00"), "version 9.0|not a readable"),
        (b"\x93NUMPY\x01\x00\xff\xff{}", "not a readable"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "not a readable"),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_hostile_arrays(content: bytes, message: str, compression: int, tmp_path: Path) -> None:
    members = {name: npy(array) for name, array in ARRAYS.items()} | {"channels": content}
    write_npz(tmp_path / "data.npz", members, compression)
    refused(tmp_path / "data.npz", message)


def test_a_zip_bomb_is_refused_before_it_is_expanded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    rows = archives.MOST_BYTES // 48 + 1
    header = f"{{'descr': '<c8', 'fortran_order': False, 'shape': ({rows}, 2, 3)}}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("channels.npy", "w", force_zip64=True) as member:
            member.write(npy_declaring(header))
            left = 48 * rows
            while left:
                left -= member.write(bytes(min(left, 1 << 20)))
        for name in ("antenna_positions", "frequencies"):
            archive.writestr(f"{name}.npy", npy(ARRAYS[name]))
    assert path.stat().st_size < archives.MOST_BYTES / 200
    refused(path, r"channels: asks for \d+ bytes of memory, more than a file of \d+ bytes may expand to")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method: int, tmp_path: Path) -> None:
    write_npz(tmp_path / "data.npz", {name: npy(array) for name, array in ARRAYS.items()}, method)
    refused(tmp_path / "data.npz", "compressed by a method other than deflate")


def test_an_array_that_stands_in_it_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **ARRAYS)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("channels.npy", npy(np.zeros((2, 2, 3), np.complex64)))
    refused(path, "channels: stands in it twice")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(signature, at + 1)
    path.write_bytes(content)
    refused(path, "encrypted")


@pytest.mark.parametrize("name", ["data.npz", "data.h5"])
def test_truncated_at_every_byte(name: str, tmp_path: Path) -> None:
    if name.endswith("h5"):
        pytest.importorskip("h5py")
    path = tmp_path / name
    wavefix.ChannelDataset(**ARRAYS).save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 1 if name.endswith("npz") else 7):
        path.write_bytes(content[:length])
        with pytest.raises(wavefix.DataError, match=name):
            wavefix.ChannelDataset.load(path)


def test_any_changed_bytes_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **ARRAYS)
    content = path.read_bytes()
    generator = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1500):
        changed = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            changed[generator.randrange(len(changed))] = generator.choice((0, 1, 0x7F, 0xFF, generator.randrange(256)))
        path.write_bytes(changed)
        try:
            wavefix.ChannelDataset.load(path)
            outcomes["read"] += 1
        except (wavefix.Error, TypeError):
            outcomes["refused"] += 1
    assert outcomes["refused"] > 500  # the changes do reach what is checked
    assert outcomes["read"] > 0


def _external(h5py: Any, archive: Any) -> None:
    archive.create_dataset("channels", (2, 2, 3), "c8", external=[("/etc/hostname", 0, 96)])


def _virtual(h5py: Any, archive: Any) -> None:
    layout = h5py.VirtualLayout((2, 2, 3), "c8")
    layout[...] = h5py.VirtualSource("other.h5", "channels", (2, 2, 3))
    archive.create_virtual_dataset("channels", layout)


def _unallocated_chunk(h5py: Any, archive: Any) -> None:
    big = (1 << 13, 1 << 13, 1)
    archive.create_dataset("channels", (2, 2, 3), "c8", maxshape=(None, None, None), chunks=big)


def _strange_filter(h5py: Any, archive: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 2, 3))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((2, 2, 3))
    h5py.h5d.create(archive.id, b"channels", h5py.h5t.py_create(np.dtype("c8")), space, plist)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda h5py, archive: archive.create_group("channels"), "expected an array, got Group"),
        (lambda h5py, archive: archive.update(channels=h5py.SoftLink("/positions")), "a link, not an array"),
        (lambda h5py, archive: archive.update(channels=h5py.ExternalLink("x.h5", "/a")), "a link, not an array"),
        (lambda h5py, archive: archive.update(channels="text"), "expected plain numbers"),
        (lambda h5py, archive: archive.update(channels=h5py.Empty("f4")), "has no values"),
        (lambda h5py, archive: archive.create_dataset("channels", (1 << 30, 2, 3), "c8"), "asks for"),
        (lambda h5py, archive: archive.create_dataset("channels", (1 << 60, 2, 3), "c8", chunks=(1, 2, 3)), "asks for"),
        (lambda h5py, archive: archive.create_dataset("channels", (1000, 2, 3), "c8"), "0 bytes, shape"),
        (_external, "values in other files"),
        (_virtual, "values in other files"),
        (_unallocated_chunk, "asks for"),
        (_strange_filter, "filtered by method 32015"),
    ],
)
def test_hostile_hdf5(make: Any, message: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as archive:
        make(h5py, archive)
        archive.update({name: array for name, array in ARRAYS.items() if name != "channels"})
    refused(path, message)


def test_compressed_hdf5_is_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as archive:
        for index, (name, array) in enumerate(ARRAYS.items()):
            archive.create_dataset(name, data=array, compression=("gzip", "lzf")[index % 2], fletcher32=True)
    np.testing.assert_array_equal(wavefix.ChannelDataset.load(path).channels, ARRAYS["channels"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": np.zeros((2, 2))}, "position: expected float64"),
        ({"position": np.float64(0)}, "position: expected float64"),
        ({"residual": np.zeros(3)}, "residual: expected float64"),
        ({"covariance": np.zeros((2, 3, 3), np.float32)}, "covariance: expected float64"),
        ({"status": np.array([0, 9], np.uint8)}, "status: a value"),
    ],
)
def test_hostile_fixes(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {
        "position": np.zeros((2, 3)),
        "covariance": np.zeros((2, 3, 3)),
        "status": np.zeros(2, np.uint8),
        "residual": np.zeros(2),
        "ambiguity": np.zeros(2),
    }
    path = tmp_path / "fixes.npz"
    np.savez(path, **arrays)
    assert len(wavefix.Fixes.load(path)) == 2
    np.savez(path, **arrays | change)
    for read in (wavefix.Fixes.load, describe):
        with pytest.raises(wavefix.DataError, match=message):
            read(path)


@pytest.mark.parametrize("content", [b"[" * 100000, b'{"walls":' * 100000, b"1" * 10000, b"\xff", b'{"walls": NaN}'])
def test_hostile_scenes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scene.json"
    path.write_bytes(content)
    with pytest.raises(wavefix.DataError, match=r"scene\.json"):
        wavefix.Scene.load(path)


def test_a_deep_training_record_does_not_hide_the_model(tmp_path: Path) -> None:
    file = random_planar_model(0)
    file.metadata["training"] = "[" * 100000
    (tmp_path / "model.safetensors").write_bytes(file.data)
    record = describe(tmp_path / "model.safetensors")
    assert record["training"] is None
    assert record["atoms"] == 6


def test_no_pickle_anywhere() -> None:
    sources = Path(wavefix.__file__).parent.rglob("*.py")
    words = ("import pickle", "allow_pickle=True", "torch.load", "torch.save", "marshal", "joblib", "eval(", "exec(")
    found = [
        f"{path.name}: {word}"
        for path in sources
        for line in path.read_text().splitlines()
        for word in words
        if word in line.replace(".eval()", "") and not line.lstrip().startswith("#")
    ]
    assert not found


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless file here")
def test_models_and_scenes_take_no_more_memory_than_they_have_bytes(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(random_planar_model(0).data)
    tracemalloc.start()
    try:
        wavefix.ChannelModel.load(tmp_path / "model")
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    with pytest.raises(wavefix.DataError, match="a scene of more than"):
        wavefix.Scene.load("/dev/zero")
