# SPDX-License-Identifier: Apache-2.0
"""Virtual sources while they are learned, and what they are learned from; docs/equations.md (1), (3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from wavefix import _core
from wavefix.constants import SPEED_OF_LIGHT
from wavefix.region import Region
from wavefix.spherical import SphericalParameters

Floats = NDArray[np.float64]
Channels = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Measured:
    """Channels at known places; positions about the region's origin, offsets of the antennas about their mean.

    ``factors [n, A]``: what each location's channels were multiplied by at each antenna, and what a model is to be
    multiplied by there.
    ``panel [A]``: to which panel each antenna belongs, where the array consists of some.
    """

    positions: Floats
    channels: Channels
    offsets: Floats
    frequencies: Floats
    middle: Floats
    factors: Floats | None = None
    panel: NDArray[np.intp] | None = None

    @property
    def reference(self) -> float:
        return float(self.frequencies.min() + self.frequencies.max()) / 2

    @property
    def wavenumber(self) -> float:
        return 2 * np.pi * self.reference / SPEED_OF_LIGHT

    @property
    def wavenumbers(self) -> Floats:
        """``[K]``: of the subcarriers."""
        out: Floats = 2 * np.pi / SPEED_OF_LIGHT * self.frequencies
        return out

    @property
    def wavelength(self) -> float:
        return 2 * np.pi / self.wavenumber

    @property
    def panels(self) -> int:
        """Their number; 0 where the array is none of panels."""
        return 0 if self.panel is None else 1 + int(self.panel.max())

    @property
    def geometry(self) -> tuple[Floats, Floats, Floats]:
        return self.positions, self.offsets, self.frequencies

    @property
    def energy(self) -> float:
        return energy(self.channels)

    def part(self, rows: NDArray[np.intp] | slice, antennas: NDArray[np.intp] | slice = slice(None)) -> Measured:
        """Some locations as some antennas see them."""
        channels = np.ascontiguousarray(self.channels[rows][:, antennas])
        offsets = np.ascontiguousarray(self.offsets[antennas])
        positions = np.ascontiguousarray(self.positions[rows])
        factors = None if self.factors is None else np.ascontiguousarray(self.factors[rows][:, antennas])
        panel = None if self.panel is None else self.panel[antennas]
        return replace(self, positions=positions, channels=channels, offsets=offsets, factors=factors, panel=panel)

    def at_tones(self, count: int) -> Measured:
        """At so many of the frequencies or up to twice as many, evenly."""
        every = max(1, len(self.frequencies) // count)
        tones = slice(every // 2, None, every)
        channels = np.ascontiguousarray(self.channels[:, :, tones])
        return replace(self, channels=channels, frequencies=np.ascontiguousarray(self.frequencies[tones]))

    def weighted(self, factors: Floats) -> Measured:
        """With each location multiplied by its factor, ``factors [n]``, or each antenna there, ``[n, A]``."""
        each = np.empty(self.channels.shape[:2])
        each[...] = factors.reshape(len(factors), -1)
        both = each if self.factors is None else self.factors * each
        return replace(self, channels=self.channels * each.astype(np.float32)[..., None], factors=both)

    def with_channels(self, channels: Channels) -> Measured:
        return replace(self, channels=channels)

    def places(self) -> Measured:
        """The same locations, antennas and frequencies without the channels."""
        return self.with_channels(self.channels[:, :, :0])

    def at_middle_antenna(self) -> Measured:
        return self.part(slice(None), np.array([len(self.offsets) // 2]))


def some_of(rows: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most ``count`` of ``rows``, in their order."""
    return rows if len(rows) <= count else np.sort(rng.choice(rows, count, replace=False))


def sample(measured: Measured, count: int, rng: np.random.Generator) -> Measured:
    """At most ``count`` of the locations."""
    rows = np.arange(len(measured.positions))
    return measured if len(rows) <= count else measured.part(some_of(rows, count, rng))


def energy(channels: Channels) -> float:
    """Sum of squares."""
    flat = channels.reshape(-1)
    return float(sum(np.vdot(part, part).real for part in np.array_split(flat, max(1, flat.size >> 20))))


def energies(channels: Channels) -> Floats:
    """``[n]``: the energy of each location."""
    return np.asarray([np.vdot(one, one).real for one in channels.reshape(len(channels), -1)])


def sample_energies(channels: Channels) -> NDArray[np.float32]:
    """``[n, A]``: the energy of each location at each antenna."""
    out: NDArray[np.float32] = np.einsum("njk,njk->nj", channels, channels.conj()).real
    return out


def exponents(degree: int) -> list[tuple[int, int]]:
    return [(total - b, b) for total in range(degree + 1) for b in range(total + 1)]


