# SPDX-License-Identifier: Apache-2.0
"""Malformed and sound model files: what the fuzzer of the model reader starts from, and what a test refuses one by one.

``python tests/hostile_files.py FOLDER`` writes them out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from factories import ModelFile, random_planar_model
from spherical_models import random_spherical_model

SMALL: dict[str, Any] = {"antennas": 2, "subcarriers": 3, "atoms": 2, "dimension": 2, "hidden": (3,)}
SMALL_SPHERICAL: dict[str, Any] = {"antennas": 2, "subcarriers": 3, "sources": 3, "degree": 1}
Change = Callable[[ModelFile], object]


def pack(header: str | bytes | dict[str, Any], buffer: bytes = b"") -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + buffer


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def sound_models() -> dict[str, ModelFile]:
    """Small models of every kind that load, unlike in what they use."""
    return {
        "planar": random_planar_model(0, **SMALL),
        "planar-shallow": random_planar_model(1, **SMALL | {"hidden": (), "dimension": 1, "atoms": 1}),
        "planar-deep": random_planar_model(2, **SMALL | {"hidden": (2, 3), "dimension": 3, "array_rank": 2}),
        "planar-uneven": random_planar_model(3, **SMALL | {"equispaced": False, "array_rank": 3}),
        "planar-single": random_planar_model(4, **SMALL | {"antennas": 1, "subcarriers": 1, "atoms": 17}),
        "spherical": _spherical(),
        "spherical-no-gates": random_spherical_model(1, **SMALL_SPHERICAL | {"gates": False}),
        "spherical-constant": random_spherical_model(2, **SMALL_SPHERICAL | {"degree": 0, "sources": 1}),
        "spherical-single": random_spherical_model(
            3, **SMALL_SPHERICAL | {"antennas": 1, "subcarriers": 1, "degree": 3}
        ),
        "spherical-spread": random_spherical_model(4, **SMALL_SPHERICAL | {"array": "spread", "equispaced": False}),
    }


def edited(data: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The same buffer under a header that ``edit`` changed."""
    header, buffer = unpack(data)
    edit(header)
    return pack(header, buffer)


def _entry_changes(name: str) -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    def with_entry(**change: Any) -> Callable[[dict[str, Any]], object]:
        return lambda header: header.update({name: header[name] | change})

    yield "huge-shape", with_entry(shape=[2**32, 2**32])
    yield "wrapping-shape", with_entry(shape=[2**61 + 1])
    yield "shape-times-zero", with_entry(shape=[2**63, 2, 0])
    yield "nine-axes", with_entry(shape=[1] * 9)
    yield "nested-shape", with_entry(shape=[[1]])
    yield "negative-shape", with_entry(shape=[-1, 3])
    yield "fraction-shape", with_entry(shape=[1.5])
    yield "reversed-offsets", lambda header: header[name]["data_offsets"].reverse()
    yield "offsets-at-the-end", with_entry(data_offsets=[2**64 - 8, 2**64 - 1])
    yield "offsets-beyond", with_entry(data_offsets=[0, 2**64])
    yield "unknown-key", with_entry(strides=[1])
    yield "foreign-dtype", with_entry(dtype="BF16")
    yield "no-dtype", lambda header: header[name].pop("dtype")


def _layouts(data: bytes) -> Iterator[tuple[str, bytes]]:
    header, buffer = unpack(data)
    names = [name for name in header if name != "__metadata__"]
    for label, edit in _entry_changes(names[0]):
        yield label, edited(data, edit)
    first = header[names[0]]["data_offsets"]
    overlapping = {name: dict(header[name]) for name in header}
    overlapping[names[-1]]["data_offsets"] = [first[0], first[0] + np.diff(header[names[-1]]["data_offsets"]).item()]
    yield "overlapping", pack(overlapping, buffer)
    holed = {name: dict(header[name]) for name in header}
    for name in names:
        if holed[name]["data_offsets"][0] >= first[1]:
            holed[name]["data_offsets"] = [offset + 8 for offset in holed[name]["data_offsets"]]
    yield "holed", pack(holed, buffer[: first[1]] + bytes(8) + buffer[first[1] :])
    yield "trailing", data + bytes(8)
    text = json.dumps(header)
    yield "duplicate-tensor", pack(text[:-1] + "," + json.dumps({names[0]: header[names[0]]})[1:], buffer)
    yield "duplicate-metadata", pack('{"__metadata__":{},' + text[1:], buffer)
    yield "duplicate-key", pack(text.replace('"dtype":', '"dtype":"F64","dtype":', 1), buffer)
    yield "escaped-duplicate", pack(text[:-1] + ',"\\u005f_metadata__":{}}', buffer)
    for length in (0, 1, 2**20 + 1, 2**31, 2**63, 2**64 - 8, 2**64 - 1):
        yield f"header-of-{length}", length.to_bytes(8, "little") + data[8:]


