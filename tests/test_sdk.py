# SPDX-License-Identifier: Apache-2.0
"""``python -m wavefix --cmake-dir`` and the like: where the C++ package of an installed copy is."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wavefix import _core
from wavefix.cli import main

ROOT = Path(__file__).parents[1]


def ask(option, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([option])
    out, err = capsys.readouterr()
    return leaving.value.code, out, err


@pytest.mark.parametrize(
    ("option", "folder", "name"),
    [
        ("--include-dir", "include", "wavefix/wavefix.h"),
        ("--cmake-dir", "lib/cmake/wavefix", "wavefix-config.cmake"),
        ("--pkgconfig-dir", "lib/pkgconfig", "wavefix.pc"),
        ("--library", "lib", "libwavefix.so.0.1"),
    ],
)
def test_paths_lie_beside_the_extension(option, folder, name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_core, "__file__", str(tmp_path / "_core.so"))
    code, out, err = ask(option, capsys)
    assert (code, out) == (2, "")
    assert err.startswith("wavefix: error: ")
    assert err.count("\n") == 1
    file = tmp_path / folder / name
    file.parent.mkdir(parents=True)
    file.touch()
    wanted = file if option == "--library" else tmp_path / folder
    assert ask(option, capsys) == (0, f"{wanted}\n", "")


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("nm") is None, reason="needs nm and an export map")
def test_the_extension_shows_its_entry_only():
    shown = ["nm", "-D", "--defined-only", "--format=just-symbols", _core.__file__]
    assert subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split() == ["PyInit__core"]
