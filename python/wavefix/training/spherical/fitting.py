# SPDX-License-Identifier: Apache-2.0
"""``fit(kind="spherical")``: virtual sources found in rounds until held-out locations gain no more, then made exact."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from wavefix._core import DataError, __version__
from wavefix.dataset import ChannelDataset
from wavefix.files import Path_
from wavefix.training.data import Prepared, prepare
from wavefix.training.loop import Progress, decibels
from wavefix.training.spherical.antennas import panels_of
from wavefix.training.spherical.checkpoints import read_state, write_state
from wavefix.training.spherical.positions import PositionErrors
from wavefix.training.spherical.rounds import STRICT_ROUNDS, Errors, Stages, State, errors_of, finish, one_round
from wavefix.training.spherical.search import Field
from wavefix.training.spherical.state import Measured, parameters_of, sample

_DEFAULT_TIME = 1200.0
_SEARCHED = 3000  # locations of a round
_FINISHED = 9000  # locations of the last steps
_LOOKS = 8, 16  # antennas of the rounds: first, and later
_PATIENCE = 3, 5  # rounds without gain, at few antennas and at more, where single rounds bring less
_OVERFIT = 2.0  # times the error at the antennas looked at: the error of all antennas that calls for more of them
_WORTHWHILE = 0.8, 0.9  # of the validation error before, that is a gain: at few antennas, and at more
_EXACT = 1e-7  # error from which on rounds bring nothing: what is left, gains of higher degree explain at the end
_SHARES = 0.8, 0.9  # of the time limit, for the rounds; and while the last one has left much less
_FALLING = 0.8  # of the error of all rounds before, that is much less
_SAME_RANGE, _WIDE = 0.5, 20.0  # radians: of the strongest path over a zone so wide
_REFINABLE = 0.25  # wavelengths that positions may err by
_NOTHING = 0.98  # validation NMSE above which the model says nothing


@dataclass
class Record:
    """What happened, as the model file and the checkpoint tell it."""

    validation: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)  # of the held-out locations' errors
    usual: list[float] = field(default_factory=list)  # their geometric mean, which rounds must lower
    training: list[float] = field(default_factory=list)  # at the antennas that the round looked at
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    finished: bool = False

    @property
    def falling(self) -> bool:
        """Whether another round brings more than the last steps."""
        return len(self.usual) > 1 and self.usual[-1] < _FALLING * min(self.usual[:-1])


def fit_spherical(
    data: ChannelDataset,
    *,
    seed: int = 0,
    device: str = "cpu",
    time_limit: float | None = None,
    checkpoint: Path_ | None = None,
    validation_fraction: float = 0.1,
    progress: bool | None = None,
    max_sources: int = 96,
    max_rounds: int = 32,
    position_std: float = 0.0,
) -> bytes:
    """The model file; see ``wavefix.fit``."""
    limit = _DEFAULT_TIME if time_limit is None else float(time_limit)
    if not limit > 0:
        raise ValueError(f"time_limit: expected a positive number of seconds, got {time_limit}")
    if max_sources < 1 or max_rounds < 1:
        raise ValueError("max_sources, max_rounds: expected at least 1")
    if not (np.isfinite(position_std) and position_std >= 0):
        raise ValueError(f"position_std: expected a finite number of meters, at least 0, got {position_std}")
    prepared = prepare(data, validation_fraction, seed, device)
    training, held = measured_of(prepared)
    if position_std > _REFINABLE * training.wavelength:
        raise ValueError(
            f"position_std: expected at most a quarter of the wavelength ({_REFINABLE * training.wavelength:.3g} m), "
            f"got {position_std}; positions that err more do not tell which carrier phase belongs to which place"
        )
    errors = PositionErrors(float(position_std), prepared.geometry.region.basis)
    identity = f"spherical {max_sources} {max_rounds} {errors.std} {prepared.identity}"
    state, record = (None, Record()) if checkpoint is None else read_state(checkpoint, identity, Record)
    began = time.monotonic() - record.seconds
    stages = Stages(record.stages)
    bar = Progress(progress, max_rounds + 1, "fit")
    bar.update(len(record.validation), "")

    def keep(best: State) -> None:
        record.seconds, record.stages = time.monotonic() - began, {name: round(t, 2) for name, t in stages.items()}
        text = f"validation {decibels(best.errors.nmse):.2f} dB, median location {decibels(best.errors.median):.2f} dB"
        bar.update(1, f"{len(best.sources)} sources, {text}")
        if checkpoint is not None:
            write_state(checkpoint, identity, best, record)

    try:
        # many small products: a second BLAS thread costs four times the time that it saves
        with threadpool_limits(limits=1, user_api="blas"):
            if state is None or not record.finished:
                rounds = _Rounds(training, held, errors, seed, max_sources, max_rounds, began, limit, stages)
                state = rounds.run(state or State(), record, keep)
                _require_sources(state, training)
                rng = np.random.default_rng([seed, _FINISHED])
                finished = _some(training, _FINISHED, seed)
                state = finish(state, training, finished, held, errors, max_sources, began + limit, rng, stages)
                record.finished = True
                keep(state)
    finally:
        bar.close()
    story = _training_json(state, record, seed, training, held, errors)
    geometry = prepared.geometry
    return parameters_of(
        state.sources,
        geometry.antenna_positions,
        geometry.frequencies,
        geometry.region,
        state.errors.nmse,
        prepared.scale,
        {"training": story},
    ).to_bytes()


def measured_of(prepared: Prepared) -> tuple[Measured, Measured]:
    """Training and held-out locations about the region's origin."""
    geometry = prepared.geometry
    region = geometry.region
    offsets = np.ascontiguousarray(geometry.antenna_positions - geometry.antenna_positions.mean(axis=0))
    middle = region.positions(region.middle[None])[0] - region.origin
    out = []
    for samples in (prepared.training, prepared.held_out):
        positions = region.positions(samples.y.cpu().numpy() + region.middle) - region.origin
        channels = np.ascontiguousarray(samples.channels.cpu().numpy())
        out.append(Measured(np.ascontiguousarray(positions), channels, offsets, geometry.frequencies, middle))
    training, held = out
    panel = panels_of(offsets, training.wavelength)
    return replace(training, panel=panel), replace(held, panel=panel)


