# SPDX-License-Identifier: Apache-2.0
"""Measures what docs/accuracy.md states, into bench/results/accuracy.json.

    python bench/accuracy.py known [--users 2000] [--again]
    python bench/accuracy.py learned [--traced NAME=MODEL.safetensors,TEST.npz ...]
    python bench/accuracy.py degradation [--seconds 90] [--rounds 32] [--only TEXT]

Each case is written as soon as it is finished, and a case that is there is not run again without --again, so that a run
may be ended at any time and continued. bench/draw_accuracy.py makes tables and pictures of the file.
"""

from __future__ import annotations

import os
import sys

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy reads them
    os.environ.setdefault(name, "1")

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import wavefix as wfx
from damaged_maps import blocked, deep_street, learned
from known_maps import street
from plane_waves import add_noise
from proof import prove, users
from wavefix.environment import environment_record
from wavefix.evaluation import channel_error
from wavefix.files import written_whole

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
SNRS = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
LARGE = {"antennas": 64, "subcarriers": 64, "size": 10.0, "validation_nmse": 1e-12}
HALF = np.array([2.0, 2.0, 0.25])
KNOWN: dict[str, dict[str, Any]] = {
    "line of sight, 12 paths": LARGE,
    "none, 6 paths": LARGE | {"line_of_sight": False, "paths": 6},
    "12 paths, 4 of them partial": LARGE | {"gates": True},
    "16x16, 12 paths": LARGE | {"antennas": 16, "subcarriers": 16, "size": 6.0},
    "2 paths": LARGE | {"paths": 2},
    "a volume of 4 m x 4 m x 0.5 m, 12 paths": LARGE | {"size": 4.0, "basis": np.eye(3), "lower": -HALF, "upper": HALF},
}
Case = Callable[[], dict[str, Any]]


def known_cases(n: int) -> dict[str, Case]:
    """Scenes whose map is known exactly, at each signal-to-noise ratio."""

    def measure(scene: dict[str, Any], snr_db: float) -> dict[str, Any]:
        model = street(**scene)
        truth = users(model, n, seed=[10, int(snr_db) + 10])
        channels = add_noise(model.synthesize(truth), snr_db, seed=[20, int(snr_db) + 10])
        fixes = wfx.Localizer(model).locate(channels)
        told = {"snr_db": snr_db, "dimension": len(model.region.basis)}
        return asdict(prove(model, channels, fixes, truth, snr_db)) | told

    return {
        f"{name} | {snr_db:g}": lambda scene=scene, snr_db=snr_db: measure(scene, snr_db)
        for name, scene in KNOWN.items()
        for snr_db in SNRS
    }


def located(
    model: wfx.ChannelModel,
    clean: NDArray[np.complex64],
    truth: NDArray[np.float64],
    known: wfx.ChannelModel | None = None,
) -> dict[str, Any]:
    """Fixes with a learned map, without noise and with."""
    out: dict[str, Any] = {}
    localizer = wfx.Localizer(model)
    for name, snr_db in (("none", None), ("20", 20.0), ("5", 5.0)):
        channels = clean if snr_db is None else add_noise(clean, snr_db, seed=30)
        fixes = localizer.locate(channels)
        # without noise there is no bound; the one at 5 dB tells how small the errors are
        found = asdict(prove(model, channels, fixes, truth, 5.0 if snr_db is None else snr_db, known))
        if snr_db is None:
            del found["ratio"]
        out[name] = found | {"status": wfx.evaluation.status_share(fixes.status)}
    return out


def learned_cases(n: int, traced: list[str]) -> dict[str, Case]:
    """Maps with the errors that a fit leaves, and fitted ones that are given."""

    def damaged(seed: int, edges: float) -> dict[str, Any]:
        scene = deep_street(seed)
        known = scene.model()
        model = learned(scene, users(known, 300, seed=1), seed=seed, edges=edges)
        truth = users(known, n, seed=2)
        return {"nmse": model.validation_nmse} | located(model, known.synthesize(truth), truth, known)

    def obstructed(share: float) -> dict[str, Any]:
        scene = replace(deep_street(1, sources=8), leaves=((),) * 8)
        known = scene.model(1e-4)
        truth = users(known, min(n, 300), seed=2)
        return {"nmse": known.validation_nmse} | located(known, blocked(scene, truth, share), truth)

    def fitted(paths: str) -> dict[str, Any]:
        model_path, test_path = paths.split(",")
        model, test = wfx.ChannelModel.load(model_path), wfx.ChannelDataset.load(test_path)
        error = channel_error(model, test)
        row = {"nmse": model.validation_nmse, "overall_db": error.nmse_db, "median_db": error.median_location_nmse_db}
        return row | located(model, test.channels, test.known_positions())

    cases: dict[str, Case] = {
        f"made, {text}": lambda seed=seed, edges=edges: damaged(seed, edges)
        for seed, edges, text in ((0, 1.0, "edges off by 8 mm"), (1, 4.0, "edges off by 3 cm"))
    }
    for share in (0.1, 0.3):
        cases[f"made, exact, each of 8 paths blocked with {share:.0%}"] = lambda share=share: obstructed(share)
    for item in traced:
        label, paths = item.split("=", 1)
        cases[label] = lambda paths=paths: fitted(paths)
    return cases


