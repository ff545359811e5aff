# SPDX-License-Identifier: Apache-2.0
"""Groups of like sources explained anew by paths, each in one piece or in two that a wall's edge parts; (19)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wavefix.training.spherical.search import at_one_place
from wavefix.training.spherical.sides import sharpened
from wavefix.training.spherical.state import Gate, Measured, Source, residual, whole_of
from wavefix.training.spherical.twins import refined_where_seen

_MOST = 3  # paths of a group
_ROWS = 480  # locations of its refinement
_TURNS = 3  # of its paths, each found again beside the others
_HOPELESS = 1.5  # times the energy before, with which no more steps are worth their time
_NOISE = 0.1  # of what is left, below which it may as well be the leakage of delays
_FALLING = 0.98  # of the energy before, with which another turn is worth its time


def one_of_each_place(group: Sequence[Source], measured: Measured) -> list[Source]:
    """The first of the sources at each place."""
    out: list[Source] = []
    for source in group:
        if not any(at_one_place(first, source, measured) for first in out):
            out.append(source)
    return out


def noise_of(left: Measured) -> float:
    """The energy of noise in what is left: at every delay as much as at the one that has least."""
    tones = len(left.frequencies)
    window = np.hanning(tones + 2)[1:-1].astype(np.float32)
    spectrum = np.fft.fft(left.channels * (window / np.sqrt(np.mean(window**2))), axis=2)
    noise = float(np.min(np.einsum("njk,njk->k", spectrum, spectrum.conj()).real))
    return noise if noise > _NOISE * left.energy else 0.0


@dataclass(frozen=True, eq=False)
class Explained:
    """Paths, each by its pieces, and what they leave."""

    paths: list[list[Source]]
    left: Measured

    @property
    def sources(self) -> list[Source]:
        return [source for path in self.paths for source in path]

    def instead(self, number: int, path: list[Source]) -> list[list[Source]]:
        """With another path for the one of that number; at the end where there is none."""
        return [*self.paths[:number], path, *self.paths[number + 1 :]]

    def weighed(self, share: float, noise: float) -> float:
        return max(self.left.energy - noise, 0.0) * float((1 + share) ** len(self.sources))


def as_paths(
    group: Sequence[Source],
    left: Measured,
    noise: float,
    pieces: Callable[[Source, Sequence[Gate], Measured, np.random.Generator], list[Source]],
    share: float,
    least_gain: float,
    rng: np.random.Generator,
) -> list[Source]:
    """Sources that explain what those of ``group`` and ``left`` are together: for each place of the group one, or the
    ``pieces`` of one, as far as each leaves ``share`` less. Found one path after the other, and each again beside the
    others: what the gates and places of too many sources make up for hides the edges of walls. The group itself where
    no path leaves so much less. ``noise``: what no source explains, of which no share counts."""
    whole = whole_of(group, left)
    found = Explained([], whole)

    def explain(number: int, source: Source, alone: Sequence[list[Source]] = ()) -> None:
        """The path of that number by ``source`` anew, in pieces or alone, where that leaves less."""
        nonlocal found
        others = found.instead(number, [])
        rest = residual([one for path in others for one in path], whole)
        known = [path[0].gate for path in others if path and not path[0].gate.trivial]
        for path in (pieces(source, known, rest, rng), *alone):
            new = refined_paths(found.instead(number, path), whole, found.left.energy, least_gain, rng)
            if new.weighed(share, noise) < found.weighed(share, noise):
                found = new

    for source in one_of_each_place(group, whole)[:_MOST]:
        blocked = not (source.gate.trivial or source.gate.dark)
        explain(len(found.paths), source, [[source]] * blocked)
    for _ in range(_TURNS if len(found.paths) > 1 else 0):
        before = found.left.energy
        for number, path in enumerate(found.paths):
            explain(number, path[0])
        if found.left.energy > _FALLING * before:
            break
    return found.sources or list(group)


def by_path(sources: Sequence[Source], like: list[list[Source]]) -> list[list[Source]]:
    """The sources, as many for each path as ``like`` has."""
    each = iter(sources)
    return [[next(each) for _ in path] for path in like]


def refined_paths(
    paths: list[list[Source]], whole: Measured, wanted: float, least_gain: float, rng: np.random.Generator
) -> Explained:
    """All at once, then the edges of those in two pieces, and all again where ``wanted`` is near."""
    found = _all_refined(paths, whole, rng)
    paths, left = found.paths, found.left
    for number, path in enumerate(paths):
        if len(path) == 2:
            own = whole_of(path, left)
            pair = sharpened(path, own, least_gain)
            after = residual(pair, own)
            if after.energy < left.energy:
                paths[number], left = pair, after
    if left is found.left or left.energy > _HOPELESS * wanted:
        return Explained(paths, left)
    again = _all_refined(paths, whole, rng)
    return again if again.left.energy < left.energy else Explained(paths, left)


def _all_refined(paths: list[list[Source]], whole: Measured, rng: np.random.Generator) -> Explained:
    flat = refined_where_seen([source for path in paths for source in path], whole, rng, _ROWS)
    return Explained(by_path(flat, paths), residual(flat, whole))
