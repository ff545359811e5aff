# SPDX-License-Identifier: Apache-2.0
"""The spherical fit: its steps against slow answers, what it finds in scenes whose sources are known, bad input."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import wavefix as wfx

torch = pytest.importorskip("torch")

from wavefix.training.spherical import edges, gates, rounds, search, system  # noqa: E402
from wavefix.training.spherical import fitting as spherical_fitting  # noqa: E402
from wavefix.training.spherical.antennas import chosen_antennas  # noqa: E402
from wavefix.training.spherical.checkpoints import read_state  # noqa: E402
from wavefix.training.spherical.positions import PositionErrors  # noqa: E402
from wavefix.training.spherical.state import Gate, Measured, Source, add, energy, gain_variables, residual  # noqa: E402

C = 299792458.0
CARRIER = 3.5e9
TRUE = np.array([[-30.0, 40.0, 12.0], [55.0, 25.0, 9.0], [20.0, -60.0, 4.0]])
GAINS = np.array([1.0, 0.5, 0.3j])


def array_of(shape: str) -> np.ndarray:
    half = 0.5 * C / CARRIER
    if shape == "linear":
        return np.arange(8)[:, None] * half * np.array([[0.0, 1.0, 0.0]]) + [-30.0, 40.0, 12.0]
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 2)
    return grid @ np.array([[0.0, half, 0.0], [0.0, 0.0, half]]) + [-30.0, 40.0, 12.0]


def turns(count: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(3).standard_normal((count, 3, 3)))[0]


def places(n: int, seed: int, shape: str = "plane") -> np.ndarray:
    y = np.random.default_rng(seed).uniform(-0.75, 0.75, (n, 3))
    y = {"plane": y * [1, 1, 0], "line": y[:, :1] * [[0.6, 0.8, 0.0]], "volume": y * [0.6, 0.6, 0.4]}[shape]
    return y + np.array([1.0, 2.0, 1.5])


def scene(n: int, seed: int, shape: str = "plane", array: str = "linear", hide: bool = False, sources: int = 3):
    """Equation (1) loop by loop; with ``hide``, a wall's edge hides the second source from part of the zone."""
    positions, antennas = places(n, seed, shape), array_of(array)
    frequencies = CARRIER + np.linspace(-25e6, 25e6, 16)
    offsets = antennas - antennas.mean(axis=0)
    channels = np.zeros((n, len(antennas), 16), complex)
    for number, (source, gain, turn) in enumerate(zip(TRUE[:sources], GAINS, turns(3), strict=False)):
        at = source + offsets @ turn.T
        distance = np.linalg.norm(positions[:, None] - at[None], axis=-1)
        wave = gain / distance
        if hide and number == 1:
            middle = at + 0.8 * (positions[:, None] - at)
            wave = wave * (middle[..., 0] + 0.3 * middle[..., 1] > 13.1)
        channels += wave[..., None] * np.exp(-2j * np.pi * frequencies * distance[..., None] / C)
    return wfx.ChannelDataset(channels.astype(np.complex64), antennas, frequencies, positions)


def nmse_db(model, data) -> float:
    error = model.synthesize(data.positions).astype(complex) - data.channels
    return float(10 * np.log10(np.sum(np.abs(error) ** 2) / np.sum(np.abs(data.channels.astype(complex)) ** 2)))


@pytest.mark.parametrize(
    ("shape", "array"), [("plane", "linear"), ("line", "linear"), ("volume", "linear"), ("plane", "planar")]
)
def test_sources_are_found_to_float32(shape, array):
    model = wfx.fit(scene(160, 0, shape, array), seed=1, max_rounds=3, progress=False)
    assert model.kind == "spherical"
    assert nmse_db(model, scene(60, 9, shape, array)) < -55
    assert model.n_atoms <= 4
    assert model.nbytes < 10_000


def test_a_hidden_source_gets_a_gate():
    data, test = scene(350, 0, hide=True), scene(200, 9, hide=True)
    model = wfx.fit(data, max_rounds=5, progress=False)
    # without a gate the best that three sources do is -11 dB; what is left lies within the spacing of the locations
    assert nmse_db(model, test) < -22


def test_two_paths_are_enough_and_one_as_well():
    for sources in (2, 1):
        data = scene(150, 0, sources=sources)
        assert nmse_db(wfx.fit(data, max_rounds=3, progress=False), scene(40, 9, sources=sources)) < -55