def base(scene: str) -> wfx.Scene:
    return wfx.Scene.named(scene).with_(antennas=32, subcarriers=32, region_size=2.5)


def density(scene: wfx.Scene, a_square_wavelength: float) -> int:
    area = scene.region.size[0] * scene.region.size[1]
    return round(a_square_wavelength * area / (wfx.constants.SPEED_OF_LIGHT / scene.carrier) ** 2)


def degradation_cases(options: dict[str, Any], test_size: int = 300) -> dict[str, Case]:
    """``fit`` with data that are fewer, noisier or at wrong places, refined or not; smaller arrays; two paths."""

    def measure(
        scene: wfx.Scene, per: float = 1.0, snr_db: float | None = None, offset: float = 0.0, std: float = 0.0
    ) -> dict[str, Any]:
        train = wfx.simulate(scene, n=density(scene, per), seed=40)
        if snr_db is not None:
            train = train.with_noise(snr_db, seed=41)
        if offset:  # in the plane of the zone, a standard deviation along each axis
            error = offset * np.random.default_rng(42).standard_normal((len(train), 3))
            train = replace(train, positions=train.known_positions() + error * [1, 1, 0])
        row: dict[str, Any] = {"locations": len(train)}
        start = process_time()
        try:
            model = wfx.fit(train, progress=False, position_std=std, **options)
        except wfx.DataError as error:
            return row | {"refused": str(error), "seconds": process_time() - start}
        row |= {"seconds": process_time() - start, "bytes": model.nbytes, "sources": model.n_atoms}
        test = wfx.simulate(scene, n=test_size, seed=43)
        channel = channel_error(model, test)
        row |= {"overall_db": channel.nmse_db, "median_db": channel.median_location_nmse_db}
        return row | located(model, test.channels, test.known_positions())

    cases: dict[str, Case] = {}
    for name in ("plaza", "canyon"):
        scene = base(name)
        cases[f"{name} | as it is"] = lambda scene=scene: measure(scene)
        for per in (0.1, 0.3, 3.0):
            cases[f"{name} | density {per:g}"] = lambda scene=scene, per=per: measure(scene, per)
        for snr_db in (20.0, 10.0):
            cases[f"{name} | noise {snr_db:g}"] = lambda scene=scene, snr_db=snr_db: measure(scene, snr_db=snr_db)
        for offset in (0.01, 0.05):
            cases[f"{name} | offset {offset:g}"] = lambda scene=scene, offset=offset: measure(scene, offset=offset)
        for offset, std in ((0.01, 0.01), (0.02, 0.02), (0.0, 0.01)):
            cases[f"{name} | offset {offset:g}, refined ({std:g})"] = lambda scene=scene, offset=offset, std=std: (
                measure(scene, offset=offset, std=std)
            )
        small = scene.with_(antennas=16, subcarriers=16)
        cases[f"{name} | 16x16"] = lambda small=small: measure(small)
    ground = base("plaza").with_(walls=base("plaza").walls[:1])
    cases["plaza | 2 paths"] = lambda: measure(ground)
    return cases


def run(part: str, cases: dict[str, Case], again: bool) -> None:
    record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    done = record.setdefault(part, {})
    for name, measure in cases.items():
        if name in done and not again:
            continue
        start = perf_counter()
        done[name] = measure()
        print(f"{name}: {perf_counter() - start:.1f} s", done[name], flush=True)
        record.setdefault("environment", {})[part] = environment_record()
        with written_whole(RESULTS) as stream:
            stream.write((json.dumps(record, indent=1) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["known", "learned", "degradation"])
    parser.add_argument("--users", type=int, default=2000, help="test positions of a case (known, learned)")
    parser.add_argument("--traced", nargs="*", default=[], metavar="NAME=MODEL,TEST", help="fitted models (learned)")
    parser.add_argument("--seconds", type=float, default=90.0, help="time limit of a fit (degradation)")
    parser.add_argument("--rounds", type=int, default=32, help="rounds of a fit, at most (degradation)")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--again", action="store_true", help="run also what is in the file")
    arguments = parser.parse_args()
    cases = {
        "known": lambda: known_cases(arguments.users),
        "learned": lambda: learned_cases(arguments.users, arguments.traced),
        "degradation": lambda: degradation_cases({"time_limit": arguments.seconds, "max_rounds": arguments.rounds}),
    }[arguments.part]()
    run(arguments.part, {name: case for name, case in cases.items() if arguments.only in name}, arguments.again)


if __name__ == "__main__":
    main()
