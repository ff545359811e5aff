# SPDX-License-Identifier: Apache-2.0
"""evaluate: quantiles, rates and channel errors against the same numbers by hand."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import wavefix
from wavefix import Fixes, Localizer, Status
from wavefix.bench import random_model
from wavefix.evaluation import channel_error, evaluate, require_same_setup, summarize
from wavefix.report import duration, evaluation_table, label, number, size


class Oracle:
    """Knows the truth and misses it by chosen vectors; NaN rows are queries without a fix."""

    def __init__(self, truth, offsets):
        self.position = truth + offsets
        self.nbytes = 123

    def locate(self, channels):
        n = len(channels)
        status = np.where(np.isnan(self.position[:, 0]), Status.INVALID_INPUT, Status.OK).astype(np.uint8)
        nothing = np.full(n, np.nan)
        return Fixes(self.position, np.full((n, 3, 3), np.nan), status, nothing, nothing)


@pytest.fixture(scope="module")
def model():
    return random_model(np.random.default_rng(3), antennas=4, subcarriers=5, atoms=6, width=8)


@pytest.fixture(scope="module")
def data(model):
    generator = np.random.default_rng(4)
    positions = model.region.origin + generator.uniform(-1, 1, (40, 2)) @ model.region.basis
    return wavefix.ChannelDataset(
        channels=model.synthesize(positions),
        antenna_positions=model.antenna_positions,
        frequencies=model.frequencies,
        positions=positions,
        line_of_sight=np.arange(40) % 4 != 0,
    )


@pytest.fixture
def offsets():
    """Errors of 1, 2, ..., 40 mm in random directions."""
    directions = np.random.default_rng(5).standard_normal((40, 3))
    return 1e-3 * np.arange(1, 41)[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_quantiles_are_those_of_numpy():
    errors = np.random.default_rng(0).exponential(0.02, 157)
    summary = summarize(errors, 0.03)
    assert (summary.median, summary.p90, summary.p95) == pytest.approx(np.quantile(errors, (0.5, 0.9, 0.95)))
    assert summary.max == errors.max()
    assert summary.rmse == pytest.approx(math.sqrt(sum(e * e for e in errors) / 157))
    assert summary.wrong_fix_rate == sum(e > 0.03 for e in errors) / 157


def test_a_query_without_a_fix_counts_as_infinitely_far_off():
    summary = summarize(np.array([0.01, 0.02, 0.01, np.nan]), 0.03)
    assert summary.median == pytest.approx(0.015)
    assert summary.p95 == summary.max == math.inf
    assert summary.wrong_fix_rate == 0.25
    assert summary.rmse == pytest.approx(math.sqrt(6e-4 / 3))
    assert math.isnan(summarize(np.array([np.nan])).rmse)


def test_two_infinite_neighbors_give_no_nan():
    assert summarize(np.array([0.0, np.nan, np.nan])).median == math.inf


def test_methods_get_their_numbers_and_groups(model, data, offsets):
    result = evaluate(model, data, localizers={"oracle": Oracle(data.positions, offsets)}, wrong_fix_distance=0.0305)
    oracle = result["oracle"]
    assert oracle.errors == pytest.approx(1e-3 * np.arange(1, 41))
    assert oracle.summary.median == pytest.approx(20.5e-3)
    assert oracle.summary.wrong_fix_rate == 10 / 40
    assert oracle.rmse_right == pytest.approx(1e-3 * np.sqrt(np.mean(np.arange(1, 31) ** 2)))
    assert oracle.memory_bytes == 123
    assert oracle.status_share == {"ok": 1.0}
    hidden = oracle.groups["non_line_of_sight"]
    assert (hidden.n, oracle.groups["line_of_sight"].n) == (10, 30)
    assert hidden.median == pytest.approx(np.median(1e-3 * np.arange(1, 41, 4)))
    assert result.bound_median is None
    assert oracle.rmse_to_bound is None


def test_status_shares_and_unanswered_queries(model, data, offsets):
    offsets[:10] = np.nan
    oracles = {"oracle": Oracle(data.positions, offsets)}
    oracle = evaluate(model, data, localizers=oracles, wrong_fix_distance=0.0305)["oracle"]
    assert oracle.status_share == {"ok": 0.75, "invalid_input": 0.25}
    assert oracle.summary.max == math.inf
    assert oracle.summary.wrong_fix_rate == 20 / 40


def test_an_array_of_positions_is_enough(model, data, offsets):
    regressor = SimpleNamespace(locate=lambda channels: data.positions + offsets)
    result = evaluate(model, data, localizers=(), regressor=regressor)
    assert [method.name for method in result.methods] == ["mlp_regression"]
    assert result["mlp_regression"].summary.median == pytest.approx(20.5e-3)


def test_channel_error_by_hand(data):
    scale = np.where(np.arange(40) < 15, 1.1, 1.01)[:, None, None]
    model = SimpleNamespace(synthesize=lambda x: scale[: len(x)] * data.channels[: len(x)])
    error = channel_error(model, data)
    power = np.sum(np.abs(data.channels.astype(complex)) ** 2, axis=(1, 2))
    ratio = np.where(np.arange(40) < 15, 0.01, 0.0001)
    assert error.nmse_db == pytest.approx(10 * np.log10(np.sum(ratio * power) / np.sum(power)), abs=1e-3)
    assert error.median_location_nmse_db == pytest.approx(-40, abs=1e-3)
    assert set(error.groups) == {"line_of_sight", "non_line_of_sight"}


def test_a_shadow_that_nothing_reaches_is_in_no_median(data):
    channels = np.where(np.arange(40)[:, None, None] < 5, 0, data.channels).astype(np.complex64)
    shadowed = replace(data, channels=channels)
    error = channel_error(SimpleNamespace(synthesize=lambda x: 1.1 * channels[: len(x)]), shadowed)
    assert (error.nmse_db, error.median_location_nmse_db) == pytest.approx((-20, -20), abs=1e-3)


def test_batches_cover_every_location(model):
    positions = np.tile(model.region.origin, (600, 1)) + np.linspace(0, 1, 600)[:, None] * model.region.basis[0]
    channels = model.synthesize(positions)
    data = wavefix.ChannelDataset(channels, model.antenna_positions, model.frequencies, positions)
    assert channel_error(model, data).nmse_db < -90
    channels = channels.copy()
    channels[-1] *= 2
    data = wavefix.ChannelDataset(channels, model.antenna_positions, model.frequencies, positions)
    assert channel_error(model, data).nmse_db > -60


def test_strategies_and_fingerprints_run_under_one_protocol(model, data):
    result = evaluate(model, data.subset(slice(4)), localizers=["on_grid_naive", "off_grid_naive"], train_data=data)
    assert [method.name for method in result.methods] == [
        "fingerprints_3nn_phase_sensitive",
        "fingerprints_3nn_phase_insensitive",
        "on_grid_naive",
        "off_grid_naive",
    ]
    assert result["on_grid_naive"].memory_bytes == model.nbytes
    assert result["fingerprints_3nn_phase_sensitive"].memory_bytes == data.channels.nbytes + data.positions.nbytes
    assert all(method.working_bytes > 0 for method in result.methods)
    direct = Localizer(model, strategy="off_grid_naive").locate(data.channels[:4])
    np.testing.assert_array_equal(result["off_grid_naive"].positions, direct.position)


def test_noise_adds_the_bound(model, data, offsets):
    oracles = {"oracle": Oracle(data.positions, offsets)}
    result = evaluate(model, data, localizers=oracles, snr_db=5.0, seed=1, wrong_fix_distance=0.0305)
    bound = wavefix.position_error_bound(model, data.positions, 5.0)
    assert result.bound_median == pytest.approx(np.median(bound))
    right = np.arange(40) < 30
    expected = np.sqrt(np.mean((1e-3 * np.arange(1, 31)) ** 2)) / np.sqrt(np.mean(bound[right] ** 2))
    assert result["oracle"].rmse_to_bound == pytest.approx(expected, rel=1e-6)


def test_noise_reaches_the_queries_and_not_the_channel_error(model, data):
    seen = []
    spy = SimpleNamespace(locate=lambda channels: seen.append(channels) or data.positions)
    result = evaluate(model, data, localizers={"spy": spy}, snr_db=5.0, seed=1)
    np.testing.assert_array_equal(seen[0], data.with_noise(5.0, 1).channels)
    assert result.channel.nmse_db < -90


def test_json_is_strict_and_complete(model, data, offsets, tmp_path):
    offsets[0] = np.nan
    result = evaluate(model, data, localizers={"oracle": Oracle(data.positions, offsets)}, snr_db=5.0)
    text = result.to_json(tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == text
    record = json.loads(text, parse_constant=pytest.fail)
    assert record["schema"] == "wavefix.evaluation"
    assert record["schema_version"] == "1"
    assert set(record) == {
        *("schema", "schema_version", "model", "settings", "wavelength", "channel", "position_error_bound_median"),
        *("methods", "environment"),
    }
    (method,) = record["methods"]
    assert method["max"] is None  # infinity: a query without a fix
    assert method["groups"]["line_of_sight"]["n"] == 30
    assert record["settings"]["snr_db"] == 5.0
    assert record["environment"]["wavefix"]["version"] == wavefix.__version__


def test_table_has_a_row_for_each_method_and_group(model, data, offsets):
    result = evaluate(model, data, localizers={"oracle": Oracle(data.positions, offsets)}, snr_db=5.0)
    lines = evaluation_table(result).splitlines()
    assert lines == result.table().splitlines()
    assert [line.split("  ")[0] for line in lines[3:4]] == ["oracle"]
    assert "2.05" in lines[3]
    assert "line of sight (30)" in lines[4]
    assert "no line of sight (10)" in lines[5]
    assert any("SNR 5 dB" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"antenna_positions": 1e-3}, "antenna_positions disagree with the model by up to 0.001 m"),
        ({"frequencies": 1e6}, "frequencies disagree with the model by up to 1e\\+06 Hz"),
    ],
)
def test_another_array_or_band_is_refused(model, data, change, message):
    fields = {name: getattr(data, name) + change.get(name, 0.0) for name in ("antenna_positions", "frequencies")}
    other = wavefix.ChannelDataset(data.channels, positions=data.positions, **fields)
    with pytest.raises(wavefix.DataError, match=f"test_data: {message}"):
        evaluate(model, other)


def test_another_number_of_antennas_is_refused(model, data):
    fewer = wavefix.ChannelDataset(data.channels[:, :3], data.antenna_positions[:3], data.frequencies, data.positions)
    with pytest.raises(wavefix.DataError, match=r"expected shape \(4, 3\), got \(3, 3\)"):
        require_same_setup(model, fewer, "test_data")


def test_unusable_arguments_are_named(model, data):
    blind = wavefix.ChannelDataset(data.channels, data.antenna_positions, data.frequencies)
    with pytest.raises(wavefix.DataError, match="positions"):
        evaluate(model, blind)
    with pytest.raises(wavefix.DataError, match="wrong_fix_distance"):
        evaluate(model, data, wrong_fix_distance=0.0)
    with pytest.raises(KeyError, match="evaluated: oracle"):
        evaluate(model, data, localizers={"oracle": Oracle(data.positions, 0.0)})["nobody"]


def test_numbers_for_people():
    assert [size(n) for n in (12, 1234, 999_700, 41_000_000, 3 * 10**9)] == ["12 B", "1.23 kB", "1 MB", "41 MB", "3 GB"]
    assert [duration(s) for s in (12.34, 0.0123, 4.2e-6, 5e-9)] == ["12.3 s", "12.3 ms", "4.2 µs", "5 ns"]
    assert [number(v) for v in (None, math.nan, math.inf, 0.012345)] == ["-", "-", "no fix", "0.0123"]
    assert label("off_grid_pi_ps_circles") == "off grid, PI then PS, circles"
    assert label("something_else") == "something_else"