def test_a_moved_and_turned_scene_gives_the_moved_model():
    data, angle, shift = scene(160, 0), 0.7, np.array([300.0, -200.0, 40.0])
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = wfx.ChannelDataset(
        data.channels, data.antenna_positions @ turn.T + shift, data.frequencies, data.positions @ turn.T + shift
    )
    model = wfx.fit(moved, max_rounds=3, progress=False)
    test = scene(60, 9)
    there = wfx.ChannelDataset(
        test.channels, moved.antenna_positions, test.frequencies, test.positions @ turn.T + shift
    )
    assert nmse_db(model, there) < -55


def interrupt_after_a_round(monkeypatch, data, **options):
    real, calls = spherical_fitting.one_round, []

    def once(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(spherical_fitting, "one_round", once)
        with pytest.raises(KeyboardInterrupt):
            spherical_fitting.fit_spherical(data, **options)


def test_same_seed_same_model_whatever_the_threads_and_the_interruptions(tmp_path, monkeypatch):
    data, options = scene(150, 0), {"max_rounds": 2, "progress": False}
    whole = spherical_fitting.fit_spherical(data, **options)
    assert tensors(whole) == tensors(spherical_fitting.fit_spherical(data, **options))
    checkpoint = tmp_path / "state.safetensors"
    interrupt_after_a_round(monkeypatch, data, checkpoint=checkpoint, **options)
    assert tensors(spherical_fitting.fit_spherical(data, checkpoint=checkpoint, **options)) == tensors(whole)
    monkeypatch.setattr(spherical_fitting, "one_round", None)  # finished: nothing is left to do
    assert tensors(spherical_fitting.fit_spherical(data, checkpoint=checkpoint, **options)) == tensors(whole)
    with pytest.raises(wfx.DataError, match="other data or options"):
        spherical_fitting.fit_spherical(scene(150, 1), checkpoint=checkpoint, **options)


def tensors(model: bytes) -> bytes:
    """What follows the header, which tells the seconds."""
    return model[8 + int.from_bytes(model[:8], "little") :]


@pytest.mark.parametrize("damage", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"x" * 100])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    path = tmp_path / "state.safetensors"
    path.write_bytes(damage)
    with pytest.raises(wfx.DataError, match="checkpoint"):
        read_state(path, "", spherical_fitting.Record)


def noise(shape, seed=5):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def test_noise_is_refused_and_noisy_channels_are_not():
    data = scene(150, 0)
    with pytest.raises(wfx.DataError, match="no virtual source explains them"):
        wfx.fit(with_channels(data, noise(data.channels.shape)), max_rounds=4, progress=False)
    power = np.sqrt(np.mean(np.abs(data.channels) ** 2) / 2)
    noisy = with_channels(data, data.channels + (0.3 * power * noise(data.channels.shape)).astype(np.complex64))
    model = wfx.fit(noisy, max_rounds=4, progress=False)
    assert nmse_db(model, scene(60, 9)) < -25  # noise at 10.5 dB, averaged over 150 x 8 x 16 numbers


def test_noise_is_refused_after_many_rounds_without_a_source():
    data = scene(100, 0, array="planar")  # more antennas than the first rounds look at
    with pytest.raises(wfx.DataError, match="no virtual source explains them"):
        wfx.fit(with_channels(data, noise(data.channels.shape)), max_rounds=7, progress=False)


def test_normalized_delays_are_told():
    data = scene(160, 0)
    distance = np.linalg.norm(data.positions - TRUE[0], axis=1)
    turned = data.channels * np.exp(2j * np.pi * data.frequencies * distance[:, None, None] / C)
    with pytest.raises(wfx.DataError, match="normalized"):
        wfx.fit(with_channels(data, turned.astype(np.complex64)), max_rounds=3, progress=False)


def with_channels(data, channels):
    return wfx.ChannelDataset(channels, data.antenna_positions, data.frequencies, data.positions)


def measured(n: int = 400, seed: int = 0) -> Measured:
    positions = places(n, seed) - [1.0, 2.0, 1.5]
    offsets = array_of("linear") - array_of("linear").mean(axis=0)
    return Measured(
        positions, np.zeros((n, 8, 16), np.complex64), offsets, CARRIER + np.linspace(-25e6, 25e6, 16), np.zeros(3)
    )


def source() -> Source:
    directions = np.random.default_rng(1).standard_normal((5, 3))
    return Source(np.array([20.0, 9, 4]), np.eye(3), gain_variables(directions), np.array([1 + 1j]))


