# SPDX-License-Identifier: Apache-2.0
"""``wavefix fit`` and the demo: what they write, resume, and leave behind when they are interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wavefix
from wavefix import demo
from wavefix.cli import main

pytest.importorskip("torch")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wavefix.simulate("box", 60, seed=0).save("train.npz")
    wavefix.simulate("box", 4, seed=1).save("test.npz")
    return tmp_path


def test_fit_writes_a_model_that_evaluate_reads(here, capsys):
    assert main(["fit", "train.npz", "-o", "scene.safetensors", "--time-limit", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["bytes"] == os.path.getsize("scene.safetensors")
    model = wavefix.ChannelModel.load("scene.safetensors")
    assert record["atoms"] == model.n_atoms
    assert main(["evaluate", "scene.safetensors", "test.npz", "--strategy", "on_grid_naive"]) == 0
    assert "channel NMSE" in capsys.readouterr().out


def test_a_baseline_is_evaluated_by_its_channels_alone(here, capsys):
    assert main(["fit", "train.npz", "-o", "mlp.safetensors", "--kind", "mlp", "--time-limit", "1"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "mlp.safetensors", "test.npz", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["methods"] == []
    assert record["model"]["kind"] == "mlp"
    assert record["channel"]["nmse_db"] < 20
    assert main(["locate", "mlp.safetensors", "test.npz", "--json"]) == 2
    assert "mlp.safetensors" in capsys.readouterr().err


def test_an_existing_checkpoint_of_other_data_is_refused(here, capsys):
    fit = ["fit", "train.npz", "-o", "a.safetensors", "--time-limit", "1", "--kind", "mlp", "--checkpoint", "a.ckpt"]
    (here / "a.ckpt").write_bytes(b"not a checkpoint")
    assert main(fit) == 2
    assert "a.ckpt" in capsys.readouterr().err
    assert not (here / "a.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_the_checkpoint_and_nothing_half_written(here):
    # enough locations that the training takes many times as long as a signal
    wavefix.simulate(wavefix.Scene.named("box"), n=4000).save("train.npz")
    command = [sys.executable, "-m", "wavefix", "fit", "train.npz", "-o", "a.safetensors", "--kind", "mlp"]
    environment = os.environ | {"PYTHONPATH": str(Path(wavefix.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--checkpoint", "a.ckpt"], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + 60
        while not (here / "a.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert err == "wavefix: interrupted; the training so far is kept in a.ckpt; run the same command to resume\n"
    assert sorted(path.name for path in here.iterdir()) == ["a.ckpt", "test.npz", "train.npz"]


def test_the_demo_writes_everything_it_promises(here):
    pytest.importorskip("matplotlib")
    said = []
    tiny = demo.Budget(0.5, 2, 4, 60, 4, 2.0, ("on_grid_naive",))
    result = demo.run("out", scene=wavefix.Scene.named("box"), budget=tiny, say=said.append)
    names = ["model.safetensors", "picture.png", "results.json", "test.npz", "train.npz"]
    assert sorted(path.name for path in (here / "out").iterdir()) == names
    assert (result.settings["antennas"], result.settings["subcarriers"]) == (2, 4)
    assert result.table() in said
    assert json.loads(Path("out/results.json").read_text())["settings"]["test_locations"] == 4