@dataclass(frozen=True, eq=False)
class Gate:
    """A tree of half-spaces: ``lines [T, 6]``, and of each lit leaf the lines on the way to it, counted from 1,
    negative where it lies below. One leaf without lines: visible everywhere."""

    lines: Floats = field(default_factory=lambda: np.zeros((0, 6)))
    leaves: tuple[tuple[int, ...], ...] = ((),)

    @property
    def trivial(self) -> bool:
        return self.leaves == ((),)

    @property
    def dark(self) -> bool:
        return not self.leaves

    def with_side(self, side: int) -> Gate:
        """With everything on one side of the line of that number, signed as in leaves."""
        kept = (leaf for leaf in self.leaves if -side not in leaf)
        return replace(self, leaves=tuple(tuple(line for line in leaf if line != side) for leaf in kept))

    @property
    def numbers(self) -> int:
        """That its edges have: an upright one two and its steepness, a level one one more, any other two."""
        upright, level = ~self.lines[:, 2:5].any(axis=1), self.lines[:, 5] == 0
        return int(np.sum(np.where(upright, 3, np.where(level, 4, 5))))


@dataclass(frozen=True, eq=False)
class Source:
    """One virtual source: gain ``W`` a polynomial of degree ``degree`` in ``variables @ [u, 1]``, times a gate."""

    position: Floats
    rotation: Floats
    variables: Floats
    coefficients: NDArray[np.complex128]
    degree: int = 0
    gate: Gate = field(default_factory=Gate)

    def arms(self, offsets: Floats) -> Floats:
        return self.position + offsets @ self.rotation.T

    def rays(self, measured: Measured) -> tuple[Floats, Floats]:
        """``(distance [n, A], direction [n, A, 3])`` from source to user."""
        difference = measured.positions[:, None] - self.arms(measured.offsets)
        distance = np.sqrt(np.einsum("njc,njc->nj", difference, difference))
        return distance, difference / distance[..., None]

    def monomials(self, direction: Floats) -> Floats:
        """``[..., M]``."""
        v = direction @ self.variables[:, :3].T + self.variables[:, 3]
        powers = [np.ones_like(v)]
        for _ in range(self.degree):
            powers.append(powers[-1] * v)
        return np.stack([powers[a][..., 0] * powers[b][..., 1] for a, b in exponents(self.degree)], axis=-1)

    def gate_values(self, measured: Measured) -> Floats:
        """``[n, A]``."""
        if self.gate.trivial or self.gate.dark:
            return np.full((len(measured.positions), len(measured.offsets)), float(self.gate.trivial))
        plain = replace(self, variables=np.zeros((2, 4)), coefficients=np.ones(1, complex), degree=0)
        return np.asarray(terms([plain], replace(measured, factors=None))[0][:, :, 0, 0] * self.rays(measured)[0])

    def seen_from(self, middle: Measured) -> NDArray[np.bool_]:
        """``[n]``: whether the one antenna of ``middle`` sees the source from each location."""
        out: NDArray[np.bool_] = self.gate_values(middle)[:, 0] > 0.5
        return out

    def amplitudes(self, measured: Measured, gated: bool = True) -> Channels:
        """``[n, A]``: gate times gain over distance."""
        one = self if gated else replace(self, gate=Gate())
        return np.ascontiguousarray(terms([one], measured, basis=False)[1][:, :, 0])

    def strength(self, measured: Measured) -> float:
        """The energy of its amplitudes."""
        return float(np.sum(np.abs(self.amplitudes(measured)) ** 2))

    def with_degree(self, degree: int, measured: Measured) -> Source:
        """The same gain in ``measured``'s directions, written with fresh variables."""
        _, direction = self.rays(measured.at_middle_antenna())
        fresh = replace(self, variables=gain_variables(direction[:, 0]), degree=degree)
        design = fresh.monomials(direction[:, 0])
        values = self.monomials(direction[:, 0]) @ self.coefficients
        ridge = 1e-9 * len(design) * np.eye(design.shape[1])
        coefficients = np.linalg.solve(design.T @ design + ridge, design.T @ values)
        return replace(fresh, coefficients=coefficients.astype(np.complex128))

    def directions(self, measured: Measured) -> tuple[float, int]:
        """Over the locations that the source is seen from: the standard deviation of its rays' direction, in radians,
        and their number."""
        middle = measured.at_middle_antenna()
        seen = self.seen_from(middle)
        count = int(np.count_nonzero(seen))
        if count < 2:
            return 0.0, count
        direction = self.rays(middle)[1][seen, 0]
        return float(np.sqrt(max(0.0, np.max(np.linalg.eigvalsh(np.cov(direction.T)))))), count


def gain_variables(directions: Floats) -> Floats:
    """``[2, 4]``: the two directions in which ``directions [n, 3]`` vary most, about the mean, of unit deviation."""
    mean = directions.mean(axis=0)
    _, singular, rows = np.linalg.svd(directions - mean, full_matrices=False)
    spread = singular[:2] / np.sqrt(len(directions))
    rows = rows[:2] / np.maximum(spread, 1e-3 * max(spread[0], 1e-6))[:, None]
    return np.column_stack([rows, -rows @ mean])


