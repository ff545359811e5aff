# SPDX-License-Identifier: Apache-2.0
"""The command line: every command, and every way of holding it wrong answered in one line with exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wavefix
from spherical_models import random_spherical_model
from wavefix.bench import random_model
from wavefix.cli import build_parser, main

# a process of its own must find the same package, wherever it runs
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(wavefix.__file__).parents[1])}
COMMANDS = ("demo", "simulate", "fit", "locate", "evaluate", "info", "bench")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a model of random weights and datasets that it explains exactly."""
    folder = tmp_path_factory.mktemp("files")
    generator = np.random.default_rng(1)
    model = random_model(generator, antennas=4, subcarriers=5, atoms=6, width=8, extent=0.5)
    model.save(folder / "scene.safetensors")
    for name, n in (("train.npz", 30), ("test.npz", 6)):
        positions = model.region.origin + generator.uniform(-0.2, 0.2, (n, 2)) @ model.region.basis
        flags = np.arange(n) % 2 == 0
        setup = (model.antenna_positions, model.frequencies)
        wavefix.ChannelDataset(model.synthesize(positions), *setup, positions, flags).save(folder / name)
    np.savez(folder / "bare.npz", channels=model.synthesize(positions))
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """An empty working folder with links to the files."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fails(capsys):
    """Run a command that must fail: exit code 2, nothing on stdout, one line on stderr; that line."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse leaves that way
            code = leaving.code
        out, err = capsys.readouterr()
        assert code == 2, err
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith("wavefix: error: "), err
        return err

    return run


