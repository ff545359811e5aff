# SPDX-License-Identifier: Apache-2.0
"""ChannelDataset: what it accepts, what it refuses and how it says so, and its files."""

import os
import stat

import numpy as np
import pytest

import wavefix
from wavefix.archives import read_arrays
from wavefix.files import written_whole


def fields(n=6, antennas=3, subcarriers=4):
    generator = np.random.default_rng(0)
    channels = generator.standard_normal((n, antennas, subcarriers, 2)).view(np.complex128)[..., 0]
    return {
        "channels": channels.astype(np.complex64),
        "antenna_positions": generator.uniform(0, 1, (antennas, 3)),
        "frequencies": 3.5e9 + 1e6 * np.arange(subcarriers),
        "positions": generator.uniform(0, 5, (n, 3)),
        "line_of_sight": np.arange(n) % 2 == 0,
    }


def make(**changes):
    return wavefix.ChannelDataset(**{**fields(), **changes})


def test_reference_frequency_is_the_center_of_the_band():
    data = make(frequencies=np.array([1e9, 1.1e9, 1.2e9, 2e9]))
    assert data.reference_frequency == 1.5e9
    assert data.wavelength == pytest.approx(299792458 / 1.5e9)
    assert len(data) == 6
    assert "6 locations, 3 antennas x 4 subcarriers, 1.5 GHz" in repr(data)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"channels": np.zeros((6, 3), np.complex64)}, wavefix.ShapeError, r"channels: expected shape \(n, n, n\)"),
        ({"antenna_positions": np.zeros((2, 3))}, wavefix.ShapeError, r"antenna_positions: .*\(3, 3\), got \(2, 3\)"),
        ({"frequencies": np.ones(3)}, wavefix.ShapeError, r"frequencies: .*\(4\), got \(3,\)"),
        ({"positions": np.zeros((6, 2))}, wavefix.ShapeError, r"positions: .*\(6, 3\), got \(6, 2\)"),
        ({"line_of_sight": np.zeros(5, bool)}, wavefix.ShapeError, "line_of_sight"),
        ({"positions": np.zeros((6, 3), complex)}, TypeError, "positions: expected float64, got complex128"),
        ({"channels": np.ones((6, 3, 4))}, TypeError, "channels: expected complex64, got float64"),
        ({"frequencies": -np.ones(4)}, wavefix.DataError, "frequencies: expected absolute frequencies"),
        ({"frequencies": np.full(4, np.nan)}, wavefix.DataError, "frequencies: 4 values are not finite"),
        ({"positions": np.full((6, 3), np.inf)}, wavefix.DataError, "positions: 18 values are not finite"),
        ({"channels": np.full((6, 3, 4), np.nan, np.complex64)}, wavefix.DataError, "channels: 72 values"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        make(**change)


def test_no_location_is_refused():
    with pytest.raises(wavefix.DataError, match="at least one location"):
        wavefix.ChannelDataset(**fields(n=0))


def test_queries_may_hold_nan_and_have_no_positions():
    channels = fields()["channels"].copy()
    channels[2] = np.nan
    queries = make(channels=channels, positions=None)
    with pytest.raises(wavefix.DataError, match="positions"):
        queries.known_positions()


def test_subset_takes_everything_along():
    data, index = make(), np.array([4, 1])
    part = data.subset(index)
    np.testing.assert_array_equal(part.channels, data.channels[index])
    np.testing.assert_array_equal(part.positions, data.positions[index])
    np.testing.assert_array_equal(part.line_of_sight, data.line_of_sight[index])
    assert make(positions=None, line_of_sight=None).subset(slice(2)).positions is None


def test_noise_has_the_power_of_each_channel():
    loud = np.array([1.0, 10.0])[:, None, None]
    data = wavefix.ChannelDataset(
        channels=(loud * np.ones((2, 100, 100))).astype(np.complex64),
        antenna_positions=np.zeros((100, 3)),
        frequencies=1e9 + np.arange(100.0),
    )
    noise = data.with_noise(7.0, seed=3).channels - data.channels
    power = np.mean(np.abs(noise) ** 2, axis=(1, 2)) / np.mean(np.abs(data.channels) ** 2, axis=(1, 2))
    # 10^4 entries: the mean of their squared magnitudes scatters by 1 %
    np.testing.assert_allclose(power, 10**-0.7, rtol=0.05)
    np.testing.assert_array_equal(data.with_noise(7.0, seed=3).channels, data.with_noise(7.0, seed=3).channels)


@pytest.mark.parametrize("name", ["data.npz", "data.h5", "data.HDF5"])
def test_files_give_back_what_was_saved(name, tmp_path):
    if not name.endswith("npz"):
        pytest.importorskip("h5py")
    for data in (make(), make(positions=None, line_of_sight=None)):
        data.save(tmp_path / name)
        again = wavefix.ChannelDataset.load(tmp_path / name)
        for field in fields():
            np.testing.assert_array_equal(getattr(again, field), getattr(data, field))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["data.npz", "data.h5"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "missing array"])
def test_damaged_files_are_data_errors(name, damage, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / name
    make().save(path)
    content = path.read_bytes()
    if damage == "missing array":
        arrays = {key: value for key, value in fields().items() if key != "frequencies"}
        if name.endswith("npz"):
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as archive:
                archive.update(arrays)
    else:
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello"}[damage])
    with pytest.raises(wavefix.DataError, match="frequencies" if damage == "missing array" else name):
        wavefix.ChannelDataset.load(path)


def test_other_numpy_files_are_data_errors(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(wavefix.DataError, match="single array"):
        wavefix.ChannelDataset.load(tmp_path / "one.npy")
    np.savez(tmp_path / "pickled.npz", **{**fields(), "channels": np.array([{}], dtype=object)})
    with pytest.raises(wavefix.DataError, match="channels: "):
        wavefix.ChannelDataset.load(tmp_path / "pickled.npz")
    with pytest.raises(FileNotFoundError):
        wavefix.ChannelDataset.load(tmp_path / "none.npz")


def test_read_arrays_takes_what_it_is_asked_for(tmp_path):
    make().save(tmp_path / "data.npz")
    assert set(read_arrays(tmp_path / "data.npz", ("channels",), ("positions", "nothing"))) == {"channels", "positions"}


def test_a_failed_write_leaves_the_older_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted():
        with written_whole(path) as stream:
            stream.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_written_file_has_ordinary_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        with written_whole(tmp_path / "file") as stream:
            stream.write(b"x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