def _json() -> Iterator[tuple[str, bytes]]:
    for label, text in (
        ("empty", ""),
        ("array", "[]"),
        ("deep-arrays", "[" * 5000),
        ("deep-objects", '{"a":' * 5000),
        ("deep-shape", '{"a":{"dtype":"F64","shape":' + "[" * 5000),
        ("deep-metadata", '{"__metadata__":' + '{"x":' * 5000),
        ("surrogate", '{"\\ud800\\u0041":{}}'),
        ("nothing", "{}"),
    ):
        yield label, pack(text, bytes(8))
    yield "not-utf8", pack(b'{"\xed\xa0\x80":{}}')
    yield "foreign", safetensors.numpy.save({"weight": np.zeros((2, 2), np.float32)})
    yield "foreign-half", safetensors.numpy.save({"weight": np.zeros((2, 2), np.float16)}, {"format": "pt"})
    yield "no-bytes", b""


def _numbers(file: Callable[[], ModelFile]) -> Iterator[tuple[str, bytes]]:
    """Each tensor in turn: missing, of another dtype, of another shape, with a value that is not finite."""
    for name in file().tensors:
        for label, change in _tensor_changes(name):
            changed = file()
            change(changed)
            yield f"{name}-{label}", changed.data
    for key, value in (
        ("format_version", "2"),
        ("format_version", "0"),
        ("kind", "cubic"),
        ("units", "ft"),
        ("format", "x"),
    ):
        changed = file()
        changed.metadata[key] = value
        yield f"{key}-{value}", changed.data
        changed.metadata.pop(key)
        yield f"no-{key}", changed.data
    changed = file()
    changed.tensors["more"] = np.zeros(2)
    yield "one-more", changed.data


def _tensor_changes(name: str) -> Iterator[tuple[str, Change]]:
    def to(function: Callable[[np.ndarray[Any, Any]], Any]) -> Change:
        return lambda file: file.tensors.update({name: np.array(function(file.tensors[name]))})

    def with_last(value: float) -> Change:
        def change(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            array = array.astype(np.float64 if array.dtype.kind == "i" else array.dtype)  # no integer is NaN
            array.flat[-1] = value
            return array

        return to(change)

    yield "missing", lambda file: file.tensors.pop(name)
    yield "other-float", to(lambda array: array.astype(np.float32 if array.dtype == np.float64 else np.float64))
    yield "I64", to(lambda array: array.astype(np.int64))
    yield "bool", to(lambda array: array != 0)
    yield "NaN", with_last(np.nan)
    yield "Inf", with_last(-np.inf)
    yield "empty", to(lambda array: array[:0])
    yield "flat", to(lambda array: array.reshape(-1) if array.ndim > 1 else array[None])
    if name != "frequencies":  # twice as many are as good
        yield "doubled", to(lambda array: np.concatenate([array, array], axis=-1))


GATES: dict[str, Change] = {
    "cells-fall": lambda file: file.tensors.update(gate_line_cell=file.tensors["gate_line_cell"][::-1].copy()),
    "cell-skipped": lambda file: file.tensors.update(gate_line_cell=2 * file.tensors["gate_line_cell"]),
    "cell-negative": lambda file: file.tensors.update(gate_line_cell=file.tensors["gate_line_cell"] - 1),
    "cell-huge": lambda file: file.tensors["gate_line_cell"].__setitem__(-1, 2**31 - 1),
    "cells-fewer": lambda file: file.tensors.update(gate_cell_source=file.tensors["gate_cell_source"][:-1]),
    "cells-more": lambda file: file.tensors.update(gate_cell_source=np.repeat(file.tensors["gate_cell_source"], 2)),
    "sources-fall": lambda file: file.tensors.update(gate_cell_source=file.tensors["gate_cell_source"][::-1].copy()),
    "source-beyond": lambda file: file.tensors["gate_cell_source"].__setitem__(-1, 1000),
    "source-negative": lambda file: file.tensors["gate_cell_source"].__setitem__(0, -1),
    "lines-fewer": lambda file: file.tensors.update(gate_lines=file.tensors["gate_lines"][:-1]),
    "lines-narrow": lambda file: file.tensors.update(gate_lines=file.tensors["gate_lines"][:, :5]),
    "lines-only": lambda file: (file.tensors.pop("gate_line_cell"), file.tensors.pop("gate_cell_source")),
}


def malformed_files() -> dict[str, bytes]:
    """None of these is a model."""
    files = dict(_json())
    for kind, make in (("planar", _planar), ("spherical", _spherical)):
        for label, data in (*_layouts(make().data), *_numbers(make)):
            files[f"{kind}-{label}"] = data
    for label, change in GATES.items():
        file = _spherical()
        change(file)
        files[f"spherical-{label}"] = file.data
    return files


def _planar() -> ModelFile:
    return random_planar_model(0, **SMALL)


def _spherical() -> ModelFile:
    """Its cells belong to the first and the last of its three sources."""
    return random_spherical_model(0, **SMALL_SPHERICAL)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: file.data for name, file in sound_models().items()} | malformed_files()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    print(f"{len(files)} files, {sum(map(len, files.values())) / 1e3:.0f} kB, in {folder}")


if __name__ == "__main__":
    main()
