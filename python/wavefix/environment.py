# SPDX-License-Identifier: Apache-2.0
"""What a result was computed with: versions, processor, threads."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np

from wavefix import _core


def usable_cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def build_record() -> dict[str, Any]:
    """The build of the C++ core: version, OpenMP, default threads of a batch, instruction set of the inner loops."""
    return {
        "version": _core.__version__,
        "openmp": _core.openmp,
        "threads": _core.max_threads(),
        "kernels": _core.kernel_level(),  # what WAVEFIX_KERNELS says, or the best of the next
        "kernels_available": _core.kernel_levels(),
    }


def environment_record() -> dict[str, Any]:
    """Versions and machine, for a results file. torch is named where it has been imported already."""
    record: dict[str, Any] = {
        "wavefix": build_record(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": usable_cores(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if (torch := sys.modules.get("torch")) is not None:
        record["torch"] = str(torch.__version__)
    return record


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