@dataclass
class _Rounds:
    training: Measured
    held: Measured
    errors: PositionErrors
    seed: int
    max_sources: int
    max_rounds: int
    began: float
    limit: float
    stages: Stages

    def run(self, state: State, record: Record, keep: Any) -> State:
        """The best state after enough rounds; each has its own random numbers, so that a resumed run is the same."""
        reported = _some(self.training, _SEARCHED, self.seed)
        training, searched, antennas = self._moved(state, reported), None, 0
        longest = 0.0
        while len(record.validation) < self.max_rounds:
            wanted = _look(record, len(self.training.offsets), self.max_rounds)
            deadline = self.began + _SHARES[record.falling] * self.limit
            if not wanted or (time.monotonic() + longest > deadline and record.validation):
                break
            began = time.monotonic()
            if searched is None or wanted != antennas:
                searched, antennas = Field.of(reported, wanted).at(training.positions), wanted
            number = len(record.validation)
            rng = np.random.default_rng([self.seed, number])
            trial = one_round(state, searched, number, self.max_sources, rng, self.stages)
            moved = self._moved(trial, reported)
            there = searched.at(moved.positions)
            trial.errors = self._validation(trial)
            record.validation.append(trial.errors.nmse)
            record.median.append(trial.errors.median)
            record.usual.append(trial.errors.usual)
            record.training.append(errors_of(trial.sources, there.thin).nmse)
            if trial.errors.usual < 1.02 * state.errors.usual or not state.sources:
                state, training, searched = trial, moved, there
            keep(state)
            longest = max(longest, time.monotonic() - began)
        return state

    def _moved(self, state: State, reported: Measured) -> Measured:
        with self.stages("positions"):
            return self.errors.most_probable(state.sources, reported)[0]

    def _validation(self, state: State) -> Errors:
        """Of held-out locations where the sources put them, as their reported positions err as well. That is at most
        three numbers against the hundreds of a channel, and what they are moved by counts: moves are no better fit."""
        with self.stages("positions"):
            held, moves = self.errors.most_probable(state.sources, self.held)
        return errors_of(state.sources, held, moves / held.energy)


