# SPDX-License-Identifier: Apache-2.0
"""``python -m wavefix.selftest``: does this installed copy compute what it should? Seconds, no test suite, no torch.

One line a check, with the figure it was judged by; the exit code is 1 where one failed.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import wavefix
from wavefix import _core
from wavefix.constants import SPEED_OF_LIGHT

_CARRIER = 3.5e9
_WAVELENGTH = SPEED_OF_LIGHT / _CARRIER
_WAVES, _ANTENNAS, _SUBCARRIERS = 8, 8, 12
Tensors = dict[str, NDArray[Any]]


def main() -> int:
    failures = 0
    start = time.perf_counter()
    for check in (_extension, _channels, _jacobian, _simulation, _location, _threads, _files, _refusal):
        title = (check.__doc__ or "").splitlines()[0].rstrip(".")
        try:
            print(f"ok      {title}: {check()}", flush=True)
        except Exception as error:
            failures += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAILED  {title}: {type(error).__name__}: {error} ({place.name}, line {place.lineno})", flush=True)
    result = f"{failures} checks failed" if failures else "all checks passed"
    print(f"wavefix {wavefix.__version__}: {result}, {time.perf_counter() - start:.1f} s")
    return 1 if failures else 0


def _require(holds: object, what: str) -> None:
    if not holds:  # not assert: python -O would take the checks out
        raise RuntimeError(what)


def _tensors() -> Tensors:
    """Plane waves with constant weights and slopes: (2) without hidden layers, so that a few lines can repeat it."""
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    basis, half = np.eye(3)[:2], 3 * _WAVELENGTH
    antennas = np.array([10.0, 3.0, 5.0]) + np.arange(_ANTENNAS)[:, None] * np.array([0.0, _WAVELENGTH / 2, 0.0])
    tensors: Tensors = {
        "antenna_positions": antennas,
        "frequencies": _CARRIER + np.linspace(-25e6, 25e6, _SUBCARRIERS),
        "region.origin": np.array([1.0, 2.0, 1.5]),
        "region.basis": basis,
        "region.lower": np.full(2, -half),
        "region.upper": np.full(2, half),
        "validation_nmse": np.array([1e-6]),
        "location.directions": directions,
        "antenna.basis": np.array([[0.0, 1.0, 0.0]]),
        "delay.0.weight": (directions @ basis.T * half).astype(np.float32),
        "delay.0.bias": rng.uniform(5.0, 60.0, _WAVES).astype(np.float32),
        "antenna.0.weight": np.zeros((_WAVES, 2), np.float32),
        "antenna.0.bias": rng.uniform(-0.9, 0.9, _WAVES).astype(np.float32),
        "weight.scale": np.array([1e-4]),
    }
    for part in ("real", "imag"):
        tensors[f"weight.0.weight_{part}"] = np.zeros((_WAVES, 2), np.float32)
        tensors[f"weight.0.bias_{part}"] = rng.standard_normal(_WAVES).astype(np.float32)
    return tensors


def _model() -> wavefix.ChannelModel:
    from safetensors.numpy import save

    metadata = {"format": "wavefix", "format_version": "1", "kind": "planar", "units": "m,s,Hz,rad"}
    return wavefix.ChannelModel.from_bytes(save(_tensors(), metadata | {"activation": "silu", "training": "{}"}))


def _written_out(tensors: Tensors, position: NDArray[np.float64]) -> NDArray[np.complex128]:
    """(2) at one position in float64 NumPy."""
    away = position - tensors["region.origin"]
    xi = tensors["region.basis"] @ away / tensors["region.upper"]
    length = tensors["delay.0.weight"].astype(float) @ xi + tensors["delay.0.bias"]
    z = tensors["weight.0.bias_real"] + 1j * tensors["weight.0.bias_imag"].astype(float)
    share = np.exp(np.abs(z))
    weight = tensors["weight.scale"][0] * z * share / share.sum()
    antennas, frequencies = tensors["antenna_positions"], tensors["frequencies"]
    offset = (antennas - antennas.mean(axis=0)) @ tensors["antenna.basis"][0]
    turns = tensors["antenna.0.bias"].astype(float) * offset[:, None] - tensors["location.directions"] @ away
    in_antennas = np.exp(2j * np.pi / _WAVELENGTH * turns)
    in_frequencies = np.exp(-2j * np.pi * (frequencies - _CARRIER)[:, None] * length / SPEED_OF_LIGHT)
    channel: NDArray[np.complex128] = (in_antennas * weight) @ in_frequencies.T
    return channel


def _positions(n: int) -> NDArray[np.float64]:
    tensors = _tensors()
    y = np.random.default_rng(2).uniform(0.8 * tensors["region.lower"], 0.8 * tensors["region.upper"], (n, 2))
    positions: NDArray[np.float64] = tensors["region.origin"] + y @ tensors["region.basis"]
    return positions


def _relative(found: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def _extension() -> str:
    """The extension loads, and is of this version."""
    _require(_core.__version__ == wavefix.__version__, f"extension {_core.__version__}, package {wavefix.__version__}")
    try:
        installed = importlib.metadata.version("wavefix")
    except importlib.metadata.PackageNotFoundError:
        installed = "not installed: run from a source tree"
    else:
        _require(installed == _core.__version__, f"extension {_core.__version__}, installed as {installed}")
    openmp = "with" if _core.openmp else "without"
    return f"{_core.__version__}, {openmp} OpenMP, {_core.max_threads()} threads, {Path(_core.__file__).name}"


def _channels() -> str:
    """Channels of a model agree with its formula written out in NumPy."""
    positions = _positions(20)
    truth = np.array([_written_out(_tensors(), position) for position in positions])
    error = _relative(_model().synthesize(positions), truth)
    _require(error < 1e-5, f"relative error {error:.1e}")  # float32 holds phases of a few turns to 1e-6
    return f"relative error {error:.1e}"


def _jacobian() -> str:
    """The Jacobian agrees with differences of channels."""
    positions, step = _positions(5), 1e-4
    jacobian = _model().synthesize(positions, jacobian=True)[1]
    error = 0.0
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        ahead, behind = ([_written_out(_tensors(), p + sign * shift) for p in positions] for sign in (1, -1))
        error = max(error, _relative(jacobian[:, axis], (np.array(ahead) - np.array(behind)) / (2 * step)))
    # central differences: (2 pi step / wavelength)^2 / 6 = 9e-6
    _require(error < 1e-4, f"relative error {error:.1e}")
    return f"relative error {error:.1e}"


def _simulation() -> str:
    """Simulated channels of an empty scene agree with spherical waves written out in NumPy."""
    scene = wavefix.Scene.named("plaza").with_(walls=(), antennas=4)
    positions = scene.sample(6, seed=3)
    data = wavefix.simulate(scene, positions=positions)
    ray = positions[:, None] - data.antenna_positions
    distance = np.linalg.norm(ray, axis=2)[..., None]
    # equation (1) with gain between two vertical dipoles in free space
    gain = data.wavelength / (4 * np.pi) * (1 - (ray[..., 2:] / distance) ** 2)
    error = _relative(
        data.channels, gain / distance * np.exp(-2j * np.pi * data.frequencies * distance / SPEED_OF_LIGHT)
    )
    _require(error < 1e-5, f"relative error {error:.1e}")  # float32 entries, phases exact
    return f"relative error {error:.1e}"


def _location() -> str:
    """Users are found where they are."""
    model, positions = _model(), _positions(4)
    fixes = wavefix.Localizer(model).locate(model.synthesize(positions))
    error = float(np.linalg.norm(fixes.position - positions, axis=1).max())
    _require(np.all(fixes.status == wavefix.Status.OK), f"status {fixes.status.tolist()}")
    _require(error < 1e-3 * _WAVELENGTH, f"{error:.1e} m off")  # noise-free: float32 is all that limits
    return f"at most {1e3 * error:.1e} mm off at a wavelength of {1e3 * _WAVELENGTH:.0f} mm"


def _threads() -> str:
    """One thread and several give the same bits."""
    model, positions = _model(), _positions(50)
    channels = model.synthesize(positions, threads=1)
    _require(np.array_equal(channels, model.synthesize(positions, threads=3)), "channels differ")
    localizer = wavefix.Localizer(model)
    one, three = (localizer.locate(channels[:6], threads=threads) for threads in (1, 3))
    for name in ("position", "covariance", "status", "residual", "ambiguity"):
        _require(np.array_equal(getattr(one, name), getattr(three, name), equal_nan=True), f"{name} differs")
    return "channels of 50 positions, fixes of 6 users"


def _files() -> str:
    """Models, datasets and fixes survive their files."""
    model, positions = _model(), _positions(4)
    channels = model.synthesize(positions)
    data = wavefix.ChannelDataset(channels, model.antenna_positions, model.frequencies, positions)
    fixes = wavefix.Localizer(model, strategy="on_grid_naive").locate(channels)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "model.safetensors")
        again = wavefix.ChannelModel.load(folder / "model.safetensors")
        _require(np.array_equal(again.synthesize(positions), channels), "the model read back gives other channels")
        data.save(folder / "data.npz")
        read = wavefix.ChannelDataset.load(folder / "data.npz")
        _require(np.array_equal(read.channels, channels) and read.positions is not None, "the dataset changed")
        fixes.save(folder / "fixes.npz")
        found = wavefix.Fixes.load(folder / "fixes.npz")
        _require(np.array_equal(found.position, fixes.position), "the fixes changed")
    return f"{model.nbytes} bytes of model"


def _refusal() -> str:
    """Damaged files and bad arguments are refused by name."""
    data = _model().to_bytes()

    def refused(error: type[Exception], call: Callable[[Any], object], argument: Any) -> None:
        try:
            call(argument)
        except error:
            return
        raise RuntimeError(f"expected {error.__name__}")

    for length in range(0, len(data), 97):
        refused(wavefix.ModelFormatError, wavefix.ChannelModel.from_bytes, data[:length])
    refused(wavefix.ShapeError, _model().synthesize, np.zeros((2, 2)))
    refused(wavefix.DataError, _model().synthesize, np.full((1, 3), np.nan))
    return f"{len(range(0, len(data), 97))} truncations, a shape, a position"


if __name__ == "__main__":
    sys.exit(main())
