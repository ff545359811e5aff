# SPDX-License-Identifier: Apache-2.0
"""The layout is a promise: one word for each stage, in every directory."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("propagation", "channel_model", "dictionary", "refine", "localizer")
PLACES = (
    "cpp/include/wavefix/{}.hpp",
    "cpp/src/{}.cpp",
    "cpp/bindings/{}.cpp",
    "cpp/tests/{}_test.cpp",
    "python/wavefix/{}.py",
    "tests/test_{}.py",
    "bench/bench_{}.py",
)
PATTERNS = (
    ("cpp", "*.[ch]pp"),
    ("cpp", "*.[ch]"),
    ("python", "*.py"),
    ("tests", "*.py"),
    ("bench", "*.py"),
    ("examples", "*.c*"),
    ("examples", "*.py"),
)
SOURCES = sorted(path for folder, pattern in PATTERNS for path in (ROOT / folder).rglob(pattern))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_all_of_its_files(stage):
    missing = [place.format(stage) for place in PLACES if not (ROOT / place.format(stage)).is_file()]
    assert not missing


def test_headers_include_only_earlier_stages_and_no_eigen():
    for index, stage in enumerate(STAGES):
        text = (ROOT / f"cpp/include/wavefix/{stage}.hpp").read_text()
        assert "Eigen" not in text
        assert "omp.h" not in text
        included = re.findall(r'#include "wavefix/(\w+)\.hpp"', text)
        assert not set(included) & set(STAGES[index:]), f"{stage}.hpp includes a later stage"


def test_python_stages_import_only_earlier_stages():
    later = {"evaluation", "results", "report", "commands", "cli", "demo", "plots", "describe"}
    later |= {"bench", "bench_peers", "peaks"}
    for index, stage in enumerate(STAGES):
        text = (ROOT / f"python/wavefix/{stage}.py").read_text()
        imported = set(re.findall(r"^from wavefix\.(\w+)", text, re.MULTILINE))
        assert not imported & (set(STAGES[index:]) | later), f"{stage}.py imports a later stage"


def test_only_the_training_part_imports_torch():
    allowed = {"bench.py", "commands.py"}  # in functions, for those who have it
    for path in (ROOT / "python/wavefix").rglob("*.py"):
        inside = "training" in path.parts or path.name in allowed
        assert inside or not re.search(r"^\s*(import|from) torch", path.read_text(), re.MULTILINE), path


def test_sources_name_their_license():
    assert SOURCES
    for path in SOURCES:
        text = path.read_text()
        assert not text or "SPDX-License-Identifier: Apache-2.0" in text.splitlines()[0], path
