# SPDX-License-Identifier: Apache-2.0
"""The fit: accuracy on held-out locations of a scene written here in NumPy, interruption, resumption, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

import wavefix as wfx
from wavefix.region import Region, row_space

torch = pytest.importorskip("torch")

from wavefix.training import (  # noqa: E402
    PositionRegressor,
    fitting,
    loop,
    paths,
    start,
)
from wavefix.training.baselines import BaselineModel  # noqa: E402

C = 299792458.0
SOURCES = np.array([[-30.0, 40.0, 12.0], [55.0, 25.0, 9.0], [20.0, -60.0, 4.0]])
GAINS = np.array([1.0, 0.5, 0.3j])
FREQUENCIES = 3.5e9 + np.linspace(-25e6, 25e6, 16)
QUICK = {"epochs": 10, "max_sources": 6, "max_atoms": 16, "hidden": (96,)}


def spherical_channels(positions, antennas, rank_axes, frequencies=FREQUENCIES):
    """Equation (1): three virtual sources, each with its own orientation of the array."""
    center = antennas.mean(axis=0)
    total = 0
    for source, gain, rotation in zip(SOURCES, GAINS, rank_axes, strict=True):
        moved = source + (antennas - center) @ rotation.T
        distance = np.linalg.norm(positions[:, None] - moved[None], axis=-1)[..., None]
        total = total + gain * np.exp(-2j * np.pi * frequencies * distance / C) / distance
    return total.astype(np.complex64)


def rotations(seed=3):
    generator = np.random.default_rng(seed)
    return [np.linalg.qr(generator.standard_normal((3, 3)))[0] for _ in SOURCES]


def scene(n, seed, shape="plane", antennas=16):
    generator = np.random.default_rng(seed)
    y = generator.uniform(-0.75, 0.75, (n, 3))
    positions = {"plane": y * [1, 1, 0], "line": y[:, :1] * [[0.6, 0.8, 0.0]], "volume": y * [0.6, 0.6, 0.4]}[shape]
    positions = positions + np.array([1.0, 2.0, 1.5])
    array = np.arange(antennas)[:, None] * (0.5 * C / 3.5e9) * np.array([[0.0, 1.0, 0.0]]) + [-30.0, 40.0, 12.0]
    return wfx.ChannelDataset(spherical_channels(positions, array, rotations()), array, FREQUENCIES, positions)


def nmse_db(estimate, truth):
    return 10 * np.log10(np.sum(np.abs(estimate - truth) ** 2) / np.sum(np.abs(truth) ** 2))


def predicted(network, positions):
    y = network.geometry.region.coordinates(positions)
    return network.predict(torch.tensor(y)).numpy()


@pytest.fixture(scope="module")
def fitted():
    data = scene(350, 0)
    network, model = fitting.fit_planar(data, seed=1, **QUICK)
    return data, network, model


def test_held_out_locations_reach_20_db_in_seconds(fitted):
    data, network, _ = fitted
    test = scene(100, 99)
    assert nmse_db(predicted(network, test.positions) * fitting.prepare(data, 0.1, 1, "cpu").scale, test.channels) < -20


def test_model_file_holds_the_network_and_its_record(fitted):
    from safetensors.numpy import load

    _, network, model = fitted
    tensors = load(model)
    atoms = len(network.directions)
    assert tensors["location.directions"].shape == (atoms, 3)
    np.testing.assert_allclose(np.linalg.norm(tensors["location.directions"], axis=1), 1, atol=1e-12)
    assert tensors["delay.1.bias"].dtype == np.float32
    assert tensors["weight.1.weight_imag"].shape == (atoms, 96)
    header = json.loads(model[8 : 8 + int.from_bytes(model[:8], "little")])["__metadata__"]
    training = json.loads(header["training"])
    assert training["seed"] == 1
    assert training["validation_nmse_db"] == pytest.approx(10 * np.log10(tensors["validation_nmse"][0]), abs=1e-3)
    assert training["validation_nmse_db"] < -20


def test_channel_model_agrees_with_the_network(fitted):
    data, network, model = fitted
    positions = scene(40, 98).positions
    ours = wfx.ChannelModel.from_bytes(model).synthesize(positions)
    theirs = predicted(network, positions) * fitting.prepare(data, 0.1, 1, "cpu").scale
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_same_seed_same_model_other_seed_another():
    data = scene(120, 5)
    options = {**QUICK, "epochs": 1, "max_sources": 2}
    first, second, third = (fitting.fit_planar(data, seed=seed, **options)[0] for seed in (4, 4, 5))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.weight.weights[0], third.weight.weights[0])


class Stop(Exception):
    """Stands for what ends a run."""


def interrupted(monkeypatch, error, after):
    """Make the training stop with ``error`` in the middle of epoch ``after``."""
    real, calls = loop._epoch, []

    def epoch(*arguments):
        if len(calls) == after:
            raise error
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(loop, "_epoch", epoch)
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)


def test_resumed_run_equals_the_uninterrupted_one(tmp_path, monkeypatch):
    data, options = scene(120, 6), {**QUICK, "epochs": 6, "max_sources": 2}
    whole, whole_bytes = fitting.fit_planar(data, **options)
    checkpoint = tmp_path / "state.safetensors"
    with monkeypatch.context() as patch:
        interrupted(patch, Stop, 3)
        with pytest.raises(Stop):
            fitting.fit_planar(data, checkpoint=checkpoint, **options)
    monkeypatch.setattr(fitting, "find", None)  # a resumed run must not search again
    resumed, resumed_bytes = fitting.fit_planar(data, checkpoint=checkpoint, **options)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    header = [json.loads(b[8 : 8 + int.from_bytes(b[:8], "little")]) for b in (whole_bytes, resumed_bytes)]
    losses = [json.loads(h["__metadata__"]["training"])["losses"] for h in header]
    assert losses[0] == losses[1]
    assert len(losses[1]) == 6
    again, _ = fitting.fit_planar(data, checkpoint=checkpoint, **options)  # finished: nothing left to do
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), resumed.parameters(), strict=True))


def test_interrupt_leaves_the_last_checkpoint_and_no_part(tmp_path, monkeypatch):
    checkpoint = tmp_path / "state.safetensors"
    interrupted(monkeypatch, KeyboardInterrupt, 2)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit_planar(scene(120, 6), checkpoint=checkpoint, **{**QUICK, "max_sources": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    from safetensors import safe_open

    with safe_open(str(checkpoint), framework="np") as archive:
        assert json.loads(archive.metadata()["record"])["epoch"] == 2


def test_checkpoint_of_other_data_or_garbage_is_refused(tmp_path):
    checkpoint = tmp_path / "state.safetensors"
    options = {**QUICK, "epochs": 0}
    fitting.fit_planar(scene(60, 6), checkpoint=checkpoint, **options)
    with pytest.raises(wfx.DataError, match="other data or options"):
        fitting.fit_planar(scene(60, 7), checkpoint=checkpoint, **options)
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(wfx.DataError, match="not a readable checkpoint"):
        fitting.fit_planar(scene(60, 6), checkpoint=checkpoint, **options)


def replaced(data, **arrays):
    fields = ("channels", "antenna_positions", "frequencies", "positions")
    return wfx.ChannelDataset(**{name: arrays.get(name, getattr(data, name)) for name in fields})


def test_bad_data_is_named():
    data = scene(60, 1)
    with pytest.raises(wfx.DataError, match="all are zero"):
        wfx.fit(replaced(data, channels=np.zeros_like(data.channels)))
    with pytest.raises(wfx.DataError, match="at least two distinct"):
        wfx.fit(replaced(data, positions=np.tile(data.positions[:1], (60, 1))))
    with pytest.raises(wfx.DataError, match="distinct locations, got 10"):
        wfx.fit(data.subset(slice(10)))
    with pytest.raises(wfx.DataError, match="given twice"):
        wfx.fit(replaced(data, positions=np.concatenate([data.positions[:30]] * 2)))
    with pytest.raises(wfx.DataError, match="positions"):
        wfx.fit(replaced(data, positions=None))
    poisoned = scene(60, 1)
    poisoned.channels[3, 0, 0] = np.nan
    with pytest.raises(wfx.DataError, match="finite"):
        wfx.fit(poisoned)


def test_bad_arguments_are_named():
    data = scene(60, 1)
    with pytest.raises(ValueError, match="kind: expected one of spherical"):
        wfx.fit(data, kind="square")
    for fraction in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="validation_fraction"):
            wfx.fit(data, validation_fraction=fraction)
    with pytest.raises(ValueError, match="time_limit"):
        wfx.fit(data, time_limit=0)


@pytest.mark.parametrize(("shape", "dimension"), [("line", 1), ("plane", 2), ("volume", 3)])
def test_region_is_the_affine_hull(shape, dimension):
    positions = scene(80, 2, shape).positions
    region = Region.spanned_by(positions)
    assert region.dimension == dimension
    np.testing.assert_allclose(region.basis @ region.basis.T, np.eye(dimension), atol=1e-12)
    y = region.coordinates(positions)
    np.testing.assert_allclose(region.positions(y), positions, atol=1e-9)
    np.testing.assert_allclose([y.min(axis=0), y.max(axis=0)], [region.lower, region.upper], atol=0)
    if shape == "plane":
        np.testing.assert_allclose(region.basis, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_row_space_of_a_linear_array_is_its_axis():
    np.testing.assert_allclose(np.abs(row_space(np.outer(np.linspace(-1, 1, 9), [0.6, 0.8, 0.0]))), [[0.6, 0.8, 0]])


@pytest.mark.parametrize("shape", ["line", "volume"])
def test_line_and_volume_fit(shape):
    data, test = scene(200, 0, shape), scene(60, 99, shape)
    network, _ = fitting.fit_planar(data, **{**QUICK, "epochs": 4})
    assert nmse_db(predicted(network, test.positions) * fitting.prepare(data, 0.1, 0, "cpu").scale, test.channels) < -10


def test_planar_array_fits():
    data, test = scene(250, 0), scene(60, 99)
    step = 0.5 * C / 3.5e9
    grid = np.stack(np.meshgrid(np.arange(4) * step, np.arange(4) * step), -1).reshape(-1, 2)
    array = np.concatenate([np.zeros((16, 1)), grid], 1) + np.array([-30.0, 40.0, 12.0])
    made = [
        replaced(d, antenna_positions=array, channels=spherical_channels(d.positions, array, rotations()))
        for d in (data, test)
    ]
    network, _ = fitting.fit_planar(made[0], **{**QUICK, "max_sources": 12, "epochs": 4})
    scale = fitting.prepare(made[0], 0.1, 0, "cpu").scale
    assert nmse_db(predicted(network, test.positions) * scale, made[1].channels) < -25


def test_path_derivatives_agree_with_differences():
    generator = torch.Generator().manual_seed(0)
    one = paths.Paths(
        torch.tensor([20.0, 4.0], dtype=torch.float64),
        torch.tensor([[0.3, 0.4], [-0.6, 0.1]], dtype=torch.float64),
        torch.tensor([[0.2], [-0.5]], dtype=torch.float64),
        torch.tensor([[[0.1, -0.4]], [[0.5, 0.3]]], dtype=torch.float64),
    )
    y = torch.rand(5, 2, generator=generator, dtype=torch.float64)
    by_length, by_slope = one.fields_jacobian(y)
    for p in range(one.n_parameters):
        step = torch.zeros(2, one.n_parameters, dtype=torch.float64)
        step[:, p] = 1e-6
        above, below = (one.from_flat(one.flat() + sign * step).fields(y) for sign in (1, -1))
        torch.testing.assert_close((above[0] - below[0]) / 2e-6, by_length[..., p], atol=1e-7, rtol=0)
        torch.testing.assert_close((above[1] - below[1]) / 2e-6, by_slope[..., p], atol=1e-7, rtol=0)
    shift = torch.tensor([0.4, -0.2], dtype=torch.float64)
    for a, b in zip(one.moved(shift).fields(y - shift), one.fields(y), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_inverted_weights_give_back_the_weights():
    generator = torch.Generator().manual_seed(1)
    weights = 0.03 * torch.randn(50, 12, dtype=torch.complex128, generator=generator)
    z = start.invert_weights(weights)
    torch.testing.assert_close(z * torch.softmax(z.abs(), -1), weights, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("kind", "factor"), [("mlp", 0.99), ("rff", 0.9)])  # both fail at it: that is their point
def test_baseline_learns_something_and_survives_a_file(kind, factor, tmp_path):
    data = scene(200, 0)
    model = wfx.fit(data, kind=kind, epochs=30, hidden=(64, 64))
    losses = json.loads(model.training)["losses"]
    assert losses[-1] < factor * losses[0]
    model.save(tmp_path / "model.safetensors")
    again = BaselineModel.load(tmp_path / "model.safetensors")
    assert again.kind == kind
    np.testing.assert_array_equal(again.synthesize(data.positions[:5]), model.synthesize(data.positions[:5]))
    assert model.synthesize(data.positions[:5]).shape == (5, 16, 16)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(wfx.ModelFormatError):
        BaselineModel.load(tmp_path / "model.safetensors")


def test_position_regressor_beats_the_middle_of_the_zone():
    data = scene(300, 0)
    regressor = PositionRegressor(hidden=(64, 64)).fit(data, epochs=30)
    found = regressor.locate(data.channels[:200])
    error = np.linalg.norm(found - data.positions[:200], axis=1)
    spread = np.linalg.norm(data.positions[:200] - data.positions.mean(axis=0), axis=1)
    assert np.median(error) < 0.7 * np.median(spread)
    values = 2 * data.channels[0].size
    assert regressor.nbytes == 4 * ((values + 1) * 64 + 65 * 64 + 65 * 2)  # float32, two layers of 64
    with pytest.raises(wfx.ShapeError):
        regressor.locate(data.channels[:, :3])


@pytest.mark.parametrize(("antennas", "subcarriers"), [(1, 8), (4, 1), (1, 1)])
def test_the_smallest_arrays_and_bands_give_a_model(antennas, subcarriers):
    full = scene(120, 0, antennas=antennas)
    data = wfx.ChannelDataset(
        np.ascontiguousarray(full.channels[:, :, :subcarriers]),
        full.antenna_positions,
        full.frequencies[:subcarriers],
        full.positions,
    )
    model = wfx.fit(data, "planar", epochs=1, max_sources=2, max_atoms=4, hidden=(16,))
    assert model.synthesize(data.positions[:2]).shape == (2, antennas, subcarriers)
    assert np.isfinite(wfx.Localizer(model, grid_spacing=1.0).locate(data.channels[:2]).position).all()


def test_tiny_channels_are_not_zero():
    data = scene(60, 0, antennas=2)
    tiny = wfx.ChannelDataset(data.channels * np.float32(1e-22), data.antenna_positions, FREQUENCIES, data.positions)
    model = wfx.fit(tiny, "planar", epochs=1, max_sources=2, max_atoms=4, hidden=(16,))
    assert np.isfinite(model.validation_nmse)
