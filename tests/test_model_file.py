# SPDX-License-Identifier: Apache-2.0
"""Malformed and hostile model files: a ModelFormatError that says what is wrong, never a crash."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import wavefix as wfx
from factories import ModelFile, random_planar_model
from spherical_models import random_spherical_model

SMALL = {"antennas": 2, "subcarriers": 2, "atoms": 1, "dimension": 1, "hidden": ()}


def pack(header: str | bytes | dict[str, Any], buffer: bytes = b"") -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + buffer


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def refused(data: bytes, message: str | None = None) -> None:
    with pytest.raises(wfx.ModelFormatError, match=message):
        wfx.ChannelModel.from_bytes(data)


def test_truncated_at_every_byte() -> None:
    data = random_planar_model(0, **SMALL).data
    assert wfx.ChannelModel.from_bytes(data).n_atoms == 1
    for length in range(len(data)):
        refused(data[:length])


def test_trailing_bytes() -> None:
    refused(random_planar_model(0, **SMALL).data + b"\0", "end at byte")


@pytest.mark.parametrize("length", [2**20 + 1, 2**31, 2**63, 2**64 - 1, 2**64 - 8])
def test_oversized_header(length: int) -> None:
    refused(length.to_bytes(8, "little") + b"{}" * 10, "header claims")


F64 = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "expected '{'"),
        ("[]", "expected '{'"),
        ("{", "expected '\"'"),
        ("{}x", "after the end"),
        ("{}", "end at byte 0 of 8"),
        ('{"a":1}', "expected '{'"),
        ('{"a":{}}', "lacks dtype"),
        ("[" * 100000, "expected '{'"),
        ('{"a":' * 1000, "unknown key"),
        ('{"a":{"dtype":' + "{" * 1000, "expected '\"'"),
        ('{"a":{"dtype":"F64","shape":[[[1]]],"data_offsets":[0,8]}}', "integer"),
        ('{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8],"dtype":"F64"}}', "duplicate key"),
        ('{"a":{"dtype":"F64","shape":[0],"data_offsets":[0,0]},"\\u0061":{}}', "duplicate key|lacks dtype"),
        ('{"__metadata__":{"x":"1","x":"2"}}', "duplicate key"),
        ('{"__metadata__":{},"__metadata__":{}}', "duplicate key"),
        ('{"__metadata__":{"x":1}}', "expected '\"'"),
        ('{"__metadata__":null}', "expected '{'"),
        ('{"a":{"dtype":"F64","shape":[-1],"data_offsets":[0,8]}}', "integer"),
        ('{"a":{"dtype":"F64","shape":[1.0],"data_offsets":[0,8]}}', "expected"),
        ('{"a":{"dtype":"F64","shape":[01],"data_offsets":[0,8]}}', "leading zero"),
        ('{"a":{"dtype":"F64","shape":[1e3],"data_offsets":[0,8]}}', "expected"),
        ('{"a":{"dtype":"F64","shape":[99999999999999999999],"data_offsets":[0,8]}}', "out of range"),
        ('{"a":{"dtype":"F64","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,8]}}', "more than 8"),
        ('{"a":{"dtype":"F64","shape":[1],"data_offsets":[0]}}', "two data_offsets"),
        ('{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8,8]}}', "more than 2"),
        ('{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8],"x":[]}}', "unknown key"),
        ('{"a":{"dtype":"F64","shape":[1,],"data_offsets":[0,8]}}', "integer"),
        ('{"a\n":{}}', "control character"),
        ('{"a\\x":{}}', "unknown escape"),
        ('{"\\ud800":{}}', "surrogate"),
        ('{"\\udc00":{}}', "surrogate"),
        ('{"\\ud800\\u0041":{}}', "surrogate"),
        ('{"\\u12g4":{}}', "hexadecimal"),
        ('{"\\u12', "hexadecimal"),
        ('{"abc\\', "without an end"),
        (b'{"\xff":{}}', "UTF-8"),
        (b'{"\xc0\x80":{}}', "UTF-8"),
        (b'{"\xe2\x82', "UTF-8"),
        (b'{"\xed\xa0\x80":{}}', "UTF-8"),
        (b'{"\xf5\x80\x80\x80":{}}', "UTF-8"),
    ],
)
def test_bad_header(header: str | bytes, message: str) -> None:
    refused(pack(header, bytes(8)), message)


@pytest.mark.parametrize(
    ("entries", "size", "message"),
    [
        ({"a": F64}, 7, "outside the file"),
        ({"a": F64}, 9, "end at byte 8 of 9"),
        ({"a": F64, "b": F64}, 8, "overlaps"),
        ({"a": F64, "b": F64 | {"data_offsets": [4, 12]}}, 12, "overlaps"),
        ({"a": F64, "b": F64 | {"data_offsets": [16, 24]}}, 24, "gap"),
        ({"a": F64 | {"data_offsets": [8, 16]}}, 16, "gap"),
        ({"a": F64 | {"data_offsets": [8, 0]}}, 8, "outside the file"),
        ({"a": F64 | {"data_offsets": [0, 2**64 - 1]}}, 8, "outside the file"),
        ({"a": F64 | {"shape": [2]}}, 8, "has 8 bytes, its shape needs 16"),
        ({"a": F64 | {"shape": [2**32, 2**32]}}, 8, "overflows"),
        ({"a": F64 | {"shape": [2**61 + 1]}}, 8, "overflows"),
        ({"a": F64 | {"shape": [2**63, 2, 0]}}, 8, "overflows"),
        ({"a": F64 | {"dtype": "I64"}}, 8, "dtype I64"),
        ({"a": F64 | {"dtype": ""}}, 8, "dtype"),
    ],
)
def test_bad_layout(entries: dict[str, Any], size: int, message: str) -> None:
    refused(pack(entries, bytes(size)), message)


def test_a_foreign_safetensors_file() -> None:
    refused(safetensors.numpy.save({"weight": np.zeros((2, 2), np.float32)}), "not a wavefix model")
    refused(safetensors.numpy.save({"weight": np.zeros((2, 2), np.float16)}), "dtype F16")


def _drop(name: str) -> Callable[[ModelFile], object]:
    return lambda file: file.tensors.pop(name)


def _set(name: str, value: Any) -> Callable[[ModelFile], object]:
    return lambda file: file.tensors.update({name: np.asarray(value)})


def _meta(key: str, value: str | None) -> Callable[[ModelFile], object]:
    return lambda file: file.metadata.pop(key) if value is None else file.metadata.update({key: value})


def _fill(name: str, value: float) -> Callable[[ModelFile], object]:
    return lambda file: file.tensors[name].reshape(-1)[-1:].fill(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_meta("format", None), 'lacks "format"'),
        (_meta("format", "other"), '"format": expected "wavefix", got "other"'),
        (_meta("format_version", "2"), '"format_version": expected "1", got "2"'),
        (_meta("kind", None), 'lacks "kind"'),
        (_meta("kind", "cubic"), 'unknown kind "cubic"; known kinds: planar, spherical'),
        (_meta("units", "ft"), '"units"'),
        (_meta("activation", "relu"), '"activation"'),
        (_drop("antenna_positions"), '"antenna_positions" is missing'),
        (_drop("delay.0.weight"), '"delay.0.weight" is missing'),
        (_drop("delay.1.bias"), '"delay.1.bias" is missing'),
        (_drop("weight.1.weight_imag"), '"weight.1.weight_imag" is missing'),
        (_drop("antenna.1.weight"), '"antenna.0.weight": expected shape'),
        (_set("more", np.zeros(2)), 'unexpected tensor "more"'),
        (_set("delay.3.weight", np.zeros((6, 6), np.float32)), 'unexpected tensor "delay.3.weight"'),
        (_set("frequencies", np.ones(8, np.float32)), '"frequencies": expected dtype F64, got F32'),
        (_set("delay.0.bias", np.ones(16)), '"delay.0.bias": expected dtype F32, got F64'),
        (_set("frequencies", np.empty(0)), r'"frequencies": expected shape \(n\), got \(0\)'),
        (_set("antenna_positions", np.zeros((8, 2))), r"expected shape \(n, 3\), got \(8, 2\)"),
        (_set("region.lower", np.zeros(3)), r'"region.lower": expected shape \(2\), got \(3\)'),
        (_set("region.basis", np.zeros((4, 3))), "1 to 3 rows"),
        (_set("region.basis", np.ones((2, 3))), "not orthonormal"),
        (_set("antenna.basis", np.full((1, 3), 0.6)), "not orthonormal"),
        (_set("region.upper", np.full(2, -50.0)), "region.lower is above region.upper"),
        (_set("location.directions", np.zeros((6, 3))), "not a unit vector"),
        (_set("location.directions", np.eye(3)), '"delay.1.weight": expected shape'),
        (_set("weight.1.bias_imag", np.zeros(5, np.float32)), '"weight.1.bias_imag": expected shape'),
        (_fill("frequencies", -1.0), "frequencies: expected positive"),
        (_fill("validation_nmse", -1.0), "validation_nmse"),
        (_fill("delay.0.weight", np.nan), '"delay.0.weight" has a value that is not finite'),
        (_fill("weight.0.bias_imag", np.inf), '"weight.0.bias_imag" has a value that is not finite'),
        (_fill("antenna_positions", -np.inf), '"antenna_positions" has a value that is not finite'),
    ],
)
def test_a_file_that_contradicts_itself(change: Callable[[ModelFile], object], message: str) -> None:
    file = random_planar_model(1)
    change(file)
    refused(file.data, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("source_positions"), '"source_positions" is missing'),
        (_drop("source_rotations"), '"source_rotations" is missing'),
        (_drop("gain_variables"), '"gain_variables" is missing'),
        (_drop("gain_coefficients"), '"gain_coefficients" is missing'),
        (_drop("gate_lines"), '"gate_lines" is missing'),
        (_drop("gate_line_cell"), '"gate_line_cell" is missing'),
        (_drop("gate_cell_source"), '"gate_cell_source" is missing'),
        (_set("source_positions", np.zeros((0, 3))), r"expected shape \(n, 3\), got \(0, 3\)"),
        (_set("source_positions", np.zeros((4, 3), np.float32)), '"source_positions": expected dtype F64, got F32'),
        (_set("source_rotations", np.tile(np.eye(3), (3, 1, 1))), r'"source_rotations": expected shape \(4, 3, 3\)'),
        (_set("source_rotations", np.tile(1.02 * np.eye(3), (4, 1, 1))), "source_rotations: source 0 makes antenna 0"),
        (_set("source_rotations", np.zeros((4, 3, 3))), "source_rotations: source 0"),
        (_set("gain_variables", np.zeros((4, 3, 4))), r'"gain_variables": expected shape \(4, 2, 4\)'),
        (_set("gain_coefficients", np.zeros((4, 6, 2))), '"gain_coefficients": expected dtype F32, got F64'),
        (_set("gain_coefficients", np.zeros((4, 5, 2), np.float32)), r"gain_coefficients: expected .* terms .* got 5"),
        (_set("gain_coefficients", np.zeros((4, 78, 2), np.float32)), "gain_coefficients: .* at most 10, got 78"),
        (_set("gate_lines", np.zeros((3, 5))), r'"gate_lines": expected shape \(n, 6\)'),
        (_set("gate_lines", np.zeros((1, 6))), r'"gate_line_cell": expected shape \(1\)'),
        (_set("gate_cell_source", np.zeros(2)), '"gate_cell_source": expected dtype I32, got F64'),
        (_set("gate_cell_source", np.array([0, 4], np.int32)), "gate_cell_source: expected 0 to 3, got 4 at index 1"),
        (_set("gate_cell_source", np.array([-1, 0], np.int32)), "gate_cell_source: expected 0 to 3, got -1 at index 0"),
        (_set("gate_cell_source", np.array([2, 0], np.int32)), "gate_cell_source: not in ascending order at index 1"),
        (_set("gate_line_cell", np.array([0, 0, 0], np.int32)), "gate_line_cell: cell 1 has no line"),
        (_set("gate_line_cell", np.array([1, 0, 1], np.int32)), "gate_line_cell: not in ascending order at index 1"),
        (_set("gate_line_cell", np.array([0, 1, 2], np.int32)), "gate_line_cell: expected 0 to 1, got 2 at index 2"),
        (_fill("source_positions", np.nan), '"source_positions" has a value that is not finite'),
        (_fill("gain_coefficients", np.inf), '"gain_coefficients" has a value that is not finite'),
        (_fill("gate_lines", -np.inf), '"gate_lines" has a value that is not finite'),
        (_set("weight.scale", np.ones(1)), 'unexpected tensor "weight.scale"'),
    ],
)
def test_a_file_of_virtual_sources_that_contradicts_itself(change: Callable[[ModelFile], object], message: str) -> None:
    file = random_spherical_model(1)
    file.tensors["gate_lines"] = file.tensors["gate_lines"][:3]
    file.tensors["gate_line_cell"] = np.array([0, 0, 1], np.int32)
    file.tensors["gate_cell_source"] = np.array([0, 2], np.int32)
    wfx.ChannelModel.from_bytes(file.data)
    change(file)
    refused(file.data, message)


def test_bytes_come_from_anything_that_is_a_buffer() -> None:
    data = random_spherical_model(1).data
    for same in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        assert wfx.ChannelModel.from_bytes(same).to_bytes() == data  # type: ignore[arg-type]
    for other in (5, 10**15, [1, 2], "text", None):  # bytes() would make as many zeros of a number
        with pytest.raises(TypeError, match="bytes-like"):
            wfx.ChannelModel.from_bytes(other)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_bytes_of_virtual_sources_are_read_or_refused(data: st.DataObject) -> None:
    original = bytearray(random_spherical_model(0, antennas=2, subcarriers=2, sources=2, degree=1).data)
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = wfx.ChannelModel.from_bytes(bytes(original))
    except wfx.ModelFormatError:
        return
    assert model.synthesize(np.zeros((1, 3)), jacobian=True)[1].shape == (1, 3, 2, 2)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_bytes_are_read_or_refused(data: st.DataObject) -> None:
    original = bytearray(random_planar_model(0, **SMALL).data)
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = wfx.ChannelModel.from_bytes(bytes(original))
    except wfx.ModelFormatError:
        return
    assert model.synthesize(np.zeros((1, 3)), jacobian=True)[1].shape == (1, 3, 2, 2)


@settings(max_examples=200, deadline=None)
@given(header=st.text(alphabet='{}[]":,\\u019aé "', max_size=40))
def test_any_text_as_header_is_refused(header: str) -> None:
    refused(pack(header, bytes(8)))


def test_tensors_in_any_order_and_alignment() -> None:
    file = random_planar_model(2)
    header, buffer = unpack(file.data)
    entries = {name: header[name] for name in sorted(header, reverse=True)}
    text = json.dumps(entries) + " " * 3  # an odd start of the buffer
    while len(text) % 2 == 0:
        text += " "
    model = wfx.ChannelModel.from_bytes(pack(text, buffer))
    expected = wfx.ChannelModel.from_bytes(file.data)
    positions = file.positions(2)
    np.testing.assert_array_equal(model.synthesize(positions), expected.synthesize(positions))


def test_paths_that_are_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wfx.ChannelModel.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        wfx.ChannelModel.load(tmp_path)
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(wfx.ModelFormatError, match=r"empty: .*shorter than"):
        wfx.ChannelModel.load(empty)
    if os.name == "posix":
        with pytest.raises(wfx.ModelFormatError, match="shorter than"):
            wfx.ChannelModel.load("/dev/null")


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(1 << 36)
    tracemalloc.start()
    with pytest.raises(wfx.ModelFormatError, match="larger than 1073741824 bytes"):
        wfx.ChannelModel.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    import threading

    data = random_planar_model(3).data
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert wfx.ChannelModel.load(pipe).to_bytes() == data
    writer.join()
