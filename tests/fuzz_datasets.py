# SPDX-License-Identifier: Apache-2.0
"""Fuzzes the reader of datasets: ``python tests/fuzz_datasets.py SECONDS [SEED]``.

Damaged .npz and HDF5 files are read by a process of its own with bounded memory. A file is read, or refused with one of
the package's errors; another exception, a signal, memory beyond the bound or twenty seconds are findings, and the file
is kept. Signals and stalls inside of the HDF5 library, which `ChannelDataset.load` warns of, are counted.
"""

from __future__ import annotations

import faulthandler
import io
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"
FILES = 2000  # that one process reads
PATIENCE = 20  # seconds for one file
# What any small file may ask for is 256 MiB; its checks hold a copy and masks of that.
MEMORY = 1 << 30
NUMBERS = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
FINDING = 3


def seeds() -> list[tuple[str, bytes]]:
    """Small sound files, unlike in how their bytes are laid out."""
    import h5py

    found = [(path.suffix, path.read_bytes()) for path in sorted(GOLDEN.glob("*/dataset.*"))]
    arrays = {
        "channels": (np.arange(12) + 1j).reshape(2, 2, 3).astype(np.complex64),
        "antenna_positions": np.zeros((2, 3)),
        "frequencies": 3.5e9 + 1e6 * np.arange(3),
        "positions": np.arange(6.0).reshape(2, 3),
    }
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, **arrays)
        found.append((".npz", stream.getvalue()))
    for options in ({}, {"chunks": True, "compression": "gzip", "shuffle": True}, {"chunks": True, "fletcher32": True}):
        stream = io.BytesIO()
        with h5py.File(stream, "w", libver="latest" if options else "earliest") as archive:
            for name, array in arrays.items():
                archive.create_dataset(name, data=array, **options)
        found.append((".h5", stream.getvalue()))
    return found


def damaged(generator: random.Random, data: bytes) -> bytes:
    """One to four bytes, numbers or pieces of it changed."""
    out = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        if not out:
            break
        at = generator.randrange(len(out))
        kind = generator.randrange(6)
        if kind == 0:
            out[at] = generator.randrange(256)
        elif kind == 1:
            out[at] ^= 1 << generator.randrange(8)
        elif kind == 2:
            size, code = generator.choice(((2, "H"), (4, "I"), (8, "Q")))
            out[at : at + size] = struct.pack("<" + code, generator.choice(NUMBERS) % 2 ** (8 * size))
        elif kind == 3:
            del out[at : at + generator.randint(1, 16)]
        elif kind == 4:
            out[at:at] = out[at : at + generator.randint(1, 64)]
        elif generator.random() < 0.2:
            del out[at:]
    return bytes(out)


def one_after_another(generator: random.Random) -> Iterator[tuple[str, bytes]]:
    pool = seeds()
    while True:
        suffix, data = generator.choice(pool)
        yield suffix, damaged(generator, data)


def read_some(folder: Path, seed: int, deadline: float) -> int:
    """The work of one process."""
    import wavefix
    from wavefix.describe import describe

    faulthandler.enable()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    files = read = 0
    for suffix, data in one_after_another(random.Random(seed)):
        if files == FILES or time.time() > deadline:
            break
        files += 1
        path = folder / f"current{suffix}"
        path.write_bytes(data)
        signal.alarm(PATIENCE)
        for reader in (wavefix.ChannelDataset.load, describe):
            try:
                reader(path)
                read += 1
            except wavefix.Error as error:
                if len(str(error)) < 10:
                    print(f"no reason given: {error!r}, the file is {path}", flush=True)
                    return FINDING
            except Exception:
                traceback.print_exc()
                print(f"the file is {path}", flush=True)
                return FINDING
        signal.alarm(0)
        path.unlink()
    print(files, read)
    return 0


def main() -> int:
    if sys.argv[1] == "--read":
        return read_some(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**30)
    folder = Path(tempfile.mkdtemp(prefix="wavefix-fuzz-"))
    begin, total, accepted, died = time.time(), 0, 0, 0
    print(f"{seconds:.0f} s from seed {seed}", flush=True)
    while time.time() < begin + seconds:
        seed += 1
        command = [sys.executable, __file__, "--read", str(folder), str(seed), str(begin + seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode < 0 and list(folder.glob("*.h5")):  # documented: the HDF5 library is not proof against all
            died += 1
        elif done.returncode != 0:
            print(f"{done.stdout}{done.stderr}finding: status {done.returncode}, see {folder}", file=sys.stderr)
            return FINDING
        else:
            files, read = map(int, done.stdout.split())
            total, accepted = total + files, accepted + read
        for path in folder.iterdir():
            path.unlink()
    shutil.rmtree(folder)
    print(f"{total} files, {accepted} of {2 * total} readings accepted them, no finding")
    print(f"the HDF5 library crashed or stalled at {died} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
