# SPDX-License-Identifier: Apache-2.0
"""A short benchmark of this build: each stage beside a NumPy (and torch) peer that must give the same answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from wavefix._core import Error
from wavefix.bench_peers import peer_of
from wavefix.channel_model import ChannelModel
from wavefix.constants import SPEED_OF_LIGHT
from wavefix.dataset import ChannelDataset
from wavefix.dictionary import Dictionary
from wavefix.environment import environment_record
from wavefix.localizer import Localizer
from wavefix.peaks import measured_peaks, share_of_peak
from wavefix.refine import refine
from wavefix.region import Region
from wavefix.report import aligned, duration
from wavefix.spherical import SphericalParameters


@dataclass(frozen=True)
class Sizes:
    """How much of each stage is run, and how often."""

    positions: int
    entries: int
    queries: int
    refinements: int
    fixes: int
    repetitions: int


FULL = Sizes(positions=512, entries=4096, queries=256, refinements=32, fixes=16, repetitions=5)
QUICK = Sizes(positions=64, entries=512, queries=32, refinements=4, fixes=2, repetitions=3)

Peer = tuple[str, Callable[[], Any]]


def run_benchmarks(
    model: ChannelModel | None = None, *, quick: bool = False, seed: int = 0, threads: int = 0
) -> dict[str, Any]:
    """Time synthesis, dictionary search, refinement and whole fixes; median of interleaved repetitions.

    Raises:
        Error: a peer's answer differs, so its time means nothing.
    """
    sizes = QUICK if quick else FULL
    generator = np.random.default_rng(seed)
    model = random_sources(generator) if model is None else model
    peaks = measured_peaks(3 if quick else 7)
    with _peers_limited(threads) as peer_threads:
        rows = [
            *_bench_synthesize(model, sizes, generator, threads),
            *_bench_search(model, sizes, generator, threads),
            *_bench_refine(model, sizes, generator, threads),
            *_bench_locate(model, sizes, generator, threads),
        ]
    _add_shares(rows, model, sizes, threads, peer_threads, peaks)
    shape = [len(model.antenna_positions), len(model.frequencies)]
    return {
        "schema": "wavefix.bench",
        "schema_version": "1",
        "channel_shape": shape,
        "atoms": model.n_atoms,
        "threads": threads,
        "peer_threads": peer_threads,
        "peaks": peaks,
        "rows": rows,
        "environment": environment_record(),
    }


@contextlib.contextmanager
def _peers_limited(threads: int) -> Iterator[int]:
    """NumPy and torch on as many threads as wavefix, which needs threadpoolctl; gives the threads that they have, 0 for
    all cores."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        threads = 0
    if threads == 0:
        yield 0
        return
    with threadpool_limits(threads, user_api="blas"), contextlib.ExitStack() as undo:
        with contextlib.suppress(ImportError):
            import torch

            undo.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield threads


def _add_shares(
    rows: list[dict[str, Any]],
    model: ChannelModel,
    sizes: Sizes,
    threads: int,
    peer_threads: int,
    peaks: dict[str, float],
) -> None:
    """Work and traffic as docs/performance.md counts them, over the peaks: 8 operations an atom and entry and 8 bytes
    written an entry of a channel; 8 operations an entry of the dictionary and query, and its 8 bytes read once a batch,
    which is what exhaustive search takes. What does less than that has a share above what the machine can do."""
    entries = len(model.antenna_positions) * len(model.frequencies)
    for row in rows:
        if row["stage"] == "synthesize":
            work, traffic = 8.0 * model.n_atoms * entries * row["items"], 8.0 * entries * row["items"]
        elif row["stage"] == "search":
            work, traffic = 8.0 * entries * sizes.entries * row["items"], 8.0 * entries * sizes.entries
        else:
            continue
        used = threads if row["by"] == "wavefix" else peer_threads
        row["share_of_peak"] = share_of_peak(work, row["seconds"], used, peaks)
        row["share_of_bandwidth"] = traffic / row["seconds"] / peaks["bandwidth"]


