# SPDX-License-Identifier: Apache-2.0
"""Pictures: written whole, in the format asked for, and showing what was evaluated."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import wavefix
from wavefix import plots
from wavefix.bench import random_model
from wavefix.evaluation import evaluate

pytest.importorskip("matplotlib")

SIGNATURES = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture(scope="module")
def model():
    return random_model(np.random.default_rng(3), antennas=4, subcarriers=5, atoms=6, width=8)


@pytest.fixture(scope="module")
def data(model):
    generator = np.random.default_rng(4)
    positions = model.region.origin + generator.uniform(-1, 1, (20, 2)) @ model.region.basis
    return wavefix.ChannelDataset(model.synthesize(positions), model.antenna_positions, model.frequencies, positions)


@pytest.fixture(scope="module")
def result(model, data):
    generator = np.random.default_rng(5)
    offsets = generator.normal(0, 1e-3, (20, 3))
    offsets[0], offsets[1] = np.nan, 0.5  # no fix, and a wrong one
    good = SimpleNamespace(locate=lambda channels: data.positions + offsets)
    poor = SimpleNamespace(locate=lambda channels: data.positions + 100 * offsets)
    return evaluate(model, data, localizers={"poor": poor, "good": good})


@pytest.mark.parametrize("kind", plots.FORMATS)
def test_every_format_is_written(kind, result, tmp_path):
    plots.save_error_cdf(tmp_path / f"cdf.{kind}", result)
    assert (tmp_path / f"cdf.{kind}").read_bytes().startswith(SIGNATURES[kind])
    assert len(list(tmp_path.iterdir())) == 1


def test_the_whole_picture_is_written_and_repeats(result, data, model, tmp_path):
    scene = wavefix.Scene.named("box")
    for name in ("a.png", "b.png"):
        plots.save_picture(tmp_path / name, result, data, train_data=data, model=model, scene=scene, method="good")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_unknown_format_is_refused_before_drawing(result, tmp_path):
    with pytest.raises(wavefix.DataError, match=r"ends in \.png, \.pdf, \.svg"):
        plots.save_error_cdf(tmp_path / "cdf.txt", result)
    assert not list(tmp_path.iterdir())


def test_a_method_without_any_fix_is_drawn(model, data, tmp_path):
    nothing = SimpleNamespace(locate=lambda channels: np.full((len(channels), 3), np.nan))
    empty = evaluate(model, data, localizers={"nothing": nothing})
    plots.save_picture(tmp_path / "a.png", empty, data)
    assert (tmp_path / "a.png").exists()


def test_error_vectors_are_magnified_by_a_power_of_ten():
    assert plots.magnification(np.full(9, 1e-4), 5.0) == 1000
    assert plots.magnification(np.full(9, 0.02), 5.0) == 10
    assert plots.magnification(np.full(9, 2.0), 5.0) == 1
    assert plots.magnification(np.zeros(0), 5.0) == 1


def test_outlines_close(model):
    corners = plots.region_outline(model)
    np.testing.assert_array_equal(corners[0], corners[-1])
    assert set(np.ptp(corners, axis=0).round(9)) == {5.0, 0.0}
    scene = wavefix.Scene.named("box")
    outlines = plots.wall_outlines(scene)
    assert 0 < len(outlines) < len(scene.walls)  # the floor is left out
    assert plots.wall_outlines(None) == []
    assert plots.region_outline(None) is None


def test_importing_wavefix_does_not_import_matplotlib():
    code = "import sys, wavefix, wavefix.cli, wavefix.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
