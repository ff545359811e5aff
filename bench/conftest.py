# SPDX-License-Identifier: Apache-2.0
"""Sizes of the sweeps, and the machine beside every result. WAVEFIX_BENCH=full sweeps all sizes, else a few small."""

from __future__ import annotations

import os
from typing import Any

from wavefix.environment import environment_record
from wavefix.peaks import measured_peaks


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info["wavefix"] = environment_record()
    machine_info["peaks"] = measured_peaks(3)
    machine_info["sweep"] = os.environ.get("WAVEFIX_BENCH", "small")