def bench_table(record: dict[str, Any]) -> str:
    """The rows as text; the peer's time over ours in the last column but one."""
    table = [["stage", "by", "items", "per item", "speed-up", "of peak", "of bandwidth", "difference"], [""] * 8]
    for row in record["rows"]:
        speed_up = "" if row["speed_up"] is None else f"{row['speed_up']:.3g} x"
        difference = "" if row["difference"] is None else f"{row['difference']:.1e}"
        per_item = duration(row["seconds"] / row["items"])
        shares = [f"{row[key]:.0%}" if key in row else "" for key in ("share_of_peak", "share_of_bandwidth")]
        table.append([row["stage"], row["by"], str(row["items"]), per_item, speed_up, *shares, difference])
    antennas, subcarriers = record["channel_shape"]
    peaks, build = record["peaks"], record["environment"]["wavefix"]
    return (
        aligned(table)
        + f"\n\n{antennas} antennas, {subcarriers} subcarriers, {record['atoms']} atoms; "
        + f"{record['environment']['processor']}, {record['environment']['cores']} cores, kernels {build['kernels']}\n"
        + f"measured peaks: {peaks['float32_flops'] / 1e9:.0f} GFLOP/s in float32, {peaks['bandwidth'] / 1e9:.1f} GB/s"
    )


def random_sources(
    generator: np.random.Generator, antennas: int = 64, subcarriers: int = 64, sources: int = 12, extent: float = 5.0
) -> ChannelModel:
    """Virtual sources at random places around a square of ``extent`` meters: shapes to time, no scene behind it."""
    frequencies = 3.5e9 + 50e6 * (np.arange(subcarriers) / max(1, subcarriers) - 0.5)
    wavelength = SPEED_OF_LIGHT / ((frequencies.min() + frequencies.max()) / 2)
    line = np.zeros((antennas, 3))
    line[:, 1] = wavelength / 2 * (np.arange(antennas) - (antennas - 1) / 2)
    angle, distance = generator.uniform(0, 2 * np.pi, sources), generator.uniform(15, 60, sources)
    at = np.stack([distance * np.cos(angle), distance * np.sin(angle), generator.uniform(3, 20, sources)], axis=1)
    turn = np.zeros((sources, 3, 3))  # a mirrored array: its offsets turned about the vertical
    turned = generator.uniform(0, 2 * np.pi, sources)
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(turned)
    turn[:, 1, 0] = np.sin(turned)
    turn[:, 0, 1] = -turn[:, 1, 0]
    turn[:, 2, 2] = 1
    half = np.full(2, extent / 2)
    parameters = SphericalParameters(
        antenna_positions=line + np.array([0.0, 0.0, 10.0]),
        frequencies=frequencies,
        region=Region(np.array([0.0, 0.0, 1.5]), np.eye(2, 3), -half, half),
        source_positions=at,
        source_rotations=turn,
        gain_variables=generator.standard_normal((sources, 2, 4)) / 2,
        gain_coefficients=0.01 * generator.standard_normal((sources, 6, 2)).astype(np.float32),
        validation_nmse=1e-5,
    )
    return ChannelModel.from_bytes(parameters.to_bytes())


