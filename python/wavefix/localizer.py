# SPDX-License-Identifier: Apache-2.0
"""From channels to position fixes."""

from __future__ import annotations

import copyreg
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix._core import DataError, LocalizerOptions, RefineOptions, Status
from wavefix.archives import read_npz
from wavefix.arrays import as_array, as_output
from wavefix.channel_model import ChannelModel
from wavefix.dataset import ChannelDataset, parts
from wavefix.dictionary import Dictionary, Similarity
from wavefix.files import Path_, written_whole

_PAPER = ("on_grid_naive", "on_grid_pi_ps", "off_grid_naive", "off_grid_pi_ps")
STRATEGIES = ("float_fix", *(f"{base}{suffix}" for base in _PAPER for suffix in ("", "_circles")))
SYNCHRONIZATIONS = ("full",)


@dataclass(frozen=True, eq=False)
class Fixes:
    """Position fixes, a row a query.

    Attributes:
        position: ``[n, 3]`` float64, meters; NaN where ``status`` is ``INVALID_INPUT``.
        covariance: ``[n, 3, 3]`` float64, square meters: docs/equations.md (21), of the noise that the residual
            suggests and of the model's own error; NaN where it is not known. It is that of the minimum that the
            fix is in: whether this is the right one, ``status`` and ``ambiguity`` tell.
        status: ``[n]`` uint8, values of ``wavefix.Status``.
        residual: ``[n]`` float64, the share of the channel's energy that the model does not explain at the fix.
        ambiguity: ``[n]`` float64, docs/equations.md (12): 0 for a unique fix, 1 where the runner-up fits as well;
            NaN where the strategy looks for none.
        float_position: ``[n, 3]`` float64, meters: the position that ``float_fix`` finds with free path gains, before
            it resolves the carrier phase; NaN for other strategies.
    """

    position: NDArray[np.float64]
    covariance: NDArray[np.float64]
    status: NDArray[np.uint8]
    residual: NDArray[np.float64]
    ambiguity: NDArray[np.float64]
    float_position: NDArray[np.float64] = None  # type: ignore[assignment]  # NaN where it is left out

    def __post_init__(self) -> None:
        if self.float_position is None:
            object.__setattr__(self, "float_position", np.full((len(as_array("position", self.position)), 3), np.nan))

    def __len__(self) -> int:
        return len(self.position)

    def save(self, path: Path_) -> None:
        """Write an ``.npz`` file with the arrays above."""
        with written_whole(path) as stream:
            np.savez(stream, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path_) -> Fixes:
        """Read what ``save`` writes.

        Raises:
            DataError: not such a file.
        """
        names = tuple(field.name for field in fields(cls))
        arrays = read_npz(path, names[:-1], names[-1:])  # version 0.1 wrote no float positions
        n = arrays["position"].shape[:1]
        for name, extents in (("position", (3,)), ("covariance", (3, 3)), ("status", ())):
            _require_fix_array(path, name, arrays[name], (*n, *extents))
        for name in ("residual", "ambiguity"):
            _require_fix_array(path, name, arrays[name], n)
        if "float_position" in arrays:
            _require_fix_array(path, "float_position", arrays["float_position"], (*n, 3))
        if not np.isin(arrays["status"], list(Status)).all():
            raise DataError(f"{path}: status: a value that is none of wavefix.Status")
        return cls(**arrays)


