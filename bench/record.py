# SPDX-License-Identifier: Apache-2.0
"""Measures what docs/performance.md states, in interleaved rounds, into bench/results/.

    python bench/record.py [search] [synthesize] [locate] [growth] [threads]     all of them by default

Speeds of one core are processor time of the calling thread, which another program on the machine hardly changes; those
of two are times on the clock. bench/draw.py makes tables and pictures of the files.
"""

from __future__ import annotations

import os
import sys

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(name, "1")

import ctypes
import functools
import json
import multiprocessing
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import wavefix as wfx
from bench_dictionary import Case
from known_maps import street
from paper_pipeline import PaperPipeline
from plane_waves import add_noise
from proof import users
from wavefix.bench import random_sources
from wavefix.bench_peers import SphericalPeer
from wavefix.environment import environment_record
from wavefix.peaks import measured_peaks

RESULTS = Path(__file__).parent / "results"
QUERIES = 64
Run = Callable[[], Any]


def interleaved(runs: dict[str, Run], rounds: int, clock: Callable[[], float] = process_time) -> dict[str, float]:
    """Median seconds of each, all of them in every round; short ones are repeated to a millisecond."""
    repeats = {}
    for name, run in runs.items():
        run()
        start = perf_counter()
        run()
        repeats[name] = max(1, int(1e-3 / max(perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            for _ in range(repeats[name]):
                run()
            times[name].append((clock() - start) / repeats[name])
    return {name: float(np.median(values)) for name, values in times.items()}


def search() -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import faiss
    faiss.omp_set_num_threads(1)
    rows = []
    sizes = [(8, 8, 1000), (8, 8, 10_000), (8, 8, 100_000), (32, 64, 1000), (32, 64, 10_000), (32, 64, 40_000)]
    # far: noise, and queries that are no entry's neighbors, so that no bound can exclude much
    for kind, shapes in (
        ("scene", [*sizes, (64, 64, 10_000)]),
        ("noise", [*sizes, (64, 64, 10_000)]),
        ("far", sizes[1::3]),
    ):
        for antennas, subcarriers, entries in shapes:
            case = Case("noise" if kind == "far" else kind, antennas, subcarriers, entries, QUERIES)
            if kind == "far":
                case.queries = case.noise(np.random.default_rng(9), len(case.queries))
            flat, norms = case.entries.reshape(entries, -1), np.sqrt(case.energies)
            index = faiss.IndexFlatL2(2 * flat.shape[1])
            index.add(flat.view(np.float32))
            for batch in (1, 16, QUERIES):
                queries = case.queries[:batch]
                rows_of = queries.reshape(batch, -1)
                runs: dict[str, Run] = {
                    "wavefix": lambda: case.dictionary.search(queries, threads=1)[0][:, 0],
                    "numpy": lambda: np.argmin(case.energies - 2 * (rows_of.conj() @ flat.T).real, axis=1),
                    "faiss": lambda: index.search(rows_of.view(np.float32), 1)[1][:, 0],
                    "wavefix (5)": lambda: case.dictionary.search(queries, "phase_insensitive", threads=1)[0][:, 0],
                    "numpy (5)": lambda: np.argmax(np.abs(rows_of.conj() @ flat.T) / norms, axis=1),
                }
                answers = {name: run() for name, run in runs.items()}
                same = min(
                    np.mean(answers["wavefix"] == answers["numpy"]),
                    np.mean(answers["wavefix"] == answers["faiss"]),
                    np.mean(answers["wavefix (5)"] == answers["numpy (5)"]),
                )
                shape = {"kind": kind, "antennas": antennas, "subcarriers": subcarriers, "entries": entries}
                seconds = interleaved(runs, 5)
                rows.append(shape | {"batch": batch, "rank": case.dictionary.rank, "same": same, "seconds": seconds})
                print(rows[-1], flush=True)
    return rows


def sixteen_channels(antennas: int, subcarriers: int, sources: int) -> tuple[wfx.ChannelModel, Any, Any, Any]:
    """A model, as many positions, and room for their channels and derivatives."""
    model = random_sources(np.random.default_rng(0), antennas, subcarriers, sources)
    x = np.concatenate([np.random.default_rng(1).uniform(-2.5, 2.5, (16, 2)), np.full((16, 1), 1.5)], axis=1)
    shape = antennas, subcarriers
    return model, x, np.empty((16, *shape), np.complex64), np.empty((16, 3, *shape), np.complex64)


def synthesize() -> list[dict[str, Any]]:
    rows = []
    torch.set_num_threads(1)
    for antennas, subcarriers, sources in [(8, 8, 4), (32, 64, 24), (64, 64, 12), (64, 64, 64), (128, 256, 12)]:
        model, x, out, slopes = sixteen_channels(antennas, subcarriers, sources)
        eager = {name: SphericalPeer(torch, model, tables=name == "tables") for name in ("terms", "tables")}
        by_numpy = SphericalPeer(np, model, tables=True)
        compiled = torch.compile(SphericalPeer(torch, model, tables=True).__call__)
        square = np.ones((1024, 1024), np.float32)
        product = np.empty_like(square)
        runs: dict[str, Run] = {
            "wavefix": lambda: model.synthesize(x, out=out, threads=1),
            "wavefix, Jacobian": lambda: model.synthesize(x, jacobian=True, out=(out, slopes), threads=1),
            "torch, every phasor": lambda: eager["terms"](x),
            "torch, tables": lambda: eager["tables"](x),
            "numpy, tables": lambda: by_numpy(x),
            "peak": lambda: np.matmul(square, square, out=product),
        }
        try:
            compiled(x)
            runs["torch compiled, tables"] = lambda: compiled(x)
        except Exception as error:  # no compiler that it accepts
            print("torch.compile:", type(error).__name__)
        reference = eager["terms"](x).numpy()
        seconds = interleaved(runs, 7)
        peak = 2 * 1024**3 / seconds.pop("peak")
        work = 8 * 16 * antennas * subcarriers * sources
        row = {"antennas": antennas, "subcarriers": subcarriers, "sources": sources, "positions": 16}
        row |= {"seconds": seconds, "peak_flops": peak, "share_of_peak": work / seconds["wavefix"] / peak}
        # 7 sums of as many terms: the channel and two a coordinate
        row["share_of_peak_jacobian"] = 7 * work / seconds["wavefix, Jacobian"] / peak
        row["difference"] = float(np.linalg.norm(out - reference) / np.linalg.norm(reference))
        rows.append(row)
        print(row, flush=True)
    return rows


def locate() -> list[dict[str, Any]]:
    rows = []
    torch.set_num_threads(1)
    for antennas, subcarriers, width in [(16, 16, 2.0), (32, 64, 2.0), (64, 64, 2.0), (64, 64, 10.0)]:
        model = street(antennas=antennas, subcarriers=subcarriers, paths=12, size=width)
        truth = users(model, 200, seed=1)
        channels = add_noise(model.synthesize(truth), 20.0)
        localizer = wfx.Localizer(model)
        times, found = [], []
        for channel in np.concatenate([channels[:20], channels]):
            start = process_time()
            found.append(localizer.locate(channel[None], threads=1).position[0])
            times.append(process_time() - start)
        error = np.linalg.norm(np.array(found[20:]) - truth, axis=1)
        row: dict[str, Any] = {"antennas": antennas, "subcarriers": subcarriers, "width": width, "sources": 12}
        row |= {"seconds": float(np.median(times[20:])), "seconds_99": float(np.quantile(times[20:], 0.99))}
        row |= {"median_error": float(np.median(error)), "error_95": float(np.quantile(error, 0.95))}
        row["wrong"] = float(np.mean(error > 0.03))
        if width <= 2:
            region = model.region
            lower, upper = (torch.from_numpy(region.origin + y @ region.basis) for y in (region.lower, region.upper))
            peer = SphericalPeer(torch, model, tables=True)
            peer.convert = lambda x: x if isinstance(x, torch.Tensor) else torch.from_numpy(x)
            pipeline = PaperPipeline(peer, lower, upper, model.wavelength)
            start = process_time()
            theirs = torch.stack([pipeline.locate(query) for query in torch.from_numpy(channels[:12])]).numpy()
            row["torch_seconds"] = (process_time() - start) / 12
            missed = np.linalg.norm(theirs - truth[:12], axis=1)
            row |= {"torch_median_error": float(np.median(missed)), "torch_wrong": float(np.mean(missed > 0.03))}
            row["median_error_of_the_same"] = float(np.median(error[:12]))
        rows.append(row)
        print(row, flush=True)
    return rows


Cost = tuple[float, int]  # seconds of one, bytes held between calls


def fit_once(path: str) -> Cost:
    """Two rounds of a fit; the memory is what a new process grows by, once the data are loaded."""
    data = wfx.ChannelDataset.load(path)
    ctypes.CDLL(None).malloc_trim(0)  # what loading has freed would be taken before the process grows
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most that it held begins anew
    before = most_held()
    start = process_time()
    wfx.fit(data, max_rounds=2, progress=False)
    seconds = process_time() - start
    return seconds, most_held() - before


def most_held() -> int:
    """Bytes of this process; that of ``getrusage`` is at least what the process that started it held."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def growth() -> dict[str, Any]:
    """Seconds of one fix, channel, refinement, search query and fit, and bytes held, one quantity changed at a time."""

    def fix(antennas: int = 64, subcarriers: int = 64, paths: int = 12, width: float = 6.0, batch: int = 40) -> Cost:
        model = street(antennas=antennas, subcarriers=subcarriers, paths=paths, size=width)
        channels = add_noise(model.synthesize(users(model, batch, seed=1)), 20.0)
        localizer = wfx.Localizer(model)
        seconds = interleaved({"": lambda: localizer.locate(channels, threads=1)}, 5)[""] / batch
        return seconds, localizer.nbytes(batch)

    def channel(antennas: int = 64, subcarriers: int = 64, sources: int = 12) -> Cost:
        model = random_sources(np.random.default_rng(0), antennas, subcarriers, sources)
        x = np.array([[0.5, 0.25, 1.5]]).repeat(16, axis=0)
        out = np.empty((16, antennas, subcarriers), np.complex64)
        seconds = interleaved({"": lambda: model.synthesize(x, out=out, threads=1)}, 7)[""] / 16
        return seconds, model.nbytes

    def refinement(antennas: int = 64, subcarriers: int = 64, paths: int = 12, batch: int = 40) -> Cost:
        model = street(antennas=antennas, subcarriers=subcarriers, paths=paths)
        x = users(model, batch, seed=1)
        channels, start = add_noise(model.synthesize(x), 20.0), x + np.array([0.003, 0.003, 0.0])
        seconds = interleaved({"": lambda: wfx.refine(model, channels, start, threads=1)}, 7)[""] / batch
        return seconds, model.nbytes

    def fit(locations: int = 1000, antennas: int = 32, subcarriers: int = 32) -> Cost:
        scene = wfx.Scene.named("plaza").with_(antennas=antennas, subcarriers=subcarriers, region_size=2.5)
        with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
            path = str(Path(folder) / "train.npz")
            wfx.simulate(scene, n=locations, seed=0).save(path)
            return pool.apply(fit_once, (path,))

    @functools.lru_cache(maxsize=1)
    def entries_of(antennas: int, subcarriers: int, n: int) -> Case:
        return Case("scene", antennas, subcarriers, n, QUERIES)

    def query(entries: int = 10_000, batch: int = 64, antennas: int = 32, subcarriers: int = 64) -> Cost:
        case = entries_of(antennas, subcarriers, entries)
        seconds = interleaved({"": lambda: case.dictionary.search(case.queries[:batch], threads=1)}, 5)[""] / batch
        return seconds, case.dictionary.nbytes

    curves = {
        "fix: antennas": (lambda n: fix(antennas=n), [8, 16, 32, 64, 128]),
        "fix: subcarriers": (lambda n: fix(subcarriers=n), [8, 16, 32, 64, 128, 256]),
        "fix: atoms": (lambda n: fix(paths=n), [2, 4, 8, 12, 15]),
        "fix: width of the region": (lambda n: fix(width=n), [1.5, 3.0, 6.0, 12.0]),
        "fix: batch": (lambda n: fix(batch=n), [1, 4, 16, 64]),
        "channel: antennas": (lambda n: channel(antennas=n), [16, 32, 64, 128]),
        "channel: subcarriers": (lambda n: channel(subcarriers=n), [16, 32, 64, 128, 256]),
        "channel: atoms": (lambda n: channel(sources=n), [4, 8, 16, 32, 64, 128, 256]),
        "refine: antennas": (lambda n: refinement(antennas=n), [8, 16, 32, 64, 128]),
        "refine: subcarriers": (lambda n: refinement(subcarriers=n), [8, 16, 32, 64, 128, 256]),
        "refine: atoms": (lambda n: refinement(paths=n), [2, 4, 8, 12, 15]),
        "refine: batch": (lambda n: refinement(batch=n), [1, 4, 16, 64]),
        "fit: locations": (lambda n: fit(locations=n), [250, 500, 1000, 2000, 4000]),
        "fit: antennas": (lambda n: fit(antennas=n), [32, 64, 128, 256]),
        "fit: subcarriers": (lambda n: fit(subcarriers=n), [32, 64, 128]),
        "search: entries": (lambda n: query(entries=n), [2500, 5000, 10_000, 20_000, 40_000]),
        "search, 8x8: entries": (lambda n: query(n, antennas=8, subcarriers=8), [1000, 10_000, 100_000, 1_000_000]),
        "search: batch": (lambda n: query(batch=n), [1, 4, 16, 64]),
    }
    out: dict[str, Any] = {}
    for name, (measure, at) in curves.items():
        seconds, held = zip(*(measure(n) for n in at), strict=True)
        slopes = [float(np.polyfit(np.log(at), np.log(values), 1)[0]) for values in (seconds, held)]
        out[name] = {"at": at, "seconds": seconds, "exponent": slopes[0], "bytes": held, "exponent_bytes": slopes[1]}
        print(name, out[name], flush=True)
    return out


def two_against_one() -> dict[str, Any]:
    model = street(antennas=64, subcarriers=64, paths=12, size=6.0)
    x = users(model, 256, seed=1)
    channels = add_noise(model.synthesize(x), 20.0)
    localizer, case = wfx.Localizer(model), Case("scene", 32, 64, 10_000, QUERIES)
    out = np.empty_like(channels)
    work: dict[str, Callable[[int], Any]] = {
        "locate": lambda n: localizer.locate(channels, threads=n),
        "synthesize": lambda n: model.synthesize(x, out=out, threads=n),
        "search": lambda n: case.dictionary.search(case.queries, threads=n),
    }
    return {
        name: rounds_of({"1": lambda run=run: run(1), "2": lambda run=run: run(2)}, lambda s: s["1"] / s["2"], 25)
        for name, run in work.items()
    }


def peak_of_two() -> dict[str, Any]:
    """Shares of twice what NumPy's product reaches on one core in the same round; its own threads would wait busily
    where the others work."""
    square = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    out: dict[str, Any] = {}
    for antennas, subcarriers, sources in [(64, 64, 12), (64, 64, 64), (128, 256, 12)]:
        model, x, channel, slopes = sixteen_channels(antennas, subcarriers, sources)
        work = 8 * channel.size * sources / (2 * 2 * len(square) ** 3)  # of two products'
        runs: dict[str, Run] = {
            "product": lambda: square @ square,
            "channel": lambda model=model, x=x, out=channel: model.synthesize(x, out=out, threads=2),
            "with Jacobian": lambda model=model, x=x, out=(channel, slopes): model.synthesize(
                x, jacobian=True, out=out, threads=2
            ),
        }
        for name, sums in (("channel", 1), ("with Jacobian", 7)):
            pair = {key: runs[key] for key in ("product", name)}
            share = rounds_of(pair, lambda s, name=name, sums=sums: sums * work * s["product"] / s[name], 15)
            out[f"{antennas}x{subcarriers}, {sources}, {name}"] = share
    return out


def rounds_of(runs: dict[str, Run], ratio: Callable[[dict[str, float]], float], rounds: int) -> dict[str, float]:
    """The median and the best of a ratio of seconds on the clock."""
    ratios = [ratio(interleaved(runs, 1, perf_counter)) for _ in range(rounds)]
    return {"median": float(np.median(ratios)), "best": float(max(ratios))}


def threads() -> dict[str, Any]:
    """Two threads against one, and against the peak of two cores. Needs a machine with nothing else on them."""
    return {"speed-up": two_against_one(), "share of peak": peak_of_two()}


def main() -> None:
    parts = {"search": search, "synthesize": synthesize, "locate": locate, "growth": growth, "threads": threads}
    RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or parts:
        start = perf_counter()
        record = {"rows": parts[name](), "environment": environment_record(), "peaks": measured_peaks()}
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