def random_model(
    generator: np.random.Generator,
    antennas: int = 32,
    subcarriers: int = 64,
    atoms: int = 64,
    width: int = 64,
    extent: float = 5.0,
) -> ChannelModel:
    """A planar model (2) of random weights over a square of ``extent`` meters: shapes to time, no scene behind it."""
    frequencies = 3.5e9 + 50e6 * (np.arange(subcarriers) / max(1, subcarriers) - 0.5)
    wavelength = SPEED_OF_LIGHT / ((frequencies.min() + frequencies.max()) / 2)
    line = np.zeros((antennas, 3))
    line[:, 1] = wavelength / 2 * (np.arange(antennas) - (antennas - 1) / 2)
    directions = generator.standard_normal((atoms, 3))
    tensors: dict[str, NDArray[Any]] = {
        "antenna_positions": line + np.array([0.0, 0.0, 10.0]),
        "frequencies": frequencies,
        "region.origin": np.array([30.0, 0.0, 1.5]),
        "region.basis": np.eye(2, 3),
        "region.lower": np.full(2, -extent / 2),
        "region.upper": np.full(2, extent / 2),
        "validation_nmse": np.ones(1),
        "location.directions": directions / np.linalg.norm(directions, axis=1, keepdims=True),
        "antenna.basis": np.array([[0.0, 1.0, 0.0]]),
        "weight.scale": np.ones(1),
    }
    for name, gain in (("delay", 5.0), ("antenna", 0.5)):
        tensors |= _random_layers(generator, name, ("weight", "bias"), (2, width, atoms), gain)
    parts = ("weight_real", "weight_imag", "bias_real", "bias_imag")
    tensors |= _random_layers(generator, "weight", parts, (2, width, atoms), 1.0)
    metadata = {
        "format": "wavefix",
        "format_version": "1",
        "kind": "planar",
        "units": "m,s,Hz,rad",
        "activation": "silu",
        "training": "{}",
    }
    return ChannelModel.from_bytes(safetensors.numpy.save(tensors, metadata=metadata))


def _bench_synthesize(
    model: ChannelModel, sizes: Sizes, generator: np.random.Generator, threads: int
) -> list[dict[str, Any]]:
    positions = _positions(model, sizes.positions, generator)
    numpy_peer = peer_of(np, model)
    peers: list[Peer] = [
        ("wavefix", lambda: model.synthesize(positions, threads=threads)),
        ("NumPy", lambda: numpy_peer(positions)),
    ]
    try:
        import torch
    except ImportError:
        pass
    else:
        torch_peer = peer_of(torch, model)
        peers.append(("torch, eager", lambda: torch_peer(positions).numpy()))
    return _race("synthesize", peers, len(positions), sizes.repetitions, _relative, 1e-3)


def _bench_search(
    model: ChannelModel, sizes: Sizes, generator: np.random.Generator, threads: int
) -> list[dict[str, Any]]:
    positions = _positions(model, sizes.entries, generator)
    entries = model.synthesize(positions, threads=threads)
    queries = model.synthesize(_positions(model, sizes.queries, generator), threads=threads)
    data = ChannelDataset(entries, model.antenna_positions, model.frequencies, positions)
    dictionary = Dictionary.from_measurements(data)
    flat, power = entries.reshape(len(entries), -1), np.sum(np.abs(entries) ** 2, axis=(1, 2))

    def by_numpy() -> NDArray[np.intp]:
        correlation = queries.reshape(len(queries), -1).conj() @ flat.T
        return np.asarray(np.argmin(power - 2 * correlation.real, axis=1))

    def ours() -> NDArray[np.intp]:
        return np.asarray(dictionary.search(queries, threads=threads)[0][:, 0])

    def differ(a: Any, b: Any) -> float:
        return float(np.mean(a != b))

    return _race("search", [("wavefix", ours), ("NumPy", by_numpy)], len(queries), sizes.repetitions, differ, 0.0)


def _bench_refine(
    model: ChannelModel, sizes: Sizes, generator: np.random.Generator, threads: int
) -> list[dict[str, Any]]:
    truth = _positions(model, sizes.refinements, generator)
    channels = model.synthesize(truth, threads=threads)
    starts = truth + 0.03 * model.wavelength * _directions(model, len(truth), generator)

    def ours() -> NDArray[np.float64]:
        return refine(model, channels, starts, threads=threads).position

    def by_numpy() -> NDArray[np.float64]:
        return np.stack([_gauss_newton(model, h, x) for h, x in zip(channels, starts, strict=True)])

    def differ(a: Any, b: Any) -> float:
        return float(np.max(np.linalg.norm(a - b, axis=1)) / model.wavelength)

    return _race("refine", [("wavefix", ours), ("NumPy", by_numpy)], len(truth), sizes.repetitions, differ, 1e-3)


