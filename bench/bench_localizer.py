# SPDX-License-Identifier: Apache-2.0
"""locate: float_fix, the paper's strategies in C++, and its pipeline in torch on the same model and queries.

The error stands beside each time in ``extra_info``, and float_fix is asserted to be at least as accurate as the peer.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from known_maps import street
from paper_pipeline import PaperPipeline
from plane_waves import WAVELENGTH, add_noise, plane_wave_model, random_positions
from proof import users
from wavefix import STRATEGIES, ChannelModel, Localizer
from wavefix.bench_peers import SphericalPeer

FULL = os.environ.get("WAVEFIX_BENCH") == "full"
# antennas, subcarriers, width of the region in meters
SIZES = [(16, 32, 0.5)]
BATCHES = [1, 4]
PLANAR = (8, 16, 3)  # antennas, subcarriers, queries
if FULL:
    SIZES = [(32, 32, 2.0), (64, 64, 2.0), (64, 64, 10.0)]
    BATCHES = [1, 16, 256, 4096]
    PLANAR = (16, 32, 20)

Case = tuple[str, ChannelModel, NDArray[np.float64], NDArray[np.complex64]]


@pytest.mark.benchmark(group="locate, planar model of {}x{}, 12 atoms, {} queries".format(*PLANAR))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies(benchmark: Any, strategy: str) -> None:
    antennas, subcarriers, queries = PLANAR
    model = plane_wave_model(0, antennas=antennas, subcarriers=subcarriers, waves=12)
    truth = random_positions(model, queries)
    channels = add_noise(model.synthesize(truth), 20.0)
    fixes = benchmark.pedantic(Localizer(model, strategy).locate, (channels,), rounds=3 if FULL else 1)
    assert np.median(np.linalg.norm(fixes.position - truth, axis=1)) < 0.2 * WAVELENGTH


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: "{}x{}, {} m".format(*size))
def case(request: pytest.FixtureRequest) -> Case:
    antennas, subcarriers, width = request.param
    model = street(antennas=antennas, subcarriers=subcarriers, paths=12, size=width)
    truth = users(model, max(BATCHES), seed=1)
    channels = add_noise(model.synthesize(truth), 20.0)
    return f"locate, {antennas}x{subcarriers}, 12 sources, {width:g} m", model, truth, channels


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", BATCHES)
def test_float_fix(benchmark: Any, case: Case, batch: int, threads: int) -> None:
    name, model, truth, channels = case
    benchmark.group = name
    localizer = Localizer(model)
    fixes = benchmark(localizer.locate, channels[:batch], threads=threads)
    benchmark.extra_info["seconds per fix"] = benchmark.stats.stats.median / batch
    benchmark.extra_info["median error, m"] = float(np.median(np.linalg.norm(fixes.position - truth[:batch], axis=1)))
    assert np.linalg.norm(fixes.position - truth[:batch], axis=1).max() < 0.05 * WAVELENGTH


def test_single_queries(benchmark: Any, case: Case) -> None:
    """The spread over queries, one at a time on one core."""
    name, model, truth, channels = case
    benchmark.group = name
    localizer, times = Localizer(model), []

    def one_by_one() -> NDArray[np.float64]:
        found = []
        for channel in channels[: 256 if FULL else 4]:
            start = perf_counter()
            found.append(localizer.locate(channel[None], threads=1).position[0])
            times.append(perf_counter() - start)
        return np.array(found)

    found = benchmark.pedantic(one_by_one, rounds=3 if FULL else 1, warmup_rounds=1)
    benchmark.extra_info["median, s"], benchmark.extra_info["99 %, s"] = np.quantile(times, [0.5, 0.99]).tolist()
    assert np.linalg.norm(found - truth[: len(found)], axis=1).max() < 0.05 * WAVELENGTH


def test_paper_pipeline(benchmark: Any, case: Case) -> None:
    name, model, truth, channels = case
    benchmark.group = name
    region = model.region
    lower, upper = (torch.from_numpy(region.origin + y @ region.basis) for y in (region.lower, region.upper))
    if float((upper - lower).max()) > 3:
        pytest.skip("its dictionary would take gigabytes")
    peer = SphericalPeer(torch, model, tables=True)
    peer.convert = lambda x: x if isinstance(x, torch.Tensor) else torch.from_numpy(x)
    pipeline = PaperPipeline(peer, lower, upper, model.wavelength)
    queries = torch.from_numpy(channels[: 16 if FULL else 1])

    def locate() -> NDArray[np.float64]:
        return torch.stack([pipeline.locate(query) for query in queries]).numpy()

    found = benchmark.pedantic(locate, rounds=1)
    theirs = np.linalg.norm(found - truth[: len(found)], axis=1)
    ours = np.linalg.norm(Localizer(model).locate(channels[: len(found)]).position - truth[: len(found)], axis=1)
    benchmark.extra_info["seconds per fix"] = benchmark.stats.stats.median / len(queries)
    benchmark.extra_info["median error, m"] = float(np.median(theirs))
    assert theirs.min() < 0.05 * WAVELENGTH  # it finds the right minimum where its search leads to it
    assert np.median(ours) <= 1.05 * np.median(theirs)
