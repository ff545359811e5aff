# SPDX-License-Identifier: Apache-2.0
"""``fit``: from a dataset to a channel model, in three steps: sources, a start made of them, gradient descent."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavefix._core import __version__
from wavefix.channel_model import ChannelModel
from wavefix.dataset import ChannelDataset
from wavefix.files import Path_
from wavefix.training import start
from wavefix.training.baselines import fit_baseline
from wavefix.training.data import Prepared, prepare
from wavefix.training.loop import Progress, Record, Schedule, Task, decibels, read_checkpoint, train
from wavefix.training.planar import PlanarNetwork, Widths
from wavefix.training.pursuit import find
from wavefix.training.sources import Samples, Sources, cell_pitch
from wavefix.training.spherical.fitting import fit_spherical

KINDS = ("spherical", "planar", "mlp", "rff")
_BANDWIDTHS = (4.0, 10.0, 20.0)
_DEFAULT_TIME = 1200.0
_START_SHARE = 0.4  # of the time limit that the search for sources may take


def fit(data: ChannelDataset, kind: str = "spherical", **options: Any) -> Any:
    """Learn the channels of a zone from ``data``; see ``wavefix.fit``."""
    if kind == "spherical":
        return ChannelModel.from_bytes(fit_spherical(data, **options))
    if kind == "planar":
        model = fit_planar(data, **options)[1]
        return ChannelModel.from_bytes(model)
    if kind in KINDS:
        return fit_baseline(data, kind, **options)
    raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")


def fit_planar(
    data: ChannelDataset,
    *,
    seed: int = 0,
    device: str = "cpu",
    time_limit: float | None = None,
    checkpoint: Path_ | None = None,
    validation_fraction: float = 0.1,
    progress: bool | None = None,
    max_sources: int = 32,
    max_atoms: int = 256,
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    patience: int = 15,
    hidden: tuple[int, ...] = (256,),
) -> tuple[PlanarNetwork, bytes]:
    """The trained network and its model file."""
    began = time.monotonic()
    limit = _DEFAULT_TIME if time_limit is None else float(time_limit)
    if not limit > 0:
        raise ValueError(f"time_limit: expected a positive number of seconds, got {time_limit}")
    if max_sources < 1 or max_atoms < 1 or epochs < 0 or batch_size < 1:
        raise ValueError("max_sources, max_atoms, batch_size: expected at least 1; epochs: at least 0")
    prepared = prepare(data, validation_fraction, seed, device)
    schedule = Schedule(epochs, batch_size, patience, limit, seed)
    widths = Widths(weight=tuple(hidden))
    options = json.dumps(
        [asdict(schedule) | {"time_limit": None}, asdict(widths), max_sources, max_atoms, learning_rate]
    )
    identity = f"planar {options} {prepared.identity}"
    kept = None if checkpoint is None else read_checkpoint(checkpoint, identity)
    record = Record()
    state: dict[str, Tensor] | None = None
    if kept is not None:
        state, record, _ = kept
        directions = state["model/directions"].numpy()
        network = PlanarNetwork(prepared.geometry, directions, widths).to(device)
    else:
        atoms = min(max_atoms, max(4, len(prepared.training.y) // 4))
        sources = _sources(prepared, max_sources, began + _START_SHARE * limit, progress)
        network = _best_start(prepared, sources, widths, atoms, seed)
        record.seconds = record.start_seconds = time.monotonic() - began
    task = planar_task(network, prepared, learning_rate, identity)
    record = train(task, schedule, record=record, state=state, checkpoint=checkpoint, progress=progress, label="fit")
    network.fold()
    return network, network.to_bytes(record.best_nmse, prepared.scale, _training_json(record, seed, network, prepared))


def _best_start(prepared: Prepared, sources: Sources, widths: Widths, atoms: int, seed: int) -> PlanarNetwork:
    """The start whose weight network bends as the zone needs: far sources little, near ones much."""
    best: tuple[float, PlanarNetwork] | None = None
    samples = prepared.training
    for bandwidth in _BANDWIDTHS:
        network = start.build(sources, samples.y, samples.grid, prepared.geometry, widths, atoms, seed, bandwidth)
        error = nmse(network, prepared.held_out, prepared.middle)
        if best is None or error < 0.95 * best[0]:
            best = error, network
    assert best is not None
    return best[1]


def _sources(prepared: Prepared, most: int, deadline: float, progress: bool | None) -> Sources:
    bar = Progress(progress, most, "sources")
    known = 0

    def report(count: int, nmse: float) -> None:
        nonlocal known
        bar.update(count - known, f"validation {decibels(nmse):.2f} dB")
        known = count

    try:
        samples = prepared.training
        pitch = cell_pitch(samples.y, samples.grid)
        return find(samples, prepared.held_out, pitch, most, stop=lambda: time.monotonic() > deadline, report=report)
    finally:
        bar.close()


def planar_task(network: PlanarNetwork, prepared: Prepared, learning_rate: float, identity: str) -> Task:
    """Loss (normalized mean squared error) and learning rates in the units of each network's output."""
    samples, held = prepared.training, prepared.held_out
    scaled, psi = network.inputs(samples.y + prepared.middle)
    power = float(torch.view_as_real(samples.channels).square().mean())

    def loss(rows: Tensor) -> Tensor:
        difference = network(scaled[rows], psi[rows]) - samples.channels[rows]
        return torch.view_as_real(difference).square().mean() / power

    def validate() -> float:
        return nmse(network, held, prepared.middle)

    antennas = network.antennas.abs().max().clamp(min=1e-9)
    tones = network.tones.abs().max().clamp(min=1e-9)
    groups: list[dict[str, Any]] = [
        {"params": list(network.delay.parameters()), "lr": learning_rate * min(1.0, 0.3 / float(tones))},
        {"params": list(network.antenna.parameters()), "lr": learning_rate * min(1.0, 0.3 / float(antennas))},
        {"params": list(network.weight.parameters()), "lr": learning_rate},
    ]
    return Task(network, groups, len(samples.y), loss, validate, identity)


def nmse(network: PlanarNetwork, samples: Samples, middle: Tensor) -> float:
    """Sum of squared errors over sum of squares, docs/equations.md (10)."""
    error = total = 0.0
    for part, truth in zip(torch.split(samples.y, 128), torch.split(samples.channels, 128), strict=True):
        error += float((network.predict(part + middle) - truth).abs().square().sum())
        total += float(truth.abs().square().sum())
    return error / total if total > 0 else float("inf")


def _training_json(record: Record, seed: int, network: PlanarNetwork, prepared: Prepared) -> str:
    return json.dumps(
        {
            "losses": [round(value, 8) for value in record.losses],
            "validation_nmse_db": round(decibels(record.best_nmse), 4),
            "validation": [round(value, 8) for value in record.validation],
            "best_epoch": record.best_epoch,
            "seconds": round(record.seconds, 1),
            "seed": seed,
            "atoms": len(network.directions),
            "training_locations": len(prepared.training.y),
            "validation_locations": len(prepared.held_out.y),
            "versions": {"wavefix": __version__, "torch": torch.__version__, "numpy": np.__version__},
        }
    )
