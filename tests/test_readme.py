# SPDX-License-Identifier: Apache-2.0
"""The README keeps its word: its Python runs, its C++ compiles, its commands and files exist."""

import functools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import wavefix
from wavefix.cli import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_lines_run(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    wavefix.simulate("box", 80, seed=0).save("train.npz")
    wavefix.simulate("box", 3, seed=1).save("test.npz")
    monkeypatch.setattr(wavefix, "fit", functools.partial(wavefix.fit, time_limit=2.0))
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 9
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["fixes"].position.shape == (3, 3)
    assert names["bound"].shape == (3,)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_cpp_lines_compile(tmp_path):
    (code,) = blocks("cpp")
    include, body = code.split("\n", 1)
    source = f"{include}\n#include <cstdint>\n#include <vector>\nusing Channels = const wavefix::cfloat*;\n"
    source += f"void f(Channels channels, std::size_t n) {{\n{body}}}\n"
    (tmp_path / "readme.cpp").write_text(source)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", str(ROOT / "cpp/include")]
    subprocess.run(["c++", *flags, str(tmp_path / "readme.cpp")], check=True)


def test_every_command_parses():
    commands = [
        line.split("#")[0].strip()
        for block in blocks("sh")
        for line in block.splitlines()
        if line.strip().startswith("wavefix ")
    ]
    assert any(line.startswith("wavefix fit") for line in commands)
    for command in commands:
        build_parser().parse_args(shlex.split(command)[1:])


def test_the_two_commands_are_there():
    assert "python -m pip install -c constraints.txt '.[all]' && wavefix demo" in README
    assert "python -m pip install -c constraints.txt '.[test]' && python -m pytest" in README


def test_links_lead_to_files():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).is_file(), target
    figure = ROOT / "docs/figures/demo.png"
    assert figure.stat().st_size < 300_000
