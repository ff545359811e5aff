# SPDX-License-Identifier: Apache-2.0
"""Files of every released version of the formats stay readable, and mean what they meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import wavefix as wfx
from reference.channel_model import planar_channels
from reference.spherical import spherical_channels

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
KINDS = ("planar", "spherical")


def test_the_current_version_has_golden_files() -> None:
    for kind in KINDS:
        version = wfx.ChannelModel.load(GOLDEN / VERSIONS[-1] / f"{kind}.safetensors").metadata["format_version"]
        assert VERSIONS[-1] == f"format-{version}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_gives_the_channels_that_it_gave(kind: str, version: str) -> None:
    model = wfx.ChannelModel.load(GOLDEN / version / f"{kind}.safetensors")
    with np.load(GOLDEN / version / f"{kind}-channels.npz") as golden:
        channels, jacobian = model.synthesize(golden["positions"], jacobian=True)
        # float32 sums in whatever order an implementation takes: a few units in the last place of the largest term
        for found, stored in ((channels, golden["channels"]), (jacobian, golden["jacobian"])):
            np.testing.assert_allclose(found, stored, rtol=0, atol=1e-5 * np.abs(stored).max())
    assert model.kind == kind


@pytest.mark.parametrize(("kind", "written_out"), [("planar", planar_channels), ("spherical", spherical_channels)])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_stored_channels_are_right(kind: str, written_out: Any, version: str) -> None:
    tensors = safetensors.numpy.load_file(GOLDEN / version / f"{kind}.safetensors")
    with np.load(GOLDEN / version / f"{kind}-channels.npz") as golden:
        expected = written_out(tensors, golden["positions"])
        np.testing.assert_allclose(golden["channels"], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["dataset.npz", "dataset.h5"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_dataset_holds_what_it_held(version: str, name: str) -> None:
    if name.endswith("h5"):
        pytest.importorskip("h5py")
    data = wfx.ChannelDataset.load(GOLDEN / version / name)
    with np.load(GOLDEN / version / "spherical-channels.npz") as golden:
        np.testing.assert_array_equal(data.channels, golden["channels"])
        np.testing.assert_array_equal(data.known_positions(), golden["positions"])
    model = wfx.ChannelModel.load(GOLDEN / version / "spherical.safetensors")
    np.testing.assert_array_equal(data.antenna_positions, model.antenna_positions)
    np.testing.assert_array_equal(data.frequencies, model.frequencies)
    np.testing.assert_array_equal(data.line_of_sight, [True, False, True])


@pytest.mark.parametrize("version", VERSIONS)
def test_fixes_hold_what_they_held(version: str) -> None:
    fixes = wfx.Fixes.load(GOLDEN / version / "fixes.npz")
    with np.load(GOLDEN / version / "spherical-channels.npz") as golden:
        np.testing.assert_array_equal(fixes.position, golden["positions"])
    np.testing.assert_array_equal(fixes.covariance, np.tile(np.eye(3), (3, 1, 1)))
    assert fixes.status.tolist() == [wfx.Status.OK, wfx.Status.POOR_FIT, wfx.Status.INVALID_INPUT]
    np.testing.assert_array_equal(fixes.residual, [0.0, 0.5, np.nan])
    np.testing.assert_array_equal(fixes.ambiguity, [0.25, np.nan, 1.0])
