# SPDX-License-Identifier: Apache-2.0
"""The parameters of a model of virtual sources (kind ``"spherical"``), docs/equations.md (1) and (3), as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefix.model_file import model_bytes
from wavefix.region import Region

_GATES = ("gate_lines", "gate_line_cell", "gate_cell_source")


def gain_terms(degree: int) -> list[tuple[int, int]]:
    """Exponents ``(a, b)`` of the monomials ``v1^a v2^b`` in the order of ``gain_coefficients``."""
    return [(total - b, b) for total in range(degree + 1) for b in range(total + 1)]


@dataclass(frozen=True, eq=False)
class SphericalParameters:
    """``L`` virtual sources with their gains and gates; the arrays are the tensors of the file, by name.

    Attributes:
        antenna_positions: ``[n_antennas, 3]`` meters.
        frequencies: ``[n_subcarriers]`` hertz, absolute.
        region: where the model holds; gates are written relative to its origin.
        source_positions: ``[L, 3]`` meters: where the source of the array's reference point is.
        source_rotations: ``[L, 3, 3]``: turns an antenna's offset from the reference point into its source's. Lengths
            of the offsets are kept to within 1 %; ``outer(a, e)`` does for a linear array along ``e``.
        gain_variables: ``[L, 2, 4]``: the variables ``v = gain_variables @ [u, 1]`` of the gain, ``u`` the direction
            of the ray from source to user.
        gain_coefficients: ``[L, M, 2]`` meters, real and imaginary parts in the order of ``gain_terms``.
        gate_lines: ``[E, 6]``: moment and direction of the line of each edge, scaled to a logit (per meter and per
            square meter); None without gates.
        gate_line_cell: ``[E]``: the cell of each line, ascending, each cell at least once.
        gate_cell_source: ``[C]``: the source of each cell, ascending. A source without cells is seen everywhere. The
            cells of a source are leaves of one tree of splits, so that they exclude each other: its gate is their sum.
        validation_nmse: linear, (10).
        metadata: what the file says beside the format, for example ``"training"``.
    """

    antenna_positions: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    region: Region
    source_positions: NDArray[np.float64]
    source_rotations: NDArray[np.float64]
    gain_variables: NDArray[np.float64]
    gain_coefficients: NDArray[np.float32]
    validation_nmse: float
    gate_lines: NDArray[np.float64] | None = None
    gate_line_cell: NDArray[np.int32] | None = None
    gate_cell_source: NDArray[np.int32] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def tensors(self) -> dict[str, NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int32]]:
        """The tensors of the model file. Gates without a line are left out: the file has no empty tensors.

        Raises:
            ValueError: some of the three gate arrays are there and some are not.
        """
        out: dict[str, NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int32]] = {
            "antenna_positions": _f64(self.antenna_positions),
            "frequencies": _f64(self.frequencies),
            "region.origin": _f64(self.region.origin),
            "region.basis": _f64(self.region.basis),
            "region.lower": _f64(self.region.lower),
            "region.upper": _f64(self.region.upper),
            "validation_nmse": _f64([self.validation_nmse]),
            "source_positions": _f64(self.source_positions),
            "source_rotations": _f64(self.source_rotations),
            "gain_variables": _f64(self.gain_variables),
            "gain_coefficients": np.asarray(self.gain_coefficients, dtype=np.float32),
        }
        gates = (self.gate_lines, self.gate_line_cell, self.gate_cell_source)
        sizes = [0 if array is None else len(array) for array in gates]
        if any(sizes) and not all(sizes):
            raise ValueError("expected all or none of " + ", ".join(_GATES))
        if all(sizes):
            out["gate_lines"] = _f64(self.gate_lines)
            out["gate_line_cell"] = np.asarray(self.gate_line_cell, dtype=np.int32)
            out["gate_cell_source"] = np.asarray(self.gate_cell_source, dtype=np.int32)
        return out

    def to_bytes(self) -> bytes:
        """The model file (safetensors), which ``ChannelModel.from_bytes`` reads and checks."""
        return model_bytes("spherical", self.tensors(), self.metadata)


def _f64(array: ArrayLike | None) -> NDArray[np.float64]:
    return np.asarray(array, dtype=np.float64)
