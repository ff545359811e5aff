# SPDX-License-Identifier: Apache-2.0
"""One training loop for every network: Adam, warm-up and cosine, early stopping, checkpoints, resumption.

The schedule follows the epochs; the clock takes over only where ``time_limit`` would cut it, so a run that is not cut
is reproducible. The order of an epoch depends on the seed and the epoch's number alone: a resumed run continues it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavefix._core import DataError
from wavefix.files import Path_, written_whole

_WARMUP = 0.03
_SLACK = 0.05
_CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. ``time_limit`` is in seconds and counts what earlier runs of the checkpoint spent."""

    epochs: int = 120
    batch_size: int = 64
    patience: int = 40
    time_limit: float = 1200.0
    seed: int = 0

    def rate(self, epoch: float, clock: float) -> float:
        """Factor of the learning rate, 0..1; ``clock`` is the part of the training time that has passed."""
        late = (clock - _SLACK) / (1 - _SLACK)  # a fast run must not feel the clock: it would not be reproducible
        done = min(1.0, max(epoch / max(self.epochs, 1), late))
        return min(1.0, (done + 1e-3) / _WARMUP) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Task:
    """A network, its parameter groups (``params``, ``lr``), the loss of a batch of rows and the validation NMSE."""

    model: nn.Module
    groups: list[dict[str, Any]]
    rows: int
    loss: Callable[[Tensor], Tensor]
    validate: Callable[[], float]
    identity: str = ""  # of data and options: a checkpoint of another task is refused


@dataclass
class Record:
    """What happened: kept in checkpoints and, as JSON, in the model file."""

    epoch: int = 0
    seconds: float = 0.0
    start_seconds: float = 0.0
    best_epoch: int = 0
    best_nmse: float = float("inf")
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


def decibels(nmse: float) -> float:
    return 10 * math.log10(max(nmse, 1e-30))


class Progress:
    """A tqdm bar on stderr, or nothing. None shows it only on a terminal."""

    def __init__(self, wanted: bool | None, total: int, label: str) -> None:
        self._bar: Any = None
        if wanted or (wanted is None and sys.stderr.isatty()):
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, file=sys.stderr, leave=True)

    def update(self, steps: int, text: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(steps)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def train(
    task: Task,
    schedule: Schedule,
    *,
    record: Record | None = None,
    state: dict[str, Tensor] | None = None,
    checkpoint: Path_ | None = None,
    extra: dict[str, str] | None = None,
    progress: bool | None = None,
    label: str = "fit",
) -> Record:
    """Train ``task.model``, which ends with the weights that were best on the validation locations.

    ``record`` and ``state`` continue a run from ``read_checkpoint``. KeyboardInterrupt passes; the last checkpoint
    stays.
    """
    record = record or Record()
    optimizer = torch.optim.Adam(task.groups, lr=1.0, betas=(0.9, 0.99))
    rates = [group["lr"] for group in optimizer.param_groups]
    best = {name: value.clone() for name, value in task.model.state_dict().items()}
    if state is not None:
        best = _restore(task.model, optimizer, state)
    elif record.best_nmse == float("inf"):
        record.best_nmse = task.validate()
        record.validation.append(record.best_nmse)
    began = saved = time.monotonic()
    before = record.seconds
    bar = Progress(progress, schedule.epochs - record.epoch, label)
    try:
        if checkpoint is not None and state is None:
            write_checkpoint(checkpoint, task, optimizer, best, record, extra)
        while not record.finished and record.epoch < schedule.epochs:
            loss, complete = _epoch(task, optimizer, rates, schedule, record, began - before)
            record.epoch += 1
            record.seconds = before + time.monotonic() - began
            record.losses.append(loss)
            record.validation.append(task.validate())
            if record.validation[-1] < record.best_nmse:
                record.best_nmse, record.best_epoch = record.validation[-1], record.epoch
                best = {name: value.clone() for name, value in task.model.state_dict().items()}
            stale = record.epoch - record.best_epoch >= schedule.patience
            record.finished = not complete or stale or record.epoch >= schedule.epochs
            bar.update(1, f"loss {decibels(loss):.2f} dB, validation {decibels(record.best_nmse):.2f} dB")
            if checkpoint is not None and (record.finished or time.monotonic() - saved > _CHECKPOINT_SECONDS):
                write_checkpoint(checkpoint, task, optimizer, best, record, extra)
                saved = time.monotonic()
    finally:
        bar.close()
    task.model.load_state_dict(best)
    return record


def _epoch(
    task: Task, optimizer: torch.optim.Adam, rates: list[float], schedule: Schedule, record: Record, start: float
) -> tuple[float, bool]:
    """One pass over the rows; the mean loss, and False where time ran out in it."""
    generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + record.epoch)
    order = torch.randperm(task.rows, generator=generator)
    batches = torch.split(order, schedule.batch_size)
    total = 0.0
    available = max(schedule.time_limit - record.start_seconds, 1e-9)
    for index, batch in enumerate(batches):
        seconds = time.monotonic() - start
        if seconds >= schedule.time_limit:
            return total / max(index, 1), False
        factor = schedule.rate(record.epoch + index / len(batches), (seconds - record.start_seconds) / available)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError("training diverged: the loss is not finite; lower learning_rate")
        total += value
    return total / len(batches), True