def _bench_locate(
    model: ChannelModel, sizes: Sizes, generator: np.random.Generator, threads: int
) -> list[dict[str, Any]]:
    channels = model.synthesize(_positions(model, sizes.fixes, generator), threads=threads)
    localizer = Localizer(model)

    def one_by_one() -> NDArray[np.float64]:
        return np.concatenate(
            [localizer.locate(channels[i : i + 1], threads=threads).position for i in range(len(channels))]
        )

    def differ(a: Any, b: Any) -> float:
        return float(np.max(np.abs(a - b)))

    peers: list[Peer] = [("wavefix, one batch", lambda: localizer.locate(channels, threads=threads).position)]
    return _race("locate", [*peers, ("wavefix, one by one", one_by_one)], len(channels), 1, differ, 0.0)


def _race(
    stage: str,
    peers: list[Peer],
    items: int,
    repetitions: int,
    differ: Callable[[Any, Any], float],
    tolerance: float,
) -> list[dict[str, Any]]:
    """Rounds of all peers in turn, so that a slow spell of the machine hits each alike."""
    answers = [run() for _, run in peers]  # also warms up
    times: list[list[float]] = [[] for _ in peers]
    for _ in range(repetitions):
        for index, (_, run) in enumerate(peers):
            start = perf_counter()
            run()
            times[index].append(perf_counter() - start)
    ours = float(np.median(times[0]))
    rows = []
    for index, (name, _) in enumerate(peers):
        difference = None if index == 0 else differ(answers[0], answers[index])
        if difference is not None and not difference <= tolerance:
            raise Error(f"bench: {stage}: the answer of {name} differs by {difference:.2g} (at most {tolerance:.2g})")
        seconds = float(np.median(times[index]))
        speed_up = None if index == 0 else seconds / ours
        row = {"stage": stage, "by": name, "items": items, "seconds": seconds}
        rows.append(row | {"speed_up": speed_up, "difference": difference})
    return rows


def _gauss_newton(model: ChannelModel, channel: NDArray[Any], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6) undamped: the starts lie in the basin of the minimum."""
    x, basis = start.copy(), model.region.basis
    for _ in range(20):
        estimate, jacobian = model.synthesize(x[None], jacobian=True)
        j = np.einsum("dx,xak->dak", basis, jacobian[0]).reshape(len(basis), -1).astype(np.complex128)
        residual = (channel - estimate[0]).ravel()
        step = np.linalg.solve((j.conj() @ j.T).real, (j.conj() @ residual).real)
        x += step @ basis
        if np.linalg.norm(step) < 1e-6 * model.wavelength:
            break
    return x


def _positions(model: ChannelModel, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    region = model.region
    y = generator.uniform(region.lower, region.upper, (n, len(region.lower)))
    return np.asarray(region.origin + y @ region.basis)


def _directions(model: ChannelModel, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    y = generator.standard_normal((n, len(model.region.basis)))
    return np.asarray(y / np.linalg.norm(y, axis=1, keepdims=True) @ model.region.basis)


def _random_layers(
    generator: np.random.Generator, name: str, parts: tuple[str, ...], widths: tuple[int, ...], gain: float
) -> dict[str, NDArray[np.float32]]:
    layers = {}
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        for part in parts:
            shape = (outputs, inputs) if part.startswith("weight") else (outputs,)
            values = gain * generator.standard_normal(shape) / np.sqrt(inputs)
            layers[f"{name}.{index}.{part}"] = values.astype(np.float32)
    return layers


def _relative(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(a)))
