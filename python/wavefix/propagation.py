# SPDX-License-Identifier: Apache-2.0
"""Scenes of flat walls and their channels by the image method (docs/equations.md (1), (8), (9))."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefix._core import DataError, PropagationScene, ShapeError
from wavefix.arrays import as_array
from wavefix.constants import SPEED_OF_LIGHT
from wavefix.dataset import ChannelDataset
from wavefix.files import Path_, read_up_to, written_whole
from wavefix.records import Point, known, mapping, number, point_tuples, points, record_of, require_count

MOST_SCENE_BYTES = 1 << 26


@dataclass(frozen=True)
class Material:
    """What walls are made of. ``thickness`` None: opaque; a length in meters: a slab that lets some power through."""

    relative_permittivity: float
    conductivity: float = 0.0
    thickness: float | None = None


@dataclass(frozen=True)
class Wall:
    """A flat convex polygon: ``corners`` in meters, in order around it; ``material`` is a name in the scene."""

    corners: tuple[Point, ...]
    material: str
    name: str = ""


@dataclass(frozen=True)
class LinearArray:
    """``antennas`` elements along ``axis`` around ``center``, ``spacing`` wavelengths of the carrier apart."""

    antennas: int
    center: Point
    axis: Point
    spacing: float = 0.5


@dataclass(frozen=True)
class FreeArray:
    """Antennas at any ``positions``, meters."""

    positions: tuple[Point, ...]


@dataclass(frozen=True)
class UserRegion:
    """A box with axes along x, y, z in meters; a size of 0 makes it a rectangle, a line or a point."""

    center: Point
    size: Point


@dataclass(frozen=True)
class PropagationPath:
    """One sequence of walls between the array and a position.

    Attributes:
        walls: indices into ``Scene.walls``, from the array to the user; empty for the direct path.
        sources: ``[n_antennas, 3]`` virtual sources ``s_lj`` (9), meters.
        gains: ``[n_antennas]`` complex ``gamma_lj`` of (1), meters; 0 where the antenna's path is blocked.
    """

    walls: tuple[int, ...]
    sources: NDArray[np.float64]
    gains: NDArray[np.complex128]

    @property
    def order(self) -> int:
        """Number of bounces."""
        return len(self.walls)


@dataclass(frozen=True)
class Scene:
    """Walls, a base station of vertical short dipoles, its band, and the region where the users are.

    ``Scene.named`` has the scenes that ship with wavefix, ``Scene.load`` reads the JSON of ``save``.

    Attributes:
        array: ``LinearArray`` or ``FreeArray``.
        region: where ``simulate`` puts users.
        walls, materials: what reflects and blocks; the ground is a wall too.
        carrier, bandwidth: hertz; the subcarriers are ``bandwidth / subcarriers`` apart, centered on the carrier.
        max_bounces: reflections of a path at most, 0 to 8.

    Raises:
        DataError: a value cannot be used; the message names it.
    """

    array: LinearArray | FreeArray
    region: UserRegion
    walls: tuple[Wall, ...] = ()
    materials: Mapping[str, Material] = field(default_factory=dict)
    carrier: float = 3.5e9
    bandwidth: float = 50e6
    subcarriers: int = 64
    max_bounces: int = 3
    name: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        require_count("subcarriers", self.subcarriers)
        require_count("max_bounces", self.max_bounces)
        if not self.carrier > 0:
            raise DataError(f"carrier: expected hertz, positive, got {self.carrier}")
        points("region", (self.region.center, self.region.size))
        if min(self.region.size) < 0:
            raise DataError(f"region.size: expected lengths in meters, got {self.region.size}")
        for index, wall in enumerate(self.walls):
            if wall.material not in self.materials:
                raise DataError(f"walls[{index}].material: {wall.material!r} is not among the scene's materials")
        self._core()

    @property
    def antenna_positions(self) -> NDArray[np.float64]:
        """``[n_antennas, 3]`` float64, meters."""
        if isinstance(self.array, FreeArray):
            return points("array.positions", self.array.positions)
        require_count("array.antennas", self.array.antennas)
        center, axis = points("array", (self.array.center, self.array.axis))
        length = float(np.linalg.norm(axis))
        if length == 0:
            raise DataError("array.axis: expected a direction, got zero")
        if not self.array.spacing > 0:
            raise DataError(f"array.spacing: expected wavelengths, positive, got {self.array.spacing}")
        steps = np.arange(self.array.antennas) - (self.array.antennas - 1) / 2
        spacing = self.array.spacing * SPEED_OF_LIGHT / self.carrier
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with the scene
            return np.ascontiguousarray(center + np.outer(steps * spacing / length, axis))

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """``[n_subcarriers]`` float64, absolute, hertz."""
        return self._core().frequencies

    def with_(
        self,
        *,
        antennas: int | None = None,
        region_size: float | Sequence[float] | None = None,
        **changes: Any,
    ) -> Scene:
        """A copy with other values: any attribute by its name, and two short forms.

        Args:
            antennas: number of elements of a ``LinearArray``.
            region_size: new ``(x, y)`` or ``(x, y, z)`` extents in meters around the same center; one number is
                the new length of every extent that is not 0.
        """
        unknown = set(changes) - {item.name for item in fields(self)}
        if unknown:
            raise TypeError(f"with_: a Scene has no {', '.join(sorted(unknown))}")
        if antennas is not None:
            if not isinstance(self.array, LinearArray):
                raise DataError("antennas: this scene's array is a list of positions; give array= instead")
            changes["array"] = replace(self.array, antennas=antennas)
        if region_size is not None:
            old = self.region.size
            if isinstance(region_size, (int, float)):
                size = [float(region_size) if extent else 0.0 for extent in old]
            else:
                size = [*region_size, *old[len(region_size) :]]
            changes["region"] = replace(self.region, size=point_tuples("region_size", (size,))[0])
        return replace(self, **changes)

    def sample(self, n: int, seed: int = 0) -> NDArray[np.float64]:
        """``[n, 3]`` positions, uniform in the region."""
        require_count("n", n)
        center, size = points("region", (self.region.center, self.region.size))
        unit = np.random.default_rng(seed).random((n, 3)) - 0.5
        return np.ascontiguousarray(center + unit * size)

    def grid(self, spacing: float) -> NDArray[np.float64]:
        """``[n, 3]`` positions on a grid over the region with at most ``spacing`` meters between neighbors."""
        if not spacing > 0:
            raise DataError(f"spacing: expected meters, positive, got {spacing}")
        axes = [
            np.linspace(middle - extent / 2, middle + extent / 2, int(np.ceil(extent / spacing)) + 1)
            for middle, extent in zip(self.region.center, self.region.size, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    def paths(self, position: ArrayLike) -> list[PropagationPath]:
        """The paths that reach ``position`` from at least one antenna, by number of bounces, then by walls."""
        x, y, z = (float(value) for value in points("position", as_array("position", position)[None])[0])
        return [PropagationPath(tuple(w), s, g) for w, s, g in self._core().trace((x, y, z))]

    def to_dict(self) -> dict[str, Any]:
        """The content of the JSON file."""
        array: dict[str, Any] = {item.name: getattr(self.array, item.name) for item in fields(self.array)}
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {
            "array": array,
            "region": {"center": self.region.center, "size": self.region.size},
            "materials": {
                name: {key: value for key, value in vars(material).items() if value is not None}
                for name, material in self.materials.items()
            },
            "walls": [dict(vars(wall)) for wall in self.walls],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scene:
        """The scene that ``to_dict`` describes; DataError names an unknown, missing or unusable entry."""
        values = dict(known("scene", values, cls))
        array = mapping("array", values["array"])
        kind = FreeArray if "positions" in array else LinearArray
        values["array"] = record_of("array", array, kind)
        values["region"] = record_of("region", values["region"], UserRegion)
        materials = mapping("materials", values.get("materials", {}))
        values["materials"] = {
            name: record_of(f"materials[{name!r}]", material, Material) for name, material in materials.items()
        }
        walls = values.get("walls", [])
        if not isinstance(walls, Sequence) or isinstance(walls, str):
            raise DataError(f"walls: expected a list, got {type(walls).__name__}")
        values["walls"] = tuple(record_of(f"walls[{index}]", wall, Wall) for index, wall in enumerate(walls))
        for key in ("carrier", "bandwidth"):
            if key in values:
                values[key] = number(key, values[key])
        for key in ("name", "description"):
            if not isinstance(values.get(key, ""), str):
                raise DataError(f"{key}: expected text, got {values[key]!r}")
        return cls(**values)

    def save(self, path: Path_) -> None:
        """Write JSON, whole or not at all."""
        with written_whole(path) as stream:
            stream.write((json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path_) -> Scene:
        """Read what ``save`` writes; DataError where it is no scene, OSError where it cannot be read."""
        data = read_up_to(path, MOST_SCENE_BYTES + 1)
        if len(data) > MOST_SCENE_BYTES:
            raise DataError(f"{path}: a scene of more than {MOST_SCENE_BYTES} bytes")
        return _parsed(str(path), data)

    @classmethod
    def named(cls, name: str) -> Scene:
        """One of ``wavefix.scenes()``."""
        if name not in scenes():
            raise DataError(f"scene: expected one of {', '.join(scenes())}, got {name!r}")
        return _parsed(name, (resources.files("wavefix") / "scenes" / f"{name}.json").read_bytes())

    def _core(self) -> PropagationScene:
        materials = [self.materials[wall.material] for wall in self.walls]
        for name, material in self.materials.items():
            if material.thickness is not None and not material.thickness > 0:
                raise DataError(f"materials[{name!r}].thickness: expected meters, positive, got {material.thickness}")
        return PropagationScene(
            corners=[points(f"walls[{index}].corners", wall.corners) for index, wall in enumerate(self.walls)],
            materials=[(m.relative_permittivity, m.conductivity, m.thickness or 0.0) for m in materials],
            antenna_positions=self.antenna_positions,
            carrier=self.carrier,
            bandwidth=self.bandwidth,
            subcarriers=self.subcarriers,
            max_bounces=self.max_bounces,
        )


def scenes() -> tuple[str, ...]:
    """Names of the scenes that ship with wavefix."""
    folder = resources.files("wavefix") / "scenes"
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".json")))


def simulate(
    scene: Scene | str,
    n: int = 2500,
    *,
    positions: ArrayLike | None = None,
    seed: int = 0,
    threads: int = 0,
) -> ChannelDataset:
    """Channels (1) of ``scene`` at ``positions``, or at ``n`` positions uniform in its region.

    Args:
        scene: a ``Scene``, or the name of one that ships with wavefix.
        n: number of positions, where ``positions`` are not given.
        positions: ``[n, 3]`` in meters, in the scene's frame.
        seed: of the random positions.
        threads: 0 for all. Results do not depend on it.

    Returns:
        Dataset with ``line_of_sight``: at least half of the antennas see the position past no wall at all.

    Raises:
        ShapeError: ``positions`` are not ``[n, 3]``.
        DataError: ``positions`` are empty or not finite, or one is at an antenna.
    """
    scene = Scene.named(scene) if isinstance(scene, str) else scene
    x = scene.sample(n, seed) if positions is None else points("positions", positions)
    if len(x) == 0:
        raise DataError("positions: expected at least one")
    core = scene._core()
    channels, line_of_sight = core.simulate(x, threads)
    return ChannelDataset(
        channels=channels,
        antenna_positions=scene.antenna_positions,
        frequencies=core.frequencies,
        positions=x,
        line_of_sight=line_of_sight,
    )


def _parsed(source: str, content: bytes) -> Scene:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON ({error})") from error
    try:
        return Scene.from_dict(values)
    except (DataError, ShapeError, TypeError) as error:
        raise DataError(f"{source}: {error}") from error
