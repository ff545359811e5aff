# SPDX-License-Identifier: Apache-2.0
"""``python tests/golden/write.py FOLDER`` wrote the files beside it, once for each version of the formats.

They are never written again: what a released version wrote has to stay readable, and to mean the same channels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import wavefix as wfx

sys.path.insert(0, str(Path(__file__).parents[1]))

from factories import random_planar_model
from spherical_models import random_spherical_model


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, file in (
        ("planar", random_planar_model(7, antennas=3, subcarriers=4, atoms=3, hidden=(4,))),
        ("spherical", random_spherical_model(7, antennas=3, subcarriers=4, sources=3, degree=2)),
    ):
        model = wfx.ChannelModel.from_bytes(file.data)
        positions = file.positions(3, seed=8)
        channels, jacobian = model.synthesize(positions, jacobian=True)
        model.save(folder / f"{kind}.safetensors")
        np.savez(folder / f"{kind}-channels.npz", positions=positions, channels=channels, jacobian=jacobian)
    data = wfx.ChannelDataset(
        channels, model.antenna_positions, model.frequencies, positions, line_of_sight=np.array([True, False, True])
    )
    data.save(folder / "dataset.npz")
    data.save(folder / "dataset.h5")
    wfx.Fixes(
        position=positions,
        covariance=np.tile(np.eye(3), (3, 1, 1)),
        status=np.array([0, 2, 4], np.uint8),
        residual=np.array([0.0, 0.5, np.nan]),
        ambiguity=np.array([0.25, np.nan, 1.0]),
    ).save(folder / "fixes.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