def _look(record: Record, most: int, max_rounds: int) -> int:
    """How many antennas the next round looks at: more once few bring nothing new, or are fitted much better than all of
    them, or after three quarters of the rounds; 0 once more do not bring anything either."""
    begin = 0
    if most > _LOOKS[0]:
        pairs = enumerate(zip(record.validation, record.training, strict=True), 1)
        odd = (i for i, (all_of_them, seen) in pairs if i >= STRICT_ROUNDS and all_of_them > _OVERFIT * seen)
        end = _end(record.usual, 0, max_rounds, _PATIENCE[0], _WORTHWHILE[0])
        begin = min(end, (3 * max_rounds + 3) // 4, next(odd, max_rounds))
        if len(record.usual) < begin:
            return _LOOKS[0]
    patience = _PATIENCE[1] if begin else _PATIENCE[0]
    return _LOOKS[1] if _end(record.usual, begin, max_rounds, patience, _WORTHWHILE[1]) > len(record.usual) else 0


def _end(errors: Sequence[float], begin: int, otherwise: int, patience: int, worthwhile: float) -> int:
    """The number of rounds after which the last ``patience`` of those since ``begin`` had brought next to nothing."""
    for end in range(begin + patience + 1, len(errors) + 1):
        if max(min(errors[end - patience : end]), _EXACT) > worthwhile * min(errors[: end - patience]):
            return end
    return otherwise


def _some(measured: Measured, count: int, seed: int) -> Measured:
    return sample(measured, count, np.random.default_rng([seed, count]))


def _require_sources(state: State, training: Measured) -> None:
    """An error where the sources say that the channels cannot be learned."""
    if not state.sources or state.errors.nmse > _NOTHING:
        raise DataError(
            f"channels: no virtual source explains them (validation {decibels(state.errors.nmse):.1f} dB with "
            f"{len(training.positions)} training locations); expected the channels of one scene with absolute delay "
            "and carrier phase kept (not normalized per location), at known positions in meters"
        )
    few = training.part(np.arange(0, len(training.positions), max(1, len(training.positions) // 200)))
    powers = [source.strength(few) for source in state.sources]
    strongest = state.sources[int(np.argmax(powers))]
    spread = few.wavenumber * float(np.min(np.std(strongest.rays(few)[0], axis=0)))
    extent = few.wavenumber * float(np.max(np.ptp(few.positions, axis=0)))
    if spread < _SAME_RANGE and extent > _WIDE and max(powers) > 0.3 * sum(powers):
        raise DataError(
            "channels: the range of the strongest path does not follow the positions; delays or phases seem to be "
            "normalized per location, expected absolute delay and carrier phase"
        )


def _training_json(
    state: State, record: Record, seed: int, training: Measured, held: Measured, errors: PositionErrors
) -> str:
    told = {}
    if errors.std:
        some = _some(training, _SEARCHED, seed)
        moved = errors.most_probable(state.sources, some)[0].positions - some.positions
        rms = float(np.sqrt(np.sum(moved**2) / len(moved) / len(errors.basis)))
        told = {"position_std": errors.std, "position_moves": float(f"{rms:.4g}")}  # alike where the former is true
    return json.dumps(
        told
        | {
            "validation_nmse_db": round(decibels(state.errors.nmse), 4),
            "validation_median_db": round(decibels(state.errors.median), 4),
            "validation": [round(value, 8) for value in record.validation],
            "median": [round(value, 8) for value in record.median],
            "seconds": round(record.seconds, 1),
            "stages": record.stages,
            "seed": seed,
            "sources": len(state.sources),
            "lines": sum(len(source.gate.lines) for source in state.sources),
            "training_locations": len(training.positions),
            "validation_locations": len(held.positions),
            "versions": {"wavefix": __version__, "numpy": np.__version__},
        }
    )