def test_help_names_every_command_with_examples(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    out = capsys.readouterr().out
    assert all(f"wavefix {command}" in out for command in ("demo", "simulate", "fit", "locate", "evaluate"))
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"examples:\n  wavefix {command}" in capsys.readouterr().out


def test_every_command_has_code_behind_it():
    from wavefix import commands

    (choices,) = (action.choices for action in build_parser()._actions if action.dest == "command")
    assert tuple(choices) == COMMANDS
    assert all(callable(getattr(commands, f"run_{command}")) for command in COMMANDS)


def test_simulate_lists_and_writes(here, capsys):
    assert main(["simulate", "--list"]) == 0
    assert capsys.readouterr().out.split() == list(wavefix.scenes())
    assert main(["simulate", "box", "-o", "a.npz", "-n", "7", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["locations"] == 7
    written = wavefix.ChannelDataset.load("a.npz")
    np.testing.assert_array_equal(written.channels, wavefix.simulate("box", 7, seed=3).channels)
    wavefix.Scene.named("box").save("mine.json")
    assert main(["simulate", "mine.json", "-o", "b.npz", "-n", "7", "--seed", "3", "--snr-db", "5"]) == 0
    noisy = wavefix.ChannelDataset.load("b.npz")
    np.testing.assert_array_equal(noisy.channels, written.with_noise(5, 3).channels)


def test_locate_writes_what_the_localizer_finds(here, capsys):
    assert main(["locate", "scene.safetensors", "test.npz", "-o", "fixes.npz"]) == 0
    assert "6 fixes" in capsys.readouterr().out
    model = wavefix.ChannelModel.load("scene.safetensors")
    expected = wavefix.Localizer(model).locate(wavefix.ChannelDataset.load("test.npz").channels)
    with np.load("fixes.npz") as archive:
        assert set(archive) == {"position", "covariance", "status", "residual", "ambiguity", "float_position"}
        for name in archive:
            np.testing.assert_array_equal(archive[name], getattr(expected, name))


def test_locate_needs_channels_only_and_prints_json(here, capsys):
    assert main(["locate", "scene.safetensors", "bare.npz", "--json", "--strategy", "on_grid_naive"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["strategy"] == "on_grid_naive"
    model = wavefix.ChannelModel.load("scene.safetensors")
    expected = wavefix.Localizer(model, strategy="on_grid_naive").locate(
        wavefix.ChannelDataset.load("test.npz").channels
    )
    np.testing.assert_array_equal([fix["position"] for fix in record["fixes"]], expected.position)


def test_a_query_with_nan_keeps_its_place_and_the_others_their_fixes(here, capsys):
    data = wavefix.ChannelDataset.load("test.npz")
    channels = data.channels.copy()
    channels[2, 0, 0] = np.nan
    np.savez("nan.npz", channels=channels)
    assert main(["locate", "scene.safetensors", "nan.npz", "--json"]) == 0
    fixes = json.loads(capsys.readouterr().out)["fixes"]
    assert [fix["status"] == "invalid_input" for fix in fixes] == [False, False, True, False, False, False]
    assert fixes[2]["position"] == [None] * 3
    assert main(["locate", "scene.safetensors", "test.npz", "--json"]) == 0
    clean = json.loads(capsys.readouterr().out)["fixes"]
    assert [clean[i] == fixes[i] for i in range(6)] == [True, True, False, True, True, True]


def test_evaluate_prints_a_table_and_writes_json_and_pictures(here, capsys):
    pytest.importorskip("matplotlib")
    command = ["evaluate", "scene.safetensors", "test.npz", "--train", "train.npz", "--strategy", "off_grid_naive"]
    assert main([*command, "--snr-db", "20", "--plot", "cdf.png", "--map", "map.svg", "--json", "out.json"]) == 0
    out = capsys.readouterr().out
    assert "3-NN fingerprints, PS" in out
    assert "off grid, PS" in out
    record = json.loads((here / "out.json").read_text())
    assert [method["name"] for method in record["methods"]][2:] == ["off_grid_naive"]
    assert (here / "cdf.png").stat().st_size > 1000
    assert (here / "map.svg").stat().st_size > 1000
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["snr_db"] is None


def test_json_takes_a_file_only_where_its_name_says_so(here, capsys):
    command = ["evaluate", "--strategy", "on_grid_naive", "--json", "scene.safetensors", "test.npz"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "wavefix.evaluation"
    assert wavefix.ChannelModel.load("scene.safetensors")


def test_info_describes_each_kind_of_file(here, capsys):
    main(["locate", "scene.safetensors", "test.npz", "-o", "fixes.npz"])
    wavefix.Scene.named("box").save("box.json")
    capsys.readouterr()
    for name, what in {
        "scene.safetensors": "model",
        "test.npz": "dataset",
        "bare.npz": "queries",
        "fixes.npz": "fixes",
        "box.json": "scene",
    }.items():
        assert main(["info", name]) == 0
        assert f"what{' ' * 2}" in capsys.readouterr().out.replace("   ", "  ")
        assert main(["info", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["what"] == what
    assert main(["info", "--json"]) == 0
    build = json.loads(capsys.readouterr().out)
    assert build["version"] == wavefix.__version__
    assert build["threads"] >= 1


def test_info_reads_hdf5(here, capsys):
    pytest.importorskip("h5py")
    wavefix.ChannelDataset.load("test.npz").save("test.h5")
    assert main(["info", "test.h5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["locations"] == 6
    assert main(["locate", "scene.safetensors", "test.h5", "--json", "--strategy", "on_grid_naive"]) == 0


def test_bench_asserts_and_prints(here, capsys):
    assert main(["bench", "--quick", "--model", "scene.safetensors", "--json", "bench.json"]) == 0
    assert "synthesize" in capsys.readouterr().out
    rows = json.loads((here / "bench.json").read_text())["rows"]
    assert {row["stage"] for row in rows} == {"synthesize", "search", "refine", "locate"}
    assert all(row["seconds"] > 0 for row in rows)


def test_unknown_words_are_answered(here, fails):
    assert "COMMAND" in fails()
    assert "invalid choice: 'solve'" in fails("solve")
    assert "arguments are required: TRAIN, -o/--output (see 'wavefix fit --help')" in fails("fit")
    assert "invalid whole number value: 'many'" in fails("simulate", "box", "-o", "a.npz", "-n", "many")
    assert "at least 1" in fails("simulate", "box", "-o", "a.npz", "-n", "0")
    assert "argument --strategy: invalid choice" in fails(
        "locate", "scene.safetensors", "test.npz", "--json", "--strategy", "guess"
    )
    assert "expected SCENE and -o FILE" in fails("simulate", "box")


def test_an_unknown_scene_is_answered_with_the_known_ones(here, fails):
    line = fails("simulate", "atlantis", "-o", "a.npz")
    assert "'atlantis'" in line
    assert all(name in line for name in wavefix.scenes())
    assert "No such file" in fails("simulate", "atlantis.json", "-o", "a.npz")


@pytest.mark.parametrize("name", ["missing.npz", "folder", "empty.npz", "truncated.npz", "text.npz", "array.npy"])
def test_unreadable_datasets(name, here, fails):
    (here / "folder").mkdir()
    (here / "empty.npz").write_bytes(b"")
    (here / "truncated.npz").write_bytes((here / "test.npz").read_bytes()[:700])
    (here / "text.npz").write_text("not an archive")
    np.save(here / "array.npy", np.zeros(3))
    assert name in fails("evaluate", "scene.safetensors", name)
    assert name in fails("locate", "scene.safetensors", name, "-o", "fixes.npz")
    assert name in fails("info", name)
    assert name in fails("fit", name, "-o", "new.safetensors")
    assert not (here / "fixes.npz").exists()


def test_foreign_and_damaged_models(here, fails):
    import safetensors.numpy

    safetensors.numpy.save_file({"weight": np.zeros(3)}, here / "foreign.safetensors")
    (here / "short.safetensors").write_bytes((here / "scene.safetensors").read_bytes()[:-100])
    for name in ("foreign.safetensors", "short.safetensors", "test.npz", "missing.safetensors"):
        assert name in fails("locate", name, "test.npz", "--json")
        assert name in fails("evaluate", name, "test.npz")
    fails("info", "foreign.safetensors")


def test_queries_that_disagree_with_the_model(here, fails):
    data = wavefix.ChannelDataset.load("test.npz")

    def saved(channels, antennas=data.antenna_positions, frequencies=data.frequencies):
        np.savez("q.npz", channels=channels, antenna_positions=antennas, frequencies=frequencies)
        return "q.npz"

    locate = ("locate", "scene.safetensors")
    assert "antenna_positions disagree" in fails(*locate, saved(data.channels, data.antenna_positions + 1), "--json")
    assert "frequencies disagree" in fails(*locate, saved(data.channels, frequencies=data.frequencies + 1e6), "--json")
    fewer = saved(data.channels[:, :3], data.antenna_positions[:3])
    assert "expected shape (4, 3), got (3, 3)" in fails(*locate, fewer, "--json")
    assert "antenna_positions: expected 4 entries, got 3" in fails(
        *locate, saved(data.channels, data.antenna_positions[:3]), "--json"
    )
    for channels, message in (
        (data.channels[:, :, :3], "expected shape (n, 4, 5), got (6, 4, 3)"),
        (data.channels[0], "expected shape (n, 4, 5), got (4, 5)"),
        (data.channels[:0], "at least one query"),
        (data.channels.real, "expected complex64, got float32"),
    ):
        np.savez("bad.npz", channels=channels)
        assert message in fails(*locate, "bad.npz", "--json")


def test_outputs_are_checked_before_the_work(here, fails, monkeypatch):
    def never(*_args, **_kwargs):
        pytest.fail("the work began")

    for name in ("simulate", "fit", "Localizer"):
        monkeypatch.setattr(wavefix, name, never)
    monkeypatch.setattr("wavefix.commands.evaluate", never)
    (here / "folder").mkdir()
    for bad, message in (("none/a.npz", "folder does not exist"), ("folder", "is a folder")):
        assert message in fails("simulate", "box", "-o", bad)
        assert message in fails("fit", "train.npz", "-o", bad)
        assert message in fails("fit", "train.npz", "-o", "m", "--checkpoint", bad)
        assert message in fails("locate", "scene.safetensors", "test.npz", "-o", bad)
    assert "folder does not exist" in fails("evaluate", "scene.safetensors", "test.npz", "--json", "none/a.json")
    assert "folder does not exist" in fails("evaluate", "scene.safetensors", "test.npz", "--plot", "none/a.png")
    assert "ends in .png" in fails("evaluate", "scene.safetensors", "test.npz", "--plot", "a.txt")
    assert "is not a folder" in fails("demo", "-o", "test.npz")
    assert "nowhere to go" in fails("locate", "scene.safetensors", "test.npz")
    assert "needs --train" in fails("evaluate", "scene.safetensors", "test.npz", "--mlp")


def test_an_input_is_not_overwritten(here, fails):
    before = (here / "train.npz").read_bytes()
    assert "would be overwritten" in fails("fit", "train.npz", "-o", "train.npz")
    assert "would be overwritten" in fails("locate", "scene.safetensors", "train.npz", "-o", "train.npz")
    assert (here / "train.npz").read_bytes() == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(here, fails):
    (here / "locked").mkdir(mode=0o500)
    assert "cannot write there" in fails("simulate", "box", "-o", "locked/a.npz")


def test_interruption_is_one_line_and_leaves_nothing(here, capsys, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(wavefix, "simulate", interrupted)
    before = set(here.iterdir())
    assert main(["simulate", "box", "-o", "a.npz"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "wavefix: interrupted; nothing was written\n")
    assert set(here.iterdir()) == before


def test_debugging_shows_the_traceback(here, monkeypatch):
    monkeypatch.setenv("WAVEFIX_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["info", "missing.npz"])


def test_a_bug_of_ours_is_told_as_one(here, capsys, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(wavefix, "simulate", broken)
    assert main(["simulate", "box", "-o", "a.npz"]) == 1
    assert capsys.readouterr().err.startswith("wavefix: error: internal: ZeroDivisionError: a b (")


def run_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "wavefix", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRONMENT,
    )


def test_the_module_runs_as_a_process(here):
    done = run_process("simulate", "box", "-o", "p.npz", "-n", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 locations" in done.stdout
    failed = run_process("info", "nothing.npz")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr == "wavefix: error: nothing.npz: No such file or directory\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
def test_a_reader_that_leaves_early_is_no_error(here):
    script = (
        f'"{sys.executable}" -m wavefix locate scene.safetensors test.npz --json --strategy on_grid_naive | head -1'
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_info_describes_virtual_sources(tmp_path, capsys):
    file = random_spherical_model(1, degree=3)
    (tmp_path / "model").write_bytes(file.data)
    assert main(["info", str(tmp_path / "model"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["kind"], record["sources"], record["gain_degree"]) == ("spherical", 4, 3)
    assert record["gate_lines"] == len(file.tensors["gate_lines"])
    assert record["gated_sources"] == 2
