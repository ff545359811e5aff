# SPDX-License-Identifier: Apache-2.0
"""Channel models against the equation, torch and finite differences; invariants; the Python class."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import wavefix as wfx
from factories import random_planar_model
from reference.channel_model import planar_channels, planar_jacobian

# Phases are computed in float64, tables and sums in float32: errors of a few units in the last place (6e-8) for each
# entry of a table, at random signs in the sum.
ACCURACY = 2e-6

SHAPES = [
    {},
    {"antennas": 64, "subcarriers": 64, "atoms": 50, "hidden": (32, 32)},
    {"antennas": 9, "subcarriers": 5, "array_rank": 2, "dimension": 3, "equispaced": False},
    {"antennas": 6, "subcarriers": 37, "array_rank": 3, "dimension": 1, "hidden": (), "equispaced": False},
    {"antennas": 33, "subcarriers": 17, "atoms": 17, "dimension": 3, "hidden": (7, 19, 5)},
    {"antennas": 1, "subcarriers": 1, "atoms": 1, "dimension": 1},
    {"antennas": 2, "subcarriers": 100, "atoms": 33, "hidden": (20,)},
]


def difference(got: NDArray[np.inexact], expected: NDArray[np.inexact]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_is_the_equation(shape: dict) -> None:
    file = random_planar_model(1, **shape)
    positions = file.positions(5)
    expected = planar_channels(file.tensors, positions)
    got = wfx.ChannelModel.from_bytes(file.data).synthesize(positions)
    assert got.dtype == np.complex64
    assert difference(got, expected) < ACCURACY


@pytest.mark.parametrize("shape", SHAPES)
def test_jacobian_is_the_slope_of_the_equation(shape: dict) -> None:
    file = random_planar_model(2, **shape)
    positions = file.positions(2)
    expected = np.array([planar_jacobian(file.tensors, position) for position in positions])
    channels, jacobian = wfx.ChannelModel.from_bytes(file.data).synthesize(positions, jacobian=True)
    assert difference(channels, planar_channels(file.tensors, positions)) < ACCURACY
    assert difference(jacobian, expected) < ACCURACY


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_torch_agrees(shape: dict, precision: str) -> None:
    torch = pytest.importorskip("torch")
    from reference.torch_planar import TorchPlanar

    file = random_planar_model(3, **shape)
    positions = file.positions(4)
    peer = TorchPlanar(file.tensors, getattr(torch, precision))
    channels, jacobian = wfx.ChannelModel.from_bytes(file.data).synthesize(positions, jacobian=True)
    # float32 networks lose digits that the phases then magnify by up to 2 pi 16 wavelengths
    tolerance = 1e-5 if precision == "float64" else 1e-4
    assert difference(channels, peer(torch.from_numpy(positions)).detach().numpy()) < tolerance
    assert difference(jacobian, peer.jacobian(positions)) < tolerance


def test_atoms_left_out_do_not_show() -> None:
    file = random_planar_model(4, atoms=40, antennas=16, subcarriers=16)
    for part in ("real", "imag"):  # weights over ten orders of magnitude
        file.tensors[f"weight.1.bias_{part}"][::2] = 20
        file.tensors[f"weight.1.bias_{part}"][1::4] = 5
    positions = file.positions(6)
    channels, jacobian = wfx.ChannelModel.from_bytes(file.data).synthesize(positions, jacobian=True)
    assert difference(channels, planar_channels(file.tensors, positions)) < ACCURACY
    expected = np.array([planar_jacobian(file.tensors, position) for position in positions])
    assert difference(jacobian, expected) < ACCURACY


def test_zero_weights_give_a_zero_channel() -> None:
    file = random_planar_model(5)
    file.tensors["weight.scale"][:] = 0
    channels, jacobian = wfx.ChannelModel.from_bytes(file.data).synthesize(file.positions(2), jacobian=True)
    assert not channels.any()
    assert not jacobian.any()


@pytest.mark.parametrize("jacobian", [False, True])
def test_batch_and_threads_do_not_matter(jacobian: bool) -> None:
    file = random_planar_model(6, antennas=13, subcarriers=29, atoms=21, hidden=(24, 24), dimension=3)
    model = wfx.ChannelModel.from_bytes(file.data)
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


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), equispaced=st.booleans(), rank=st.integers(1, 3))
def test_antennas_may_be_reordered(seed: int, equispaced: bool, rank: int) -> None:
    file = random_planar_model(seed, equispaced=equispaced, array_rank=rank)
    positions = file.positions(2)
    before = wfx.ChannelModel.from_bytes(file.data).synthesize(positions)
    order = np.random.default_rng(seed).permutation(8)
    file.tensors["antenna_positions"] = file.tensors["antenna_positions"][order]
    after = wfx.ChannelModel.from_bytes(file.data).synthesize(positions)
    assert difference(after, before[:, order]) < ACCURACY


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), shift=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_shifting_the_scene_changes_nothing(seed: int, shift: list[float]) -> None:
    file = random_planar_model(seed)
    positions = file.positions(2)
    before = wfx.ChannelModel.from_bytes(file.data).synthesize(positions)
    file.tensors["antenna_positions"] = file.tensors["antenna_positions"] + shift
    file.tensors["region.origin"] = file.tensors["region.origin"] + shift
    after = wfx.ChannelModel.from_bytes(file.data).synthesize(positions + shift)
    assert difference(after, before) < ACCURACY


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), dimension=st.integers(1, 3))
def test_rotating_the_scene_rotates_the_jacobian(seed: int, dimension: int) -> None:
    file = random_planar_model(seed, dimension=dimension, array_rank=2, equispaced=False)
    positions = file.positions(2)
    before, slope = wfx.ChannelModel.from_bytes(file.data).synthesize(positions, jacobian=True)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    for name in ("antenna_positions", "region.origin", "region.basis", "location.directions", "antenna.basis"):
        file.tensors[name] = file.tensors[name] @ rotation.T
    after, turned = wfx.ChannelModel.from_bytes(file.data).synthesize(positions @ rotation.T, jacobian=True)
    assert difference(after, before) < ACCURACY
    assert difference(np.einsum("ab,nbjk->najk", rotation.T, turned), slope) < ACCURACY


def test_off_the_plane_the_location_phase_goes_on() -> None:
    file = random_planar_model(7, dimension=2)
    normal = np.cross(*file.tensors["region.basis"])
    positions = file.positions(3) + 0.4 * normal
    got = wfx.ChannelModel.from_bytes(file.data).synthesize(positions)
    assert difference(got, planar_channels(file.tensors, positions)) < ACCURACY


def test_properties() -> None:
    file = random_planar_model(8, antennas=5, subcarriers=7, atoms=3)
    data = file.data
    model = wfx.ChannelModel.from_bytes(data)
    assert model.kind == "planar"
    assert model.n_atoms == 3
    assert model.nbytes == len(data)
    assert model.to_bytes() == data
    assert model.metadata == file.metadata
    assert model.validation_nmse == 1e-4
    frequencies = file.tensors["frequencies"]
    assert model.wavelength == pytest.approx(299792458.0 / (frequencies.min() / 2 + frequencies.max() / 2), rel=1e-14)
    np.testing.assert_array_equal(model.antenna_positions, file.tensors["antenna_positions"])
    np.testing.assert_array_equal(model.frequencies, frequencies)
    for name in ("origin", "basis", "lower", "upper"):
        np.testing.assert_array_equal(getattr(model.region, name), file.tensors[f"region.{name}"])
    assert "planar" in repr(model)
    assert "5 antennas x 7 subcarriers" in repr(model)


def test_metadata_in_any_script() -> None:
    file = random_planar_model(8)
    file.metadata["training"] = 'Ωµ "quoted" \\ \n\t \u0001 😀'
    assert wfx.ChannelModel.from_bytes(file.data).metadata == file.metadata


def test_save_and_load(tmp_path: Path) -> None:
    model = wfx.ChannelModel.from_bytes(random_planar_model(9).data)
    path = tmp_path / "scene.safetensors"
    path.write_bytes(b"old")
    model.save(path)
    assert wfx.ChannelModel.load(path).to_bytes() == model.to_bytes()
    assert os.listdir(tmp_path) == ["scene.safetensors"]


def test_pickle_and_copy() -> None:
    file = random_planar_model(10)
    model = wfx.ChannelModel.from_bytes(file.data)
    expected = model.synthesize(file.positions(2))
    for other in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy([model])[0]):
        assert other.synthesize(file.positions(2)).tobytes() == expected.tobytes()


def test_out_is_filled_and_returned() -> None:
    file = random_planar_model(11)
    model = wfx.ChannelModel.from_bytes(file.data)
    positions = file.positions(3)
    channels, jacobian = np.empty((3, 8, 8), np.complex64), np.empty((3, 3, 8, 8), np.complex64)
    assert model.synthesize(positions, out=channels) is channels
    pair = model.synthesize(positions, jacobian=True, out=(np.empty_like(channels), jacobian))
    assert pair[1] is jacobian
    np.testing.assert_array_equal(pair[0], channels)
    with pytest.raises(wfx.ShapeError, match=r"out: expected shape \(3, 8, 8\), got \(2, 8, 8\)"):
        model.synthesize(positions, out=channels[:2])
    with pytest.raises(TypeError, match="pair"):
        model.synthesize(positions, jacobian=True, out=channels)  # type: ignore[call-overload]


def test_positions_are_checked() -> None:
    model = wfx.ChannelModel.from_bytes(random_planar_model(12).data)
    assert model.synthesize(np.empty((0, 3))).shape == (0, 8, 8)
    assert model.synthesize(np.empty((0, 3)), jacobian=True)[1].shape == (0, 3, 8, 8)
    assert model.synthesize([[0, 1, 2]]).shape == (1, 8, 8)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(wfx.DataError, match=r"positions: .* index 1"):
            model.synthesize([[0.0, 0, 0], [0, bad, 0]])
    for shape in ((3,), (2, 2), (1, 2, 3)):
        with pytest.raises(wfx.ShapeError, match="positions"):
            model.synthesize(np.zeros(shape))
    with pytest.raises(TypeError, match="positions"):
        model.synthesize(np.zeros((1, 3), complex))
    with pytest.raises(ValueError, match="threads"):
        model.synthesize(np.zeros((1, 3)), threads=-1)
    far = model.synthesize([[1e300, -1e300, 1e300]])  # no crash, no promise
    assert far.shape == (1, 8, 8)


def test_a_model_is_shared_between_threads() -> None:
    file = random_planar_model(13, antennas=16, subcarriers=16)
    model = wfx.ChannelModel.from_bytes(file.data)
    positions = file.positions(40)
    expected = model.synthesize(positions).tobytes()
    same: list[bool] = []
    workers = [
        threading.Thread(target=lambda: same.append(model.synthesize(positions).tobytes() == expected))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert same == [True] * 4
