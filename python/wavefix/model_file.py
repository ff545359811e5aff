# SPDX-License-Identifier: Apache-2.0
"""What every model file says about itself, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = "1"


def model_bytes(
    kind: str,
    tensors: Mapping[str, NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int32]],
    metadata: Mapping[str, str],
) -> bytes:
    """The bytes of a model file (safetensors): ``tensors``, and ``metadata`` beside what the format asks for."""
    from safetensors.numpy import save

    required = {"format": "wavefix", "format_version": FORMAT_VERSION, "kind": kind, "units": "m,s,Hz,rad"}
    data: bytes = save(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata={**metadata, **required}
    )
    return data
