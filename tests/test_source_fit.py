# SPDX-License-Identifier: Apache-2.0
"""The sums of fitting virtual sources against NumPy written from docs/equations.md (1) and (18)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wavefix import _core

LIGHT = 299792458.0
TURN = 2 * np.pi / LIGHT


class Case:
    """Three sources, one of them dark at half of the locations, about an array of four antennas."""

    def __init__(self, equal: bool = True, terms: int = 3) -> None:
        rng = np.random.default_rng(3)
        self.positions = rng.uniform((-1, -1, 0), (1, 1, 2), (7, 3))
        self.offsets = rng.uniform(-0.3, 0.3, (4, 3))
        steps = np.arange(11.0) if equal else np.sort(rng.uniform(0, 11, 11))
        self.frequencies = 3.5e9 + 4e6 * steps
        self.sources = np.array([[20.0, 3, 5], [-15, 8, 2], [4, -60, 30]])
        self.rotations = np.linalg.qr(rng.normal(size=(3, 3, 3)))[0]
        self.basis = (rng.uniform(0.2, 1, (7, 4, 3, terms)) / 20).astype(np.float32)
        self.basis[::2, :, 1] = 0
        self.coefficients = rng.normal(size=(3, terms)) + 1j * rng.normal(size=(3, terms))
        self.middle = np.array([0.1, -0.2, 1.0])
        self.reference = 3.52e9

    def geometry(self) -> tuple[NDArray[np.float64], ...]:
        return self.positions, self.offsets, self.frequencies, self.sources, self.rotations

    def amplitudes(self) -> NDArray[np.complex64]:
        return np.einsum("njlm,lm->njl", self.basis, self.coefficients).astype(np.complex64)

    def distances(self, sources: Any = None, rotations: Any = None) -> NDArray[np.float64]:
        """``[n, A, L]``."""
        sources = self.sources if sources is None else sources
        rotations = self.rotations if rotations is None else rotations
        at = sources[None] + np.einsum("lab,jb->jla", rotations, self.offsets)
        return np.linalg.norm(self.positions[:, None, None] - at[None], axis=-1)

    def waves(self, distances: NDArray[np.float64]) -> NDArray[np.complex128]:
        """``[n, A, L, K]``."""
        return np.exp(-1j * TURN * self.frequencies * distances[..., None])

    def channels(self, sources: Any = None, rotations: Any = None, turn_back: bool = True) -> NDArray[np.complex128]:
        """With the sources moved as the normal equations move them: the phase at the middle stays."""
        sources = self.sources if sources is None else sources
        moved = np.linalg.norm(self.middle - sources, axis=1) - np.linalg.norm(self.middle - self.sources, axis=1)
        back = np.exp(1j * TURN * self.reference * moved)
        amplitudes = np.einsum("njlm,lm->njl", self.basis, self.coefficients * back[:, None])
        return np.einsum("njl,njlk->njk", amplitudes, self.waves(self.distances(sources, rotations)))


@pytest.mark.parametrize("equal", [True, False])
def test_accumulate_and_project_are_the_sums(equal: bool) -> None:
    case = Case(equal)
    channels = np.zeros((7, 4, 11), np.complex64)
    _core.source_accumulate(*case.geometry(), case.amplitudes(), channels)
    exact = case.channels()
    assert np.abs(channels - exact).max() < 3e-7 * np.abs(exact).max()
    projected = _core.source_project(*case.geometry(), channels)
    wanted = np.einsum("njlk,njk->lnj", case.waves(case.distances()).conj(), channels)
    assert np.abs(projected - wanted).max() < 3e-6 * np.abs(wanted).max()


def test_scores_are_the_matched_filter() -> None:
    case = Case()
    values = np.exp(2j * np.arange(7)).astype(np.complex64)
    scores = _core.source_scores(case.positions, values, case.sources, 3.5e9)
    d = np.linalg.norm(case.positions[:, None] - case.sources[None], axis=-1)
    np.testing.assert_allclose(scores, np.abs(values @ np.exp(1j * TURN * 3.5e9 * d)) ** 2, rtol=1e-5)


def rotated(rotation: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """To first order, which is all that a central difference sees."""
    x, y, z = vector
    return (np.eye(3) + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])) @ rotation


def columns(case: Case) -> NDArray[np.complex128]:
    """dH / d unknown ``[P, n, A, K]``: coefficients exactly, motions by central differences."""
    out = []
    waves = case.waves(case.distances())
    for source in range(3):
        linear = np.moveaxis(case.basis[:, :, source], -1, 0)[..., None] * waves[None, :, :, source]
        out += [*linear, *(1j * linear)]
        for motion in range(6):
            step, sides = 1e-5, []
            for sign in (1, -1):
                sources, rotations = case.sources.copy(), case.rotations.copy()
                if motion < 3:
                    sources[source, motion] += sign * step
                else:
                    rotations[source] = rotated(rotations[source], sign * step * np.eye(3)[motion - 3])
                sides.append(case.channels(sources, rotations))
            out.append((sides[0] - sides[1]) / (2 * step))
    return np.array(out)


@pytest.mark.parametrize("terms", [1, 3])
@pytest.mark.parametrize("equal", [True, False])
def test_normal_equations_are_those_of_the_finite_differences(terms: int, equal: bool) -> None:
    case = Case(equal, terms)
    rng = np.random.default_rng(4)
    residual = (rng.normal(size=(7, 4, 11)) + 1j * rng.normal(size=(7, 4, 11))).astype(np.complex64)
    arguments = (*case.geometry(), case.basis, case.amplitudes(), residual, case.middle, case.reference)
    matrix, gradient = _core.source_normal_equations(*arguments)
    design = columns(case).reshape(len(gradient), -1)
    wanted = (design.conj() @ design.T).real
    size = np.sqrt(np.diag(wanted))
    lower = np.tril(matrix / np.outer(size, size))
    assert np.abs(lower - np.tril(wanted / np.outer(size, size))).max() < 3e-5
    steps = (design.conj() @ residual.reshape(-1)).real / size
    assert np.abs(gradient / size - steps).max() < 3e-5 * np.linalg.norm(residual)
    again, _ = _core.source_normal_equations(*arguments, threads=2)
    np.testing.assert_array_equal(matrix, again)


def test_shapes_are_checked() -> None:
    case = Case()
    with pytest.raises(_core.ShapeError, match="amplitudes"):
        _core.source_accumulate(
            *case.geometry(), case.amplitudes()[:, :, :2].copy(), np.zeros((7, 4, 11), np.complex64)
        )