def write_checkpoint(
    path: Path_,
    task: Task,
    optimizer: torch.optim.Adam,
    best: dict[str, Tensor],
    record: Record,
    extra: dict[str, str] | None,
) -> None:
    """All that a resumed run needs, as safetensors with a JSON record; complete or absent."""
    from safetensors.torch import save

    tensors = {f"model/{name}": value for name, value in task.model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    names = {parameter: name for name, parameter in task.model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"adam/{key}/{names[parameter]}"] = torch.as_tensor(value)
    real = {}
    for name, value in tensors.items():
        value = value.detach().cpu()
        real[name] = (torch.view_as_real(value) if value.is_complex() else value).clone().contiguous()
    metadata = {
        "format": "wavefix-checkpoint",
        "format_version": "1",
        "identity": task.identity,
        "record": json.dumps(vars(record)),
        **(extra or {}),
    }
    with written_whole(path) as stream:
        stream.write(save(real, metadata=metadata))


def read_checkpoint(path: Path_, identity: str) -> tuple[dict[str, Tensor], Record, dict[str, str]] | None:
    """What ``write_checkpoint`` wrote; None where there is no file.

    Raises:
        DataError: not a checkpoint, or one of other data or options.
    """
    if not Path(path).exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as archive:
            metadata = dict(archive.metadata() or {})
            state = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable checkpoint ({error})") from error
    if metadata.get("format") != "wavefix-checkpoint" or metadata.get("format_version") != "1":
        raise DataError(f"{path}: not a checkpoint of this version of wavefix")
    if metadata.get("identity") != identity:
        raise DataError(f"{path}: a checkpoint of other data or options; remove it, or give another name")
    try:
        record = Record(**json.loads(metadata["record"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable checkpoint (its record: {error})") from error
    return state, record, metadata


def _restore(model: nn.Module, optimizer: torch.optim.Adam, state: dict[str, Tensor]) -> dict[str, Tensor]:
    current = model.state_dict()

    def like(prefix: str, name: str, target: Tensor) -> Tensor:
        value = state[f"{prefix}/{name}"]
        return (torch.view_as_complex(value) if target.is_complex() else value).to(target.device, target.dtype)

    best = {name: like("best", name, target) for name, target in current.items()}
    model.load_state_dict({name: like("model", name, target) for name, target in current.items()})
    for name, parameter in model.named_parameters():
        if f"adam/step/{name}" in state:
            optimizer.state[parameter] = {
                "step": state[f"adam/step/{name}"],
                "exp_avg": like("adam/exp_avg", name, parameter),
                "exp_avg_sq": like("adam/exp_avg_sq", name, parameter),
            }
    return best
