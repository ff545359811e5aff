# SPDX-License-Identifier: Apache-2.0
"""Hostile files of the training part: checkpoints and baseline models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wavefix

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402  (needs torch)

from wavefix.training.baselines import BaselineModel, BaselineNetwork  # noqa: E402
from wavefix.training.loop import read_checkpoint  # noqa: E402

PLAN: dict[str, Any] = {"dimension": 2, "features": 0, "hidden": [4], "shape": [2, 3]}


def write_baseline(path: Path, network: Any, **change: torch.Tensor) -> None:
    state = BaselineNetwork(2, 0, (4,), (2, 3)).state_dict() | change
    metadata = {"format": "wavefix-baseline", "format_version": "1", "kind": "mlp", "training": "{}"}
    text = network if isinstance(network, str) else json.dumps(network)
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata | {"network": text})


def test_a_baseline_model_is_read(tmp_path: Path) -> None:
    write_baseline(tmp_path / "model", PLAN)
    assert BaselineModel.load(tmp_path / "model").kind == "mlp"


@pytest.mark.parametrize(
    "network",
    [
        PLAN | {"hidden": [1 << 40]},  # 2^42 floats, if memory were taken at the plan's word
        PLAN | {"hidden": [10**30]},
        PLAN | {"hidden": [-4]},
        PLAN | {"hidden": 4},
        PLAN | {"shape": ["2", 3]},
        PLAN | {"dimension": None},
        [PLAN],
        {},
        "[" * 100000,
        "not JSON",
    ],
)
def test_hostile_plans_of_a_baseline_model(network: Any, tmp_path: Path) -> None:
    write_baseline(tmp_path / "model", network)
    with pytest.raises(wavefix.ModelFormatError, match="not a readable baseline model"):
        BaselineModel.load(tmp_path / "model")


def test_a_baseline_model_of_other_tensors(tmp_path: Path) -> None:
    for change in ({"more": torch.zeros(1)}, {"scale": torch.ones(2)}, {"scale": torch.ones(1, dtype=torch.int32)}):
        write_baseline(tmp_path / "model", PLAN, **change)
        with pytest.raises(wavefix.ModelFormatError, match="not a readable baseline model"):
            BaselineModel.load(tmp_path / "model")


@pytest.mark.parametrize("record", ["{", "[]", '{"unknown": 1}', "[" * 100000, None])
def test_hostile_checkpoints(record: str | None, tmp_path: Path) -> None:
    metadata = {"format": "wavefix-checkpoint", "format_version": "1", "identity": "x"}
    if record is not None:
        metadata["record"] = record
    save_file({"best/a": torch.zeros(1)}, tmp_path / "checkpoint", metadata)
    with pytest.raises(wavefix.DataError, match="checkpoint"):
        read_checkpoint(tmp_path / "checkpoint", "x")
