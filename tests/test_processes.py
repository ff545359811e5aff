# SPDX-License-Identifier: Apache-2.0
"""Processes and threads around wavefix: fork, spawn, data loaders, import orders, signals, many callers.

What may hang runs in a process of its own and is killed after a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import wavefix as wfx
from plane_waves import add_noise, plane_wave_model, random_positions
from spherical_models import random_spherical_model

ROOT = Path(wfx.__file__).parents[1]
TESTS = Path(__file__).parent
PREAMBLE = """
import os, signal, sys, threading, time
import numpy as np
import wavefix as wfx
from plane_waves import plane_wave_model, random_positions
model = plane_wave_model(0, waves=6, extent=2.0)
positions = random_positions(model, 64)
"""
LOCATE = "localizer.locate(channels, threads=N)"
unix_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def environment(**changes: str) -> dict[str, str]:
    paths = [str(ROOT), str(TESTS), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | changes


def run(script: str, preamble: str = PREAMBLE, timeout: float = 60, **changes: str) -> str:
    code = preamble + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, env=environment(**changes)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_many_python_threads_share_one_localizer() -> None:
    model = plane_wave_model(0, waves=6, extent=2.0)
    positions = random_positions(model, 9)
    channels = add_noise(model.synthesize(positions), 10.0)
    localizer = wfx.Localizer(model)
    dictionary = wfx.Dictionary.from_model(model, 0.02)

    def work(threads: int) -> list[bytes]:
        fixes = localizer.locate(channels, threads=threads)
        indices, distances = dictionary.search(channels, k=3, threads=threads)
        refined = wfx.refine(model, channels, positions, threads=threads)
        arrays = (fixes.position, fixes.covariance, fixes.ambiguity, indices, distances, refined.position)
        return [a.tobytes() for a in (*arrays, model.synthesize(positions, threads=threads))]

    wanted = work(1)
    same: list[bool] = []
    callers = [
        threading.Thread(target=lambda t=t: same.extend(work(t % 4) == wanted for _ in range(3)))  # type: ignore[misc]
        for t in range(12)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert same == [True] * 36


def virtual_sources() -> wfx.ChannelModel:
    """With gates, in a region a few wavelengths wide."""
    file = random_spherical_model(2, sources=5, antennas=5, subcarriers=7)
    file.tensors["region.lower"], file.tensors["region.upper"] = np.full(2, -0.1), np.full(2, 0.1)
    return wfx.ChannelModel.from_bytes(file.data)


@pytest.mark.parametrize("kind", ["planar", "spherical"])
@pytest.mark.parametrize("strategy", ["float_fix", "off_grid_pi_ps_circles"])
def test_results_do_not_depend_on_batch_threads_or_order(kind: str, strategy: str) -> None:
    model = virtual_sources()
    if kind == "planar":
        model = plane_wave_model(0, waves=7, extent=2.0, antennas=5, subcarriers=7)
    positions = random_positions(model, 23)
    order = np.random.default_rng(0).permutation(23)
    channels = add_noise(model.synthesize(positions), 8.0)
    channels[11] = np.nan
    channels[12] *= np.float32(1e-25)
    measured = wfx.ChannelDataset(model.synthesize(positions), model.antenna_positions, model.frequencies, positions)
    localizer = wfx.Localizer(model, strategy)

    def answers(rows: np.ndarray, threads: int) -> list[np.ndarray]:
        x, h = positions[rows], channels[rows]
        fixes, refined = localizer.locate(h, threads=threads), wfx.refine(model, h, x, threads=threads)
        out = np.empty((len(rows), *channels.shape[1:]), np.complex64)
        localizer.locate(h, out=fixes, threads=threads)
        found = [fixes.position, fixes.covariance, fixes.status, fixes.residual, fixes.ambiguity, fixes.float_position]
        found += [refined.position, refined.cost, refined.iterations, wfx.position_error_bound(model, x, 9.0, threads)]
        found += [*model.synthesize(x, True, threads=threads), model.synthesize(x, threads=threads, out=out)]
        for dictionary in (wfx.Dictionary.from_measurements(measured), wfx.Dictionary.from_model(model, 0.01)):
            for similarity in ("phase_sensitive", "phase_insensitive"):
                found += dictionary.search(h, similarity, k=2, threads=threads)  # type: ignore[arg-type]
        return found

    wanted = answers(np.arange(23), 1)
    for threads, pieces in ((2, [order]), (3, [order[:1], order[1:9], order[9:]]), (1, np.array_split(order, 23))):
        parts = [answers(rows, threads) for rows in pieces]
        for got, expected in zip(zip(*parts, strict=True), wanted, strict=True):
            assert np.concatenate(got).tobytes() == expected[order].tobytes()


@unix_only
@pytest.mark.parametrize("first", ["wavefix", "torch", pytest.param("both", marks=pytest.mark.slow)])
def test_a_forked_child_computes_on_several_threads(first: str) -> None:
    if first != "wavefix":
        pytest.importorskip("torch")
    assert run(
        f"""
        if {first!r} != "wavefix":
            import torch
            torch.set_num_threads(4)
            (torch.ones(500, 500) @ torch.ones(500, 500)).sum()
            torch.ones(3_000_000).exp()
        wanted = None if {first!r} == "torch" else model.synthesize(positions, threads=4)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            got = model.synthesize(positions, threads=4)
            threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 4
            same = wanted is None or np.array_equal(got, wanted)
            wfx.Localizer(model).locate(got[:4], threads=4)
            os._exit(0 if same and threads == 4 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    ).endswith("0")


