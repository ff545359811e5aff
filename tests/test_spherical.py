# SPDX-License-Identifier: Apache-2.0
"""Models of virtual sources against the equations and finite differences; invariants; their writer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import wavefix as wfx
from factories import ModelFile
from reference.spherical import gate, spherical_channels, spherical_jacobian
from spherical_models import random_spherical_model, split_tree
from wavefix.region import Region
from wavefix.spherical import SphericalParameters, gain_terms

# What is promised: relative to the norm, against float64.
ACCURACY = 1e-6

SHAPES = [
    {},
    {"antennas": 64, "subcarriers": 64, "sources": 12},
    {"antennas": 9, "subcarriers": 5, "array": "plane", "dimension": 3, "degree": 3},
    {"antennas": 12, "subcarriers": 17, "array": "spread", "dimension": 1, "equispaced": False, "degree": 0},
    {"antennas": 33, "subcarriers": 37, "sources": 25, "gates": False, "degree": 4},
    {"antennas": 1, "subcarriers": 1, "sources": 1, "dimension": 1},
    {"antennas": 1, "subcarriers": 100, "sources": 3, "gates": False},
    {"antennas": 17, "subcarriers": 1, "sources": 5, "bandwidth": 0.0, "degree": 1},
    {"antennas": 16, "subcarriers": 256, "sources": 6, "bandwidth": 400e6},
    {"antennas": 4, "subcarriers": 9, "center_frequency": 60e9, "bandwidth": 2e9, "array": "spread"},
]


def difference(got: NDArray[np.inexact], expected: NDArray[np.inexact]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def model_of(file: ModelFile) -> wfx.ChannelModel:
    return wfx.ChannelModel.from_bytes(file.data)


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_is_the_equation(shape: dict) -> None:
    file = random_spherical_model(1, **shape)
    positions = file.positions(5)
    got = model_of(file).synthesize(positions)
    assert got.dtype == np.complex64
    assert difference(got, spherical_channels(file.tensors, positions)) < ACCURACY


@pytest.mark.parametrize("shape", SHAPES)
def test_jacobian_is_the_slope_of_the_equation(shape: dict) -> None:
    file = random_spherical_model(2, **shape)
    positions = file.positions(2)
    wavelength = 299792458.0 / file.tensors["frequencies"].mean()
    step = 0.01 * wavelength  # (2 pi 0.01)^6 / 140 is 4e-10; rounding, 1e-16 x 30 m / step, is below 2e-11 there
    expected = np.array([spherical_jacobian(file.tensors, position, step) for position in positions])
    channels, jacobian = model_of(file).synthesize(positions, jacobian=True)
    np.testing.assert_array_equal(channels, model_of(file).synthesize(positions))
    assert difference(jacobian, expected) < ACCURACY


def test_the_gates_of_these_models_open_and_close() -> None:
    file = random_spherical_model(3, sources=12, antennas=2)
    open_ = [
        gate(file.tensors, source, position, file.tensors["source_positions"][source])
        for source in range(0, 12, 2)
        for position in file.positions(10)
    ]
    assert 0 <= min(open_) < 1e-3
    assert 0.999 < max(open_) < 1 + 1e-12  # leaves of a tree exclude each other
    assert sum(0.1 < g < 0.9 for g in open_) >= 3


def test_a_source_that_all_leaves_see_is_seen_everywhere() -> None:
    file = random_spherical_model(10, sources=2, antennas=20, dimension=3, gates=False)
    positions = file.positions(8)
    without = model_of(file).synthesize(positions, jacobian=True)
    rng = np.random.default_rng(10)
    trees = [split_tree(rng, center - file.tensors["region.origin"], 4) for center in file.tensors["source_positions"]]
    leaves = [leaf for tree in trees for leaf in tree]
    file.tensors["gate_lines"] = np.array([line for leaf in leaves for line in leaf])
    file.tensors["gate_line_cell"] = np.repeat(np.arange(10, dtype=np.int32), [len(leaf) for leaf in leaves])
    file.tensors["gate_cell_source"] = np.repeat(np.arange(2, dtype=np.int32), 5)
    for got, expected in zip(model_of(file).synthesize(positions, jacobian=True), without, strict=True):
        assert difference(got, expected) < ACCURACY


def test_closed_gates_give_a_zero_channel() -> None:
    file = random_spherical_model(4, sources=1)
    lines = file.tensors["gate_lines"]
    # x' and s' are below 50 m: a moment along the region's first axis alone, sure to be negative, closes every cell
    away = file.tensors["region.origin"] - file.tensors["source_positions"][0]
    lines[:] = 0
    lines[:, :3] = -100 * away / (away @ away)
    channels, jacobian = model_of(file).synthesize(file.positions(3), jacobian=True)
    assert not channels.any()
    assert not jacobian.any()


def test_sharp_gates_switch_sources_as_a_step_does() -> None:
    file = random_spherical_model(5, sources=6, antennas=20)
    file.tensors["gate_lines"] = 1e6 * file.tensors["gate_lines"]
    positions = file.positions(20)
    assert difference(model_of(file).synthesize(positions), spherical_channels(file.tensors, positions)) < ACCURACY


def test_a_source_without_cells_is_seen_everywhere() -> None:
    file = random_spherical_model(6)
    without = ModelFile({n: t for n, t in file.tensors.items() if not n.startswith("gate")}, file.metadata)
    only = ModelFile(dict(without.tensors), file.metadata)
    for name in ("source_positions", "source_rotations", "gain_variables", "gain_coefficients"):
        only.tensors[name] = file.tensors[name][1::2]
        file.tensors[name] = file.tensors[name][::2]
    file.tensors["gate_cell_source"] = file.tensors["gate_cell_source"] // 2
    positions = file.positions(4)
    both = random_spherical_model(6)
    parts = model_of(file).synthesize(positions) + model_of(only).synthesize(positions)
    assert difference(model_of(both).synthesize(positions), parts) < ACCURACY


@pytest.mark.parametrize("jacobian", [False, True])
def test_batch_and_threads_do_not_matter(jacobian: bool) -> None:
    file = random_spherical_model(7, antennas=13, subcarriers=29, sources=21, dimension=3)
    model = model_of(file)
    positions = file.positions(27)

    def run(index: slice, threads: int) -> list[bytes]:
        result = model.synthesize(positions[index], jacobian=jacobian, threads=threads)
        return [part.tobytes() for part in (result if jacobian else (result,))]

    whole = run(slice(None), 1)
    for threads in (0, 2, 3):
        assert run(slice(None), threads) == whole
    for size in (1, 2, 5, 9):
        pieces = [run(slice(start, start + size), 1) for start in range(0, 27, size)]
        assert [b"".join(parts) for parts in zip(*pieces, strict=True)] == whole


seeds = st.integers(0, 2**20)
arrays = st.sampled_from(("line", "plane", "spread"))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, array=arrays)
def test_antennas_may_be_reordered(seed: int, array: str) -> None:
    file = random_spherical_model(seed, array=array, antennas=21)
    positions = file.positions(2)
    before = model_of(file).synthesize(positions)
    order = np.random.default_rng(seed).permutation(21)
    file.tensors["antenna_positions"] = file.tensors["antenna_positions"][order]
    assert difference(model_of(file).synthesize(positions), before[:, order]) < ACCURACY


@settings(max_examples=25, deadline=None)
@given(seed=seeds, array=arrays, shift=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_shifting_the_scene_changes_nothing(seed: int, array: str, shift: list[float]) -> None:
    file = random_spherical_model(seed, array=array)
    positions = file.positions(2)
    before = model_of(file).synthesize(positions)
    for name in ("antenna_positions", "region.origin", "source_positions"):
        file.tensors[name] = file.tensors[name] + shift
    assert difference(model_of(file).synthesize(positions + shift), before) < ACCURACY


@settings(max_examples=25, deadline=None)
@given(seed=seeds, array=arrays, dimension=st.integers(1, 3))
def test_rotating_the_scene_rotates_the_jacobian(seed: int, array: str, dimension: int) -> None:
    file = random_spherical_model(seed, dimension=dimension, array=array)
    positions = file.positions(2)
    before, slope = model_of(file).synthesize(positions, jacobian=True)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    turn *= np.linalg.det(turn)  # a proper rotation: moments are pseudovectors
    tensors = file.tensors
    for name in ("antenna_positions", "region.origin", "region.basis", "source_positions"):
        tensors[name] = tensors[name] @ turn.T
    tensors["source_rotations"] = turn @ tensors["source_rotations"] @ turn.T
    tensors["gain_variables"][..., :3] = tensors["gain_variables"][..., :3] @ turn.T
    tensors["gate_lines"] = (tensors["gate_lines"].reshape(-1, 2, 3) @ turn.T).reshape(-1, 6)
    after, turned = model_of(file).synthesize(positions @ turn.T, jacobian=True)
    assert difference(after, before) < ACCURACY
    assert difference(np.einsum("ab,nbjk->najk", turn.T, turned), slope) < ACCURACY


@settings(max_examples=25, deadline=None)
@given(seed=seeds, phase=st.floats(-np.pi, np.pi))
def test_a_common_phase_of_the_gains_turns_the_channel(seed: int, phase: float) -> None:
    file = random_spherical_model(seed)
    positions = file.positions(2)
    before = model_of(file).synthesize(positions)
    gains = file.tensors["gain_coefficients"] @ np.array([1, 1j]) * np.exp(1j * phase)
    file.tensors["gain_coefficients"] = np.stack((gains.real, gains.imag), axis=-1).astype(np.float32)
    assert difference(model_of(file).synthesize(positions), before * np.exp(1j * phase)) < ACCURACY


def test_a_position_on_a_source_stays_finite() -> None:
    file = random_spherical_model(8, antennas=1, gates=False)
    channels, jacobian = model_of(file).synthesize(file.tensors["source_positions"][:1], jacobian=True)
    assert np.isfinite(channels).all()
    assert np.isfinite(jacobian).all()
    far = model_of(file).synthesize([[1e300, -1e300, 1e300]])  # no crash, no promise
    assert far.shape == (1, 1, 8)


def parameters_of(file: ModelFile) -> SphericalParameters:
    tensors = dict(file.tensors)
    region = Region(*(tensors.pop(f"region.{name}") for name in ("origin", "basis", "lower", "upper")))
    nmse = float(tensors.pop("validation_nmse")[0])
    return SphericalParameters(region=region, validation_nmse=nmse, metadata={"training": "{}"}, **tensors)


@pytest.mark.parametrize("gates", [False, True])
def test_the_writer_writes_what_is_read(gates: bool) -> None:
    file = random_spherical_model(9, gates=gates)
    parameters = parameters_of(file)
    model = wfx.ChannelModel.from_bytes(parameters.to_bytes())
    assert model.kind == "spherical"
    assert model.n_atoms == 4
    assert model.validation_nmse == 1e-5
    assert model.metadata["training"] == "{}"
    assert parameters.tensors().keys() == file.tensors.keys()
    positions = file.positions(3)
    np.testing.assert_array_equal(model.synthesize(positions), model_of(file).synthesize(positions))


def test_the_writer_wants_all_gate_arrays_or_none() -> None:
    parameters = parameters_of(random_spherical_model(9))
    object.__setattr__(parameters, "gate_line_cell", None)
    with pytest.raises(ValueError, match="all or none"):
        parameters.to_bytes()


def test_terms_are_graded() -> None:
    assert gain_terms(2) == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
