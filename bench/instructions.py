# SPDX-License-Identifier: Apache-2.0
"""Instruction counts of the small kernels by callgrind, for reviews: exact to a few, whatever else the machine does.

    python bench/instructions.py [--write]

Prints them beside those of bench/results/instructions.json, which --write replaces. Counts belong to a compiler;
valgrind has no AVX-512. Needs a C++ compiler and valgrind.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "instructions.json"
LEVELS = ("generic", "avx2")
KERNELS = (
    *("multiply_float", "row_products", "pair_products", "screen", "score", "unit_phasors", "multiply_planes"),
    *("explained_energy", "pair_sums", "path_slopes", "fill_carrier", "add_normal_equations"),
)


def build(folder: str) -> Path:
    program = Path(folder) / "instructions"
    sources = [ROOT / "bench" / "instructions.cpp", ROOT / "cpp" / "src" / "error.cpp"]
    sources += sorted((ROOT / "cpp" / "src").glob("kernels*.cpp"))
    flags = ["-O3", "-g", "-std=c++17", "-fno-math-errno", "-fno-trapping-math"]
    include = [f"-I{ROOT / 'cpp' / part}" for part in ("src", "include")]
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, *flags, *include, *map(str, sources), "-o", str(program)], check=True)
    return program


def count(program: Path, level: str, kernel: str, folder: str) -> int:
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
    valgrind += ["--toggle-collect=*measured_kernel*", str(program), level, kernel]
    finished = subprocess.run(valgrind, check=True, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", finished.stderr)
    if found is None or int(found.group(1)) == 0:
        raise SystemExit(f"{level} {kernel}: nothing was counted\n{finished.stderr}")
    return int(found.group(1))


def main() -> None:
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        program = build(folder)
        counts = {f"{kernel}, {level}": count(program, level, kernel, folder) for kernel in KERNELS for level in LEVELS}
    for name, value in counts.items():
        change = f"{value / before[name] - 1:+.1%} against {before[name]}" if name in before else ""
        print(f"{name:26}{value:8}  {change}")
    if "--write" in sys.argv[1:]:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