def test_a_gate_of_two_edges_is_found_from_noisy_targets():
    where, one, rng = measured(1200), source(), np.random.default_rng(2)

    def seen(users, at):
        wall = at + 0.7 * (users - at)
        return (wall[..., 1] > 2.7 - 0.1) & (wall[..., 2] < 1.5 - 0.05 * wall[..., 0])

    truth = seen(where.positions[:, None], one.arms(where.offsets)).astype(float)
    assert 0.2 < truth.mean() < 0.8
    wave = one.amplitudes(where, gated=False)
    sent = len(where.frequencies) * wave * (truth + 0.05 * rng.standard_normal(truth.shape))
    weight = len(where.frequencies) * np.abs(wave) ** 2
    before = float(np.sum(weight * (1 - truth) ** 2))
    gate = gates.grow(one, where, sent.astype(np.complex64), 1e-3 * before, 4)
    assert np.sum(weight * (replace(one, gate=gate).gate_values(where) - truth) ** 2) < 0.03 * before
    fresh = measured(500, 7)
    found = replace(one, gate=gate).gate_values(fresh)
    wrong = np.abs(found - seen(fresh.positions[:, None], one.arms(fresh.offsets)))
    assert wrong.mean() < 0.01


def test_a_gate_with_a_line_too_many_keeps_it_unless_it_is_grown_from_nothing():
    where, one = measured(1200), source()
    at = one.arms(where.offsets)
    truth = (at + 0.7 * (where.positions[:, None] - at))[..., 1] > 2.6
    sent = (len(where.frequencies) * one.amplitudes(where, gated=False) * truth).astype(np.complex64)
    weight = len(where.frequencies) * np.abs(one.amplitudes(where, gated=False)) ** 2

    def left(gate: Gate) -> float:
        return float(np.sum(weight * (replace(one, gate=gate).gate_values(where) - truth) ** 2))

    two = replace(one, gate=Gate(np.tile([0.0, 0, 0, 0, 0, 1e-3], (2, 1)), ((1, 2),)))  # parting nothing
    kept, fresh = (gates.grow(start, where, sent, 1e-3 * left(Gate()), 2) for start in (two, one))
    assert max(left(kept), left(fresh)) < 1e-3 * left(Gate())
    assert (len(kept.lines), len(fresh.lines)) == (2, 1)


def test_phase_differences_are_those_of_the_distances():
    data, one = measured(40), source()
    sources = [replace(one, position=one.position + step * np.array([0.1, -0.2, 0.3])) for step in (0, 1, 5)]
    difference = search.phase_differences(sources, data)
    for i, a in enumerate(sources):
        for j, b in enumerate(sources):
            phase = data.wavenumber * (a.rays(data)[0] - b.rays(data)[0])
            assert difference[i, j] == pytest.approx(np.std(phase), abs=1e-9)
    assert search.distinct(sources, data, float(difference[0, 1]) + 1e-6) == [sources[0], sources[2]]


def test_no_gate_is_learned_after_the_time():
    where, one, rng = measured(60), source(), np.random.default_rng(0)
    near = replace(where, channels=np.full_like(where.channels, 1e-3))
    assert edges.regate([one], near, 1e-9, 4, rng, deadline=-np.inf) == [one]
    assert edges.regate([one], near, 1e-9, 4, rng) != [one]


def test_one_step_is_refined_after_the_time():
    data = measured(60)
    add([replace(source(), position=source().position + 0.05)], data)
    none, one, some = (system.refine([source()], data, count)[1] for count in (0, 1, 5))
    assert some < one < none
    assert system.refine([source()], data, 5, deadline=-np.inf)[1] == one