def stacked(sources: Sequence[Source]) -> tuple[Floats, Floats]:
    """``(positions [L, 3], rotations [L, 3, 3])``."""
    return (
        np.array([source.position for source in sources]).reshape(-1, 3),
        np.array([source.rotation for source in sources]).reshape(-1, 3, 3),
    )


def gate_arrays(sources: Sequence[Source]) -> tuple[Floats, NDArray[np.int32], NDArray[np.int32]]:
    """As in a model file: lines ``[E, 6]``, the cell of each, the source of each cell."""
    lines: list[Floats] = []
    line_cell: list[int] = []
    cell_source: list[int] = []
    for number, source in enumerate(sources):
        if source.gate.trivial:
            continue
        for leaf in source.gate.leaves:
            for line in leaf:
                lines.append(np.sign(line) * source.gate.lines[abs(line) - 1])
                line_cell.append(len(cell_source))
            cell_source.append(number)
    return np.array(lines).reshape(-1, 6), np.array(line_cell, np.int32), np.array(cell_source, np.int32)


def coefficient_rows(sources: Sequence[Source]) -> NDArray[np.complex128]:
    """``[L, M]``: the gains of sources whose degrees may differ."""
    rows = np.zeros((len(sources), max(len(source.coefficients) for source in sources)), np.complex128)
    for own, source in zip(rows, sources, strict=True):
        if not source.gate.dark:  # which ``gate_arrays`` cannot tell from one that is visible everywhere
            own[: len(source.coefficients)] = source.coefficients
    return rows


def parameters_of(
    sources: Sequence[Source],
    antenna_positions: Floats,
    frequencies: Floats,
    region: Region,
    validation_nmse: float = 1.0,
    scale: float = 1.0,
    metadata: dict[str, str] | None = None,
) -> SphericalParameters:
    """As a model file holds them, positions from the region's origin on: gates as cells, amplitudes times ``scale``."""
    coefficients = coefficient_rows(sources) * scale
    lines, line_cell, cell_source = gate_arrays(sources)
    return SphericalParameters(
        antenna_positions=antenna_positions,
        frequencies=frequencies,
        region=region,
        source_positions=np.array([source.position + region.origin for source in sources]),
        source_rotations=np.array([source.rotation for source in sources]),
        gain_variables=np.array([source.variables for source in sources]),
        gain_coefficients=np.stack([coefficients.real, coefficients.imag], axis=-1).astype(np.float32),
        validation_nmse=validation_nmse,
        gate_lines=lines,
        gate_line_cell=line_cell,
        gate_cell_source=cell_source,
        metadata=metadata or {},
    )


def terms(sources: Sequence[Source], measured: Measured, basis: bool = True) -> tuple[NDArray[np.float32], Channels]:
    """Gate times monomial over distance, ``[n, A, L, M]``, and amplitudes, ``[n, A, L]``, both times the factors."""
    coefficients = coefficient_rows(sources)
    variables = np.array([source.variables for source in sources])
    lines, line_cell, cell_source = gate_arrays(sources)
    out: tuple[NDArray[np.float32], Channels] = _core.source_terms(
        *measured.geometry, *stacked(sources), variables, coefficients, lines, line_cell, cell_source, basis=basis
    )
    if measured.factors is not None:
        factors = measured.factors.astype(np.float32)[..., None]
        if basis:
            out[0][...] *= factors[..., None]
        out[1][...] *= factors
    return out


def add(sources: Sequence[Source], measured: Measured, factor: float = 1.0, rows: int = 512) -> None:
    """Add ``factor`` times what the sources send to ``measured.channels``, in place."""
    if not sources:
        return
    for first in range(0, len(measured.positions), rows):
        chosen = slice(first, first + rows)
        part = replace(
            measured,
            positions=measured.positions[chosen],
            channels=measured.channels[chosen],
            factors=None if measured.factors is None else measured.factors[chosen],
        )
        values = terms(sources, part, basis=False)[1] * np.complex64(factor)
        _core.source_accumulate(*part.geometry, *stacked(sources), values, part.channels)


def residual(sources: Sequence[Source], measured: Measured) -> Measured:
    """What the sources leave of the channels."""
    return _plus(sources, measured, -1.0)


def whole_of(sources: Sequence[Source], left: Measured) -> Measured:
    """What is left and what the sources send: what they, or others in their place, are to explain."""
    return _plus(sources, left, 1.0)


def _plus(sources: Sequence[Source], measured: Measured, factor: float) -> Measured:
    out = measured.with_channels(measured.channels.copy())
    add(sources, out, factor)
    return out


def project(source: Source, measured: Measured) -> NDArray[np.complex64]:
    """``[n, A]``: the sum over subcarriers of the channel turned back by the source's delay."""
    out: NDArray[np.complex64] = _core.source_project(*measured.geometry, *stacked([source]), measured.channels)[0]
    return out
