# SPDX-License-Identifier: Apache-2.0
"""Positions that err: the most probable ones against plain NumPy, a fit that refines them, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import wavefix as wfx
from wavefix.cli import main

torch = pytest.importorskip("torch")

from test_fit_spherical import GAINS, TRUE, interrupt_after_a_round, nmse_db, scene, tensors, turns  # noqa: E402
from wavefix.training.spherical import fitting, positions  # noqa: E402
from wavefix.training.spherical.positions import PositionErrors  # noqa: E402
from wavefix.training.spherical.state import Measured, Source  # noqa: E402

C = 299792458.0
ORIGIN = np.array([1.0, 2.0, 1.5])
PLANE = np.eye(3)[:2]
STD = 0.01


def sources(count: int = 3) -> list[Source]:
    rows = zip(TRUE[:count], turns(3), GAINS.astype(complex), strict=False)
    return [Source(true - ORIGIN, turn, np.zeros((2, 4)), np.array([gain]), 0) for true, turn, gain in rows]


def displaced(n: int, std: float = STD, seed: int = 4, count: int = 3) -> tuple[Measured, np.ndarray]:
    """Channels of a scene, scaled to about one, at wrong positions; the true ones."""
    data = scene(n, 0, sources=count)
    truth = data.positions - ORIGIN
    errors = std * np.random.default_rng(seed).standard_normal((n, 2)) @ PLANE
    offsets = data.antenna_positions - data.antenna_positions.mean(axis=0)
    return Measured(truth + errors, data.channels, offsets, data.frequencies, np.zeros(3)), truth


def channel(ones: list[Source], measured: Measured, position: np.ndarray) -> np.ndarray:
    """Equation (1) at one position, in double precision."""
    total = 0.0
    for one in ones:
        distance = np.linalg.norm(position - one.arms(measured.offsets), axis=1)[:, None]
        total = total + one.coefficients[0] / distance * np.exp(-2j * np.pi * measured.frequencies * distance / C)
    return np.asarray(total).reshape(-1)


def test_a_step_is_the_one_of_equation_22_with_differences_for_the_jacobian():
    reported, _ = displaced(6)
    errors = PositionErrors(STD, PLANE)
    search = positions._Search(errors, positions.model_of(sources(), reported), reported)
    left = [reported.channels[n].reshape(-1) - channel(sources(), reported, reported.positions[n]) for n in range(6)]
    pull = sum(np.vdot(one, one).real for one in left) / reported.channels.size / STD**2
    assert search.pull == pytest.approx(pull, rel=1e-5)
    search.step()
    wavelength = C / reported.reference
    for n, rest in enumerate(left):
        slopes = [
            (channel(sources(), reported, x + 1e-6 * e) - channel(sources(), reported, x - 1e-6 * e)) / 2e-6
            for x, e in ((reported.positions[n], e) for e in PLANE)
        ]
        jacobian = np.array(slopes).T
        matrix = (jacobian.conj().T @ jacobian).real + pull * np.eye(2)
        step = np.linalg.solve(matrix + 1e-3 * np.diag(np.diag(matrix)), (jacobian.conj().T @ rest).real)
        step *= min(1, wavelength / 16 / np.linalg.norm(step))
        # a step that makes it worse is not taken
        assert search.moved[n] == pytest.approx(step, rel=1e-3, abs=1e-7) or not search.moved[n].any()
    assert np.count_nonzero(search.moved.any(axis=1)) >= 5


def test_true_sources_put_locations_where_they_are():
    reported, truth = displaced(200)
    moved, energy = PositionErrors(STD, PLANE).most_probable(sources(), reported)
    error = np.linalg.norm(moved.positions - truth, axis=1)
    # a thousandth of a wavelength, without noise; a few of 200 are nearly half of one off, in reach of another minimum
    assert np.median(error) < 1e-4
    assert np.mean(error > 1e-3) < 0.02
    assert moved.positions[:, 2] == pytest.approx(truth[:, 2], abs=1e-12)
    assert 0 <= energy < 1e-2 * reported.energy


def test_a_location_moves_only_where_the_channel_says_so():
    reported, truth = displaced(50, 0.5 * STD, count=1)
    noise = np.random.default_rng(5).standard_normal((*reported.channels.shape, 2)) @ [1, 1j]
    power = reported.energy / reported.channels.size
    reported = reported.with_channels((reported.channels + np.sqrt(0.05 * power) * noise).astype(np.complex64))
    errors = PositionErrors(0.5 * STD, PLANE)
    moved, _ = errors.most_probable(sources(1), reported)
    ray = (truth - sources(1)[0].position)[:, :2]
    ray /= np.linalg.norm(ray, axis=1)[:, None]
    steps = (moved.positions - reported.positions)[:, :2]
    along = np.sum(steps * ray, axis=1)
    wanted = np.sum((truth - reported.positions)[:, :2] * ray, axis=1)
    # one source tells the range: sqrt(0.1 / 2 / 128) rad in 128 entries at 10 dB are 0.27 mm, five of them allowed
    assert along == pytest.approx(wanted, abs=1.4e-3)
    # and little else: a centimeter across turns the ray by 2e-4 rad and the phase at the array's ends by 2e-3
    assert np.linalg.norm(steps - along[:, None] * ray, axis=1).max() < 0.1 * STD
    exact = PositionErrors(0.0, PLANE).most_probable(sources(1), reported)
    assert exact == (reported, 0.0)
    stiff, _ = PositionErrors(1e-9, PLANE).most_probable(sources(1), reported)
    assert np.abs(stiff.positions - reported.positions).max() < 1e-8


def noisy_scene(n: int, std: float = STD) -> tuple[wfx.ChannelDataset, np.ndarray]:
    data = scene(n, 0)
    errors = std * np.random.default_rng(4).standard_normal((n, 2)) @ PLANE
    return replace(data, positions=data.positions + errors), data.positions


def test_a_fit_refines_positions_that_err_by_an_eighth_of_a_wavelength():
    data, truth = noisy_scene(300)
    model = wfx.fit(data, position_std=STD, max_rounds=3, progress=False)
    # What all errors have in common stays, and what else sources can follow: the gain varies with scene and seed.
    as_they_are = wfx.fit(data, max_rounds=3, progress=False)
    test = scene(60, 9)
    assert nmse_db(model, test) < nmse_db(as_they_are, test) - 8  # three seeds: 11 to 19
    story = json.loads(model.metadata["training"])
    assert story["position_std"] == STD
    assert story["position_moves"] == pytest.approx(STD, rel=0.15)  # of 540 numbers: 3 % are a standard deviation
    assert story["validation_nmse_db"] < -25  # where the model puts them
    fixes = wfx.refine(model, data.channels, data.positions)
    error = np.linalg.norm(fixes.position - truth, axis=1)
    assert np.median(error) < 0.3 * np.sqrt(2 * np.log(2)) * STD  # the median before: 1.18 cm


def test_an_interrupted_fit_goes_on_with_the_same_positions(tmp_path, monkeypatch):
    data, _ = noisy_scene(100)
    options = {"max_rounds": 2, "progress": False, "position_std": STD}
    whole = fitting.fit_spherical(data, **options)
    path = tmp_path / "state.safetensors"
    interrupt_after_a_round(monkeypatch, data, checkpoint=path, **options)
    assert tensors(fitting.fit_spherical(data, checkpoint=path, **options)) == tensors(whole)
    with pytest.raises(wfx.DataError, match="other data or options"):
        fitting.fit_spherical(data, checkpoint=path, **(options | {"position_std": 0.02}))


@pytest.mark.parametrize("std", [-1e-3, np.nan, np.inf, 0.05])
def test_a_standard_deviation_is_a_small_part_of_the_wavelength(std):
    with pytest.raises(ValueError, match="position_std"):
        wfx.fit(scene(20, 0), position_std=std)


def test_other_kinds_do_not_know_it(tmp_path, capsys):
    with pytest.raises(TypeError, match="position_std"):
        wfx.fit(scene(20, 0), "planar", position_std=STD)
    scene(20, 0).save(tmp_path / "train.npz")
    command = ["fit", str(tmp_path / "train.npz"), "-o", str(tmp_path / "a.safetensors")]
    assert main([*command, "--position-std", "0.01", "--kind", "planar"]) == 2
    assert "--position-std is for --kind spherical" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--position-std", "-0.01"])
    assert "not negative" in capsys.readouterr().err


def test_the_command_passes_it_on(tmp_path, capsys):
    noisy_scene(60)[0].save(tmp_path / "train.npz")
    command = ["fit", str(tmp_path / "train.npz"), "-o", str(tmp_path / "a.safetensors"), "--time-limit", "0.5"]
    assert main([*command, "--position-std", "0.01"]) == 0
    story = json.loads(wfx.ChannelModel.load(tmp_path / "a.safetensors").metadata["training"])
    assert story["position_std"] == STD