@pytest.mark.parametrize(("left", "fitting"), [(0.95, 3), (0.5, 4)])  # of the energy, after a round
def test_no_round_begins_that_would_end_after_the_time(monkeypatch, left, fitting):
    now, error = [0.0], itertools.count()

    def round_of_ten_seconds(state, *_):
        now[0] += 10.0
        return replace(state, sources=[source()])

    monkeypatch.setattr(spherical_fitting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(spherical_fitting, "errors_of", lambda *_: rounds.Errors(1.0, 1.0, left ** next(error)))
    monkeypatch.setattr(spherical_fitting, "one_round", round_of_ten_seconds)
    record, data = spherical_fitting.Record(), measured(20)
    data = replace(data, channels=np.ones_like(data.channels))
    all_of_it = spherical_fitting._Rounds(
        data, data, PositionErrors(0.0, np.eye(3)), 0, 8, 24, 0.0, 45.0, rounds.Stages()
    )
    all_of_it.run(rounds.State(), record, lambda _: None)
    assert len(record.validation) == fitting  # in 0.8 of the time, or 0.9 where another round leaves much less


def test_a_dark_source_sends_nothing():
    where, one = measured(20), replace(source(), gate=Gate(leaves=()))
    assert not one.gate_values(where).any()
    assert not one.amplitudes(where).any()
    assert one.amplitudes(where, gated=False).any()


def test_removal_costs_are_what_a_fit_without_the_source_loses():
    data = scene(120, 0)
    where = Measured(
        data.positions - [1.0, 2.0, 1.5],
        np.ascontiguousarray(data.channels / 0.02, np.complex64),
        measured().offsets,
        data.frequencies,
        np.zeros(3),
    )
    sources = [
        Source(true - [1.0, 2.0, 1.5], turn, np.zeros((2, 4)), np.array([gain / 0.02]), 0)
        for true, turn, gain in zip(TRUE, turns(3), GAINS.astype(complex), strict=True)
    ]
    left = residual(sources, where)
    assert energy(left.channels) < 1e-9 * where.energy
    gains = system.GainSystem.of(sources, where)
    costs = gains.removal_costs(sources, np.arange(3))
    for out in range(3):
        kept = [one for number, one in enumerate(sources) if number != out]
        columns = []
        for one in kept:
            wave = where.with_channels(np.zeros_like(where.channels))
            spherical = Source(one.position, one.rotation, one.variables, np.array([1 + 0j]))
            columns.append((residual([spherical], wave).channels * -1).reshape(-1).astype(complex))
        design = np.array(columns).T
        rest = where.channels.reshape(-1) - design @ np.linalg.lstsq(design, where.channels.reshape(-1), rcond=None)[0]
        assert costs[out] == pytest.approx(np.vdot(rest, rest).real, rel=1e-3)
        fitted = gains.fitted(kept, np.delete(np.arange(3), out))
        assert energy(residual(fitted, where).channels) == pytest.approx(costs[out], rel=1e-3)


def test_neighbors():
    positions = places(700, 0)
    found = search.nearest(positions, 5)
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(np.argsort(distance, axis=1)[:, :5], axis=1))


def test_chosen_antennas_cover_the_array_and_have_no_grating_lobes():
    places_of = measured(20)
    step = 0.5 * C / CARRIER
    for offsets in (
        np.outer(np.arange(64) - 31.5, [0.0, step, 0.0]),
        np.stack(np.meshgrid([0.0], np.arange(8), np.arange(8)), axis=-1).reshape(-1, 3) * step,
    ):
        array = replace(places_of, offsets=offsets)
        chosen = chosen_antennas(array, 8)
        assert len(chosen) == 8
        widest = np.max(np.linalg.norm(offsets[:, None] - offsets, axis=-1))
        assert np.max(np.linalg.norm(offsets[chosen][:, None] - offsets[chosen], axis=-1)) == pytest.approx(widest)
        farthest = np.min(np.linalg.norm(offsets[:, None] - offsets[chosen], axis=-1), axis=1).max()
        assert farthest < widest / 3
        # changes of direction along one axis
        changes = np.outer(np.linspace(-2, 2, 4001), [0.0, 1.0, 0.0])
        phasors = np.exp(1j * places_of.wavenumber * offsets @ changes.T)
        apart = np.abs(phasors.mean(axis=0)) < 0.3
        assert np.abs(phasors[chosen].mean(axis=0))[apart].max() < 0.95
        if np.ptp(offsets[:, 2]) == 0:  # to one in eight antennas of a line, some are no change at all
            assert np.abs(phasors[::8].mean(axis=0))[apart].max() > 0.99
    np.testing.assert_array_equal(chosen_antennas(array, 64), np.arange(64))


@pytest.mark.parametrize("scale", [1e-30, 1e20])
def test_channels_of_any_scale(scale):
    data = scene(150, 0)
    model = wfx.fit(
        with_channels(data, (data.channels * np.float32(scale)).astype(np.complex64)), max_rounds=4, progress=False
    )
    test = scene(40, 9)
    assert nmse_db(model, with_channels(test, (test.channels * np.float32(scale)).astype(np.complex64))) < -45
