# SPDX-License-Identifier: Apache-2.0
"""What the planar network is compared with: plain location-to-channel networks, and one from channel to location."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from wavefix._core import DataError, ModelFormatError, ShapeError
from wavefix.dataset import ChannelDataset
from wavefix.files import Path_, written_whole
from wavefix.training.data import Prepared, prepare
from wavefix.training.loop import Record, Schedule, Task, read_checkpoint, train

_DEFAULT_TIME = 1200.0


class BaselineNetwork(nn.Module):
    """Position to channel by a multilayer perceptron, on coordinates ("mlp") or random Fourier features ("rff")."""

    fourier: Tensor
    origin: Tensor
    basis: Tensor
    center: Tensor
    half_extent: Tensor
    scale: Tensor

    def __init__(self, dimension: int, features: int, hidden: tuple[int, ...], shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        for name, size in (("fourier", (features, dimension)), ("origin", (3,)), ("basis", (dimension, 3))):
            self.register_buffer(name, torch.zeros(*size, dtype=torch.float64))
        for name, size in (("center", (dimension,)), ("half_extent", (dimension,)), ("scale", (1,))):
            self.register_buffer(name, torch.ones(*size, dtype=torch.float64))
        sizes = [2 * features or dimension, *hidden, 2 * shape[0] * shape[1]]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def inputs(self, positions: Tensor) -> Tensor:
        """From ``positions [n, 3]`` (float64): scaled coordinates, or cosines and sines of them."""
        y = (positions - self.origin) @ self.basis.mT - self.center
        if len(self.fourier) == 0:
            return (y / self.half_extent).to(torch.float32)
        phase = y @ self.fourier.mT
        return torch.cat([torch.cos(phase), torch.sin(phase)], 1).to(torch.float32)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layers(inputs)
        return torch.view_as_complex(out.reshape(len(out), *self.shape, 2))


class BaselineModel:
    """A fitted baseline: ``synthesize``, ``save``, ``load``. Evaluated by torch."""

    def __init__(self, network: BaselineNetwork, kind: str, training: str) -> None:
        self._network, self.kind, self.training = network.cpu(), kind, training

    @property
    def nbytes(self) -> int:
        """Bytes of the parameters."""
        return sum(value.numel() * value.element_size() for value in self._network.state_dict().values())

    def synthesize(self, positions: ArrayLike, batch: int = 256) -> NDArray[np.complex64]:
        """Channels ``[n, n_antennas, n_subcarriers]`` at ``positions [n, 3]`` (meters)."""
        x = np.asarray(positions, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != 3:
            raise ShapeError(f"positions: expected shape (n, 3), got {x.shape}")
        network, scale = self._network, float(self._network.scale)
        with torch.no_grad():
            parts = [network(network.inputs(part)) * scale for part in torch.split(torch.tensor(x), batch)]
        if not len(x):
            return np.zeros((0, *network.shape), dtype=np.complex64)
        channels: NDArray[np.complex64] = torch.cat(parts).numpy()
        return channels

    def save(self, path: Path_) -> None:
        """Write a safetensors file."""
        from safetensors.torch import save

        network = self._network
        hidden = [layer.out_features for layer in network.layers if isinstance(layer, nn.Linear)][:-1]
        shape = {"shape": network.shape, "hidden": hidden, "dimension": len(network.basis)}
        metadata = {
            "format": "wavefix-baseline",
            "format_version": "1",
            "kind": self.kind,
            "network": json.dumps({**shape, "features": len(network.fourier)}),
            "training": self.training,
        }
        with written_whole(path) as stream:
            stream.write(save({k: v.contiguous() for k, v in network.state_dict().items()}, metadata=metadata))

    @classmethod
    def load(cls, path: Path_) -> BaselineModel:
        """Read what ``save`` wrote; ModelFormatError where it is something else."""
        from safetensors import SafetensorError, safe_open

        with open(path, "rb"):
            pass
        try:
            with safe_open(str(path), framework="pt") as archive:
                metadata = dict(archive.metadata() or {})
                state = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
            if metadata.get("format") != "wavefix-baseline" or metadata.get("format_version") != "1":
                raise ModelFormatError(f"{path}: not a baseline model of this version of wavefix")
            plan = json.loads(metadata["network"])
            with torch.device("meta"):  # no memory for what the plan declares, before the tensors bear it out
                network = BaselineNetwork(
                    plan["dimension"], plan["features"], tuple(plan["hidden"]), tuple(plan["shape"])
                )
            for name, tensor in network.state_dict().items():
                if state[name].dtype != tensor.dtype:
                    raise ValueError(f"{name}: expected {tensor.dtype}, got {state[name].dtype}")
            network.load_state_dict(state, assign=True)
        except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ModelFormatError(f"{path}: not a readable baseline model ({error})") from error
        return cls(network, metadata["kind"], metadata["training"])


def fit_baseline(
    data: ChannelDataset,
    kind: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    time_limit: float | None = None,
    checkpoint: Path_ | None = None,
    validation_fraction: float = 0.1,
    progress: bool | None = None,
    epochs: int = 100,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    patience: int = 30,
    hidden: tuple[int, ...] = (256, 256, 256),
    features: int = 256,
) -> BaselineModel:
    """Fit "mlp" or "rff" (frequencies drawn from the disc of propagating waves)."""
    limit = _DEFAULT_TIME if time_limit is None else float(time_limit)
    prepared = prepare(data, validation_fraction, seed, device)
    schedule = Schedule(epochs, batch_size, patience, limit, seed)
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        network = _baseline_network(prepared, kind, hidden, features, seed).to(device)
    finally:
        torch.random.set_rng_state(torch_state)
    identity = f"{kind} {hidden} {features} {epochs} {batch_size} {learning_rate} {prepared.identity}"
    task = _baseline_task(network, prepared, learning_rate, identity)
    kept = None if checkpoint is None else read_checkpoint(checkpoint, identity)
    state, record = (kept[0], kept[1]) if kept is not None else (None, Record())
    record = train(task, schedule, record=record, state=state, checkpoint=checkpoint, progress=progress, label=kind)
    return BaselineModel(network, kind, json.dumps({"seed": seed, **vars(record)}))


def _baseline_network(
    prepared: Prepared, kind: str, hidden: tuple[int, ...], features: int, seed: int
) -> BaselineNetwork:
    geometry, samples = prepared.geometry, prepared.training
    region = geometry.region
    d = region.dimension
    count = features if kind == "rff" else 0
    network = BaselineNetwork(d, count, tuple(hidden), (samples.channels.shape[1], samples.channels.shape[2]))
    generator = np.random.default_rng(seed)
    waves = generator.standard_normal((count, 3))
    waves *= (2 * np.pi / geometry.wavelength) / np.linalg.norm(waves, axis=1, keepdims=True)
    network.load_state_dict(
        network.state_dict()
        | {
            "fourier": torch.tensor(waves[:, :d]),
            "origin": torch.tensor(region.origin),
            "basis": torch.tensor(region.basis),
            "center": torch.tensor(region.middle),
            "half_extent": torch.tensor(region.half_extent),
            "scale": torch.tensor([prepared.scale], dtype=torch.float64),
        }
    )
    return network


def _baseline_task(network: BaselineNetwork, prepared: Prepared, learning_rate: float, identity: str) -> Task:
    region = prepared.geometry.region
    device = prepared.training.y.device

    def inputs(y: Tensor) -> Tensor:
        positions = region.positions(y.cpu().numpy() + region.middle)
        return network.inputs(torch.tensor(positions, device=device))

    training, held = prepared.training, prepared.held_out
    scaled, held_scaled = inputs(training.y), inputs(held.y)
    power = float(torch.view_as_real(training.channels).square().mean())

    def loss(rows: Tensor) -> Tensor:
        return torch.view_as_real(network(scaled[rows]) - training.channels[rows]).square().mean() / power

    def validate() -> float:
        with torch.no_grad():
            error = (network(held_scaled) - held.channels).abs().square().sum()
        return float(error / held.channels.abs().square().sum())

    return Task(
        network, [{"params": list(network.parameters()), "lr": learning_rate}], len(scaled), loss, validate, identity
    )


class PositionRegressor:
    """A multilayer perceptron from channel to position: the learned baseline of the tables."""

    def __init__(self, hidden: tuple[int, ...] = (256, 256, 128)) -> None:
        self._hidden = tuple(hidden)
        self._network: nn.Sequential | None = None

    def fit(
        self,
        data: ChannelDataset,
        *,
        seed: int = 0,
        device: str = "cpu",
        time_limit: float | None = None,
        validation_fraction: float = 0.1,
        progress: bool | None = None,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        patience: int = 20,
    ) -> PositionRegressor:
        """Train on channels scaled to unit norm; returns itself."""
        prepared = prepare(data, validation_fraction, seed, device)
        training, held, region = prepared.training, prepared.held_out, prepared.geometry.region
        half = torch.tensor(region.half_extent, dtype=torch.float64, device=device)
        sizes = [2 * training.channels[0].numel(), *self._hidden, region.dimension]
        state = torch.random.get_rng_state()
        torch.manual_seed(seed)
        try:
            layers: list[nn.Module] = []
            for a, b in itertools.pairwise(sizes):
                layers += [nn.Linear(a, b), nn.SiLU()]
            network = nn.Sequential(*layers[:-1]).to(device)
        finally:
            torch.random.set_rng_state(state)

        def error(channels: Tensor, y: Tensor) -> Tensor:
            difference: Tensor = network(_normalized(channels)) - (y / half).to(torch.float32)
            return difference.square().mean()

        def validate() -> float:
            with torch.no_grad():
                return float(error(held.channels, held.y))

        def loss(rows: Tensor) -> Tensor:
            return error(training.channels[rows], training.y[rows])

        groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "lr": learning_rate}]
        limit = _DEFAULT_TIME if time_limit is None else float(time_limit)
        schedule = Schedule(epochs, batch_size, patience, limit, seed)
        train(Task(network, groups, len(training.y), loss, validate), schedule, progress=progress, label="regressor")
        self._network, self._region, self._shape = network.cpu(), region, tuple(training.channels.shape[1:])
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of the weights; 0 before ``fit``."""
        parameters = [] if self._network is None else list(self._network.parameters())
        return sum(weight.numel() * weight.element_size() for weight in parameters)

    def locate(self, channels: ArrayLike, batch: int = 256) -> NDArray[np.float64]:
        """Positions ``[n, 3]`` (meters) of ``channels [n, n_antennas, n_subcarriers]``; NaN where those are NaN."""
        if self._network is None:
            raise DataError("PositionRegressor: fit it before locate")
        h = np.asarray(channels, dtype=np.complex64)
        if h.ndim != 3 or h.shape[1:] != self._shape:
            raise ShapeError(f"channels: expected shape (n, {self._shape[0]}, {self._shape[1]}), got {h.shape}")
        with torch.no_grad():
            parts = [self._network(_normalized(part)) for part in torch.split(torch.tensor(h), batch)]
        scaled = torch.cat(parts).numpy().astype(np.float64) if len(h) else np.zeros((0, self._region.dimension))
        return self._region.positions(scaled * self._region.half_extent + self._region.middle)


def _normalized(channels: Tensor) -> Tensor:
    flat = torch.view_as_real(channels).flatten(1)
    scaled: Tensor = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-30) * flat.shape[1] ** 0.5
    return scaled