POOL = """
import multiprocessing
def work(arguments):
    localizer, channels = arguments
    return localizer.locate(channels, threads=2).position
if __name__ == "__main__":
    model = plane_wave_model(0, waves=6, extent=2.0)
    channels = model.synthesize(random_positions(model, 8))
    localizer = wfx.Localizer(model)
    wanted = localizer.locate(channels, threads=2).position
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        parts = pool.map(work, [(localizer, channels[:4]), (localizer, channels[4:])])
    assert np.array_equal(np.concatenate(parts), wanted)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_localizers_work_in_pools(method: str, tmp_path: Path) -> None:
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    script = tmp_path / "pool.py"
    script.write_text(PREAMBLE.split("model =")[0] + POOL)
    command = [sys.executable, str(script), method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment())
    assert done.returncode == 0, done.stderr


def test_workers_of_a_data_loader_stay_on_one_thread() -> None:
    pytest.importorskip("torch")
    assert run(
        """
        import torch
        model.synthesize(positions, threads=2)
        class Users(torch.utils.data.Dataset):
            def __len__(self):
                return 2  # one for each worker, before its first answer is sent, for which torch starts a thread
            def __getitem__(self, index):
                before = len(os.listdir("/proc/self/task"))
                channels = model.synthesize(positions)
                # a caller that stays alone starts no thread
                return torch.from_numpy(channels[index]), len(os.listdir("/proc/self/task")) - before
        loader = torch.utils.data.DataLoader(Users(), num_workers=2, multiprocessing_context="fork", timeout=30)
        rows = list(loader)
        assert np.array_equal(np.concatenate([row[0] for row in rows]), model.synthesize(positions[:2]))
        print(max(int(row[1]) for row in rows))
        """,
        OMP_NUM_THREADS="2",
    ).endswith("0")


def test_workers_are_recognized_without_a_shared_openmp() -> None:
    # torch tells its own OpenMP runtime only, which a wheel of wavefix need not share
    script = """
    import types
    loader = sys.modules["torch.utils.data"] = types.ModuleType("torch.utils.data")
    loader.get_worker_info = lambda: "a worker"
    model.synthesize(positions)
    alone = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
    loader.get_worker_info = lambda: None
    model.synthesize(positions)
    print(alone, len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 3)
    """
    assert run(script, OMP_NUM_THREADS="3", OPENBLAS_NUM_THREADS="1") == "1 3"


@pytest.mark.parametrize("order", [("wavefix", "torch"), ("torch", "wavefix")])
def test_torch_may_be_imported_before_or_after(order: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    imports = "\n".join(f"import {name}" for name in order)
    script = """
    import torch
    channels = torch.from_numpy(model.synthesize(torch.from_numpy(positions), threads=2))
    matrix = torch.ones(300, 300)
    assert float((matrix @ matrix)[0, 0]) == 300.0
    assert torch.equal(channels, torch.from_numpy(model.synthesize(positions, threads=1)))
    torch.set_num_threads(1)
    assert wfx._core.max_threads() == 1 or not wfx._core.openmp
    """
    run(script, imports + PREAMBLE, OMP_NUM_THREADS="2")


@pytest.mark.parametrize(("variable", "wanted"), [("1", 1), ("3", 3)])
def test_the_usual_environment_variable_is_respected(variable: str, wanted: int) -> None:
    script = """
    model.synthesize(positions)
    print(wfx._core.max_threads(), len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0)
    """
    most, running = map(int, run(script, OMP_NUM_THREADS=variable, OPENBLAS_NUM_THREADS="1").split())
    assert most == wanted
    assert running in (0, wanted)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("call", ["model.synthesize(np.repeat(positions, 100, axis=0), threads=N)", LOCATE])
def test_daemon_threads_may_be_in_a_call_when_the_interpreter_ends(call: str, threads: int) -> None:
    # Python unwinds such a thread where it asks for the lock; a destructor in the way would abort the process
    script = f"""
    channels = model.synthesize(positions)
    localizer = wfx.Localizer(model)
    def work():
        while True:
            {call.replace("=N)", f"={threads})")}
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)
    print("end")
    """
    assert run(script) == "end"


LONG_CALLS = {  # tests/test_interrupts.py has all of them; here a terminal's signal ends a process
    "synthesize": "model.synthesize(np.repeat(positions, 3000, axis=0), threads=2)",
    "fit": "wfx.fit(wfx.simulate(wfx.Scene.named('plaza').with_(antennas=8, subcarriers=8), n=600), progress=False)",
}


@unix_only
@pytest.mark.parametrize("call", ["synthesize", pytest.param("fit", marks=pytest.mark.slow)])
def test_a_signal_from_outside_ends_a_call_within_a_second(call: str) -> None:
    if call == "fit":
        pytest.importorskip("torch")
    code = PREAMBLE + textwrap.dedent(
        f"""
        print("ready", flush=True)
        try:
            while True:
                {LONG_CALLS[call]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(OMP_NUM_THREADS="2"))
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(4.0 if call == "fit" else 0.4)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert process.stdout.readline() == "interrupted\n"
        assert time.monotonic() - begin < 1.0
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
