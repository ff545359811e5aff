# SPDX-License-Identifier: Apache-2.0
"""The whole story in one call: simulate a scene, fit a channel model, locate users, compare with fingerprinting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import wavefix
from wavefix.commands import progress_line, require_writable_folder
from wavefix.evaluation import evaluate
from wavefix.files import Path_
from wavefix.plots import save_picture
from wavefix.report import duration, size
from wavefix.results import Evaluation

DEFAULT_SCENE = "plaza"


@dataclass(frozen=True)
class Budget:
    """How much of a scene the demo takes, and how long it trains: what two cores do in the time promised."""

    zone: float  # meters
    antennas: int
    subcarriers: int
    train_locations: int
    test_locations: int
    fit_seconds: float
    strategies: tuple[str, ...]
    fit_options: tuple[tuple[str, Any], ...] = ()


FULL = Budget(3.0, 32, 32, 1000, 200, 130.0, ("on_grid_pi_ps", "off_grid_pi_ps_circles", "float_fix"))
# The rounds bound the work; the time limit is for slow machines only.
QUICK_FIT: tuple[tuple[str, Any], ...] = (("max_rounds", 10),)
QUICK = Budget(1.5, 32, 32, 350, 60, 60.0, ("on_grid_pi_ps", "off_grid_pi_ps_circles", "float_fix"), QUICK_FIT)


def run(
    folder: Path_,
    *,
    scene: Any = None,
    quick: bool = False,
    seed: int = 0,
    threads: int = 0,
    say: Callable[[str], None] = print,
    budget: Budget | None = None,
) -> Evaluation:
    """Write train.npz, test.npz, model.safetensors, results.json and picture.png to ``folder``.

    Args:
        folder: made where it is missing.
        scene: a ``Scene``; None for the plaza. The demo takes the middle of its region and part of its antennas
            and subcarriers.
        quick: smaller sets and a shorter training, under a minute in all.
        seed: of positions, training and noise.
        threads: 0 for all.
        say: is told each step in words.
        budget: overrides ``quick``.
    """
    begin = perf_counter()
    budget = budget or (QUICK if quick else FULL)
    require_writable_folder(folder)
    target = Path(folder)
    scene = _part_of(wavefix.Scene.named(DEFAULT_SCENE) if scene is None else scene, budget)

    start = perf_counter()
    train = wavefix.simulate(scene, n=budget.train_locations, seed=seed, threads=threads)
    test = wavefix.simulate(scene, n=budget.test_locations, seed=seed + 1, threads=threads)
    train.save(target / "train.npz")
    test.save(target / "test.npz")
    antennas, subcarriers = train.channels.shape[1:]
    say(
        f"1. Simulated {len(train)} training and {len(test)} test positions in a zone of "
        f"{' x '.join(f'{extent:.3g} m' for extent in scene.region.size if extent)} of the scene {scene.name}: "
        f"{antennas} antennas, {subcarriers} subcarriers at {train.reference_frequency / 1e9:.3g} GHz, "
        f"wavelength {100 * train.wavelength:.3g} cm ({duration(perf_counter() - start)})."
    )

    start = perf_counter()
    say(f"2. Learning the scene from the training positions, at most {budget.fit_seconds:.0f} s ...")
    model = wavefix.fit(train, seed=seed, time_limit=budget.fit_seconds, **dict(budget.fit_options))
    model.save(target / "model.safetensors")
    stored = train.channels.nbytes
    say(
        f"   A channel model of {size(model.nbytes)} replaces {size(stored)} of fingerprints "
        f"({duration(perf_counter() - start)})."
    )

    start = perf_counter()
    result = evaluate(
        model,
        test,
        localizers=budget.strategies,
        train_data=train,
        seed=seed,
        threads=threads,
        progress=progress_line,
    )
    progress_line(None)
    say(
        f"3. Located the {len(test)} test positions from their channels, "
        f"by {len(result.methods)} methods ({duration(perf_counter() - start)})."
    )

    start = perf_counter()
    result.to_json(target / "results.json")
    save_picture(target / "picture.png", result, test, train_data=train, model=model, scene=scene)
    say(f"4. Drew {target / 'picture.png'} ({duration(perf_counter() - start)}).")
    say("")
    say(result.table())
    say("")
    say(_verdict(result))
    say(f"All in {duration(perf_counter() - begin)}; files in {target}.")
    return result


def _part_of(scene: wavefix.Scene, budget: Budget) -> wavefix.Scene:
    """The middle of the scene's region, and as many antennas and subcarriers as the budget allows."""
    size = tuple(min(extent, budget.zone) for extent in scene.region.size)
    antennas = min(len(scene.antenna_positions), budget.antennas)
    small = scene.with_(region_size=size, subcarriers=min(scene.subcarriers, budget.subcarriers))
    return small.with_(antennas=antennas) if hasattr(scene.array, "antennas") else small


def _verdict(result: Evaluation) -> str:
    """Best baseline against the last method, in one sentence."""
    baseline = min((m for m in result.methods if m.name.startswith("fingerprints")), key=lambda m: m.summary.median)
    ours = result.methods[-1]
    wavelengths = ours.summary.median / result.wavelength
    return (
        f"Half of the fixes are within {100 * ours.summary.median:.2g} cm ({wavelengths:.2g} wavelengths), "
        f"{baseline.summary.median / ours.summary.median:.3g} times closer than fingerprinting, "
        f"at {baseline.memory_bytes / max(1, ours.memory_bytes):.3g} times less memory."
    )