def _require_fix_array(path: Path_, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    dtype = np.dtype(np.uint8 if name == "status" else np.float64)
    if array.shape != shape or array.dtype != dtype:
        raise DataError(f"{path}: {name}: expected {dtype} of shape {shape}, got {array.dtype} of {array.shape}")


class Localizer:
    """Locates users from one channel snapshot each. Plan once, locate often; safe to share between threads.

    It never changes, so copies are references. Pickles hold the model and the options, and plan again.

    Args:
        model: the channel model.
        strategy: one of ``wavefix.STRATEGIES``. ``float_fix``: a position with free path gains first, then the
            carrier-phase minimum among all that are near it (docs/equations.md, (13) to (16)). The others are the
            variants of arXiv 2506.06387, section IV. ``on_grid``: the best grid point, ``off_grid``: refined by
            Gauss-Newton from it. ``naive``: phase-sensitive similarity (4) on the global grid; ``pi_ps``:
            phase-insensitive (5) on the global grid, then phase-sensitive on a local one. ``_circles``: look for a
            better minimum on circles of whole wavelengths around the result.
        synchronization: ``"full"``: the channels' carrier phase and delay are those of the training channels.
        **options: fields of ``wavefix.LocalizerOptions`` and ``wavefix.RefineOptions``; none needs tuning for a scene.

    Raises:
        ShapeError: an option is outside its range, or the strategy is unknown.
        ValueError: unknown ``synchronization``.
        TypeError: unknown option.
    """

    def __init__(
        self,
        model: ChannelModel,
        strategy: str = "float_fix",
        synchronization: str = "full",
        **options: Any,
    ) -> None:
        if synchronization not in SYNCHRONIZATIONS:
            raise ValueError(f"synchronization: expected one of {', '.join(SYNCHRONIZATIONS)}, got {synchronization}")
        self.model = model
        self._settings = {"strategy": strategy, **options}
        self._core = _core.Localizer(model._core, _localizer_options(self._settings))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        return f"Localizer({self.model!r}, {settings})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.model, self._settings)

    def __copy__(self) -> Localizer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Localizer:
        return self

    @property
    def options(self) -> LocalizerOptions:
        """The options in force."""
        return self._core.options

    def nbytes(self, n_queries: int = 1) -> int:
        """Bytes of the model, the plan and the tiles that a call with ``n_queries`` queries generates."""
        return self._core.nbytes(n_queries)

    def locate(self, channels: NDArray[np.complex64], out: Fixes | None = None, threads: int = 0) -> Fixes:
        """Positions of ``channels`` ``[n, n_antennas, n_subcarriers]`` complex64, C-contiguous.

        A query with NaN, Inf or no energy gets status ``INVALID_INPUT`` and position NaN; the others keep theirs.
        Results do not depend on the batch or on ``threads`` (0: all cores). ``out`` is filled where given.

        Raises:
            ShapeError, TypeError: ``channels`` does not fit the model.
            ValueError: an array of ``out`` shares memory with another or with ``channels``.
        """
        antennas, subcarriers = len(self.model.antenna_positions), len(self.model.frequencies)
        target = None
        if out is not None:
            target = Fixes(*(as_output(f"out.{field.name}", getattr(out, field.name)) for field in fields(Fixes)))
        arrays = self._core.locate(antennas, subcarriers, as_array("channels", channels), target, threads)
        return Fixes(*arrays) if out is None else out


class FingerprintLocalizer:
    """The classical baseline: the mean position of the ``k`` most similar measured channels.

    ``residual`` is the share of energy that the nearest fingerprint does not explain; covariance and ambiguity are NaN.

    Raises:
        DataError: ``data`` has no positions.
        ShapeError: ``k`` exceeds the number of locations.
        ValueError: unknown ``similarity``.
    """

    def __init__(self, data: ChannelDataset, k: int = 3, similarity: Similarity = "phase_sensitive") -> None:
        self.dictionary = Dictionary.from_measurements(data, subspace=False)  # few queries: a baseline
        self.k = k
        self.similarity: Similarity = similarity
        self._data = data
        self.dictionary.search(data.channels[:1], similarity, k)  # raises for what does not fit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._data, self.k, self.similarity)

    def nbytes(self, n_queries: int = 1) -> int:
        """Bytes of the fingerprints and of a search's correlations."""
        return self.dictionary.nbytes + self.dictionary._entries.search_bytes(n_queries)

    def locate(self, channels: NDArray[np.complex64], threads: int = 0) -> Fixes:
        """As ``Localizer.locate``."""
        channels = as_array("channels", channels)
        n = len(channels)
        indices, _ = self.dictionary.search(channels, self.similarity, self.k, threads)
        position, residual, valid = np.full((n, 3), np.nan), np.full(n, np.nan), np.zeros(n, np.bool_)
        for part in parts(channels):
            found, energy = indices[part], np.sum(np.abs(channels[part].astype(np.complex128)) ** 2, axis=(1, 2))
            valid[part] = known = (found[:, 0] >= 0) & (energy > 0)
            nearest = self.dictionary.positions(found[known].ravel())
            position[part][known] = nearest.reshape(-1, self.k, 3).mean(axis=1)
            difference = channels[part][known].astype(np.complex128) - self._data.channels[found[known, 0]]
            residual[part][known] = np.sum(np.abs(difference) ** 2, axis=(1, 2)) / energy[known]
        status = np.where(valid, Status.OK, Status.INVALID_INPUT).astype(np.uint8)
        return Fixes(position, np.full((n, 3, 3), np.nan), status, residual, np.full(n, np.nan))


def _localizer_options(settings: dict[str, Any]) -> LocalizerOptions:
    options, refinement = LocalizerOptions(), RefineOptions()
    for name, value in settings.items():
        target = next((struct for struct in (options, refinement) if hasattr(struct, name)), None)
        if target is None or name == "refine":
            known = [
                n for struct in (options, refinement) for n in dir(struct) if not n.startswith("_") and n != "refine"
            ]
            raise TypeError(f"{name}: unknown option; known ones: {', '.join(known)}")
        try:
            setattr(target, name, value)
        except TypeError as error:
            raise TypeError(f"{name}: expected {type(getattr(target, name)).__name__}, got {value!r}") from error
    options.refine = refinement
    return options


def _reduced_options(options: Any) -> tuple[Any, ...]:
    return _restored_options, (
        type(options),
        {name: getattr(options, name) for name in dir(options) if not name.startswith("_")},
    )


def _restored_options(kind: Any, values: dict[str, Any]) -> Any:
    options = kind()
    for name, value in values.items():
        setattr(options, name, value)
    return options


for _kind in (LocalizerOptions, RefineOptions):
    copyreg.pickle(_kind, _reduced_options)


def _rebuild(model: ChannelModel, settings: dict[str, Any]) -> Localizer:
    return Localizer(model, **settings)
