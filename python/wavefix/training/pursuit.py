# SPDX-License-Identifier: Apache-2.0
"""Find the paths of a zone in its channels: matching pursuit in cells, joint least squares over the zone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wavefix.training.paths import Grid, Paths, antenna_lengths, waves
from wavefix.training.sources import Hats, Samples, Search, Sources, chunks, residual

_ENOUGH = 1000  # locations in the Gauss-Newton steps; the gains and the search see all


@dataclass
class System:
    """Normal equations of gains (complex, all of them) and path parameters (real, a step)."""

    gains_matrix: Tensor
    gains_right: Tensor
    mixed: Tensor
    steps_matrix: Tensor
    steps_right: Tensor

    def solve_gains(self, ridge: float) -> Tensor:
        return _solve(self.gains_matrix, self.gains_right[:, None], ridge)[:, 0]

    def solve_steps(self, ridge: float, damping: float) -> Tensor:
        """The Gauss-Newton step of the parameters, gains eliminated."""
        both = _solve(self.gains_matrix, torch.cat([self.gains_right[:, None], self.mixed], 1), ridge)
        matrix = self.steps_matrix - (self.mixed.mH @ both[:, 1:]).real
        right = self.steps_right - (self.mixed.mH @ both[:, 0]).real
        diagonal = matrix.diagonal().clamp(min=0)
        scale = (diagonal + 1e-9 * diagonal.max() + 1e-30).rsqrt()
        matrix = scale[:, None] * matrix * scale
        matrix = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        step: Tensor = scale * torch.linalg.solve(matrix, scale * right)
        return step


def _solve(matrix: Tensor, right: Tensor, ridge: float) -> Tensor:
    regular = matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_solve(right, torch.linalg.cholesky(regular))


def assemble(paths: Paths, gains: Tensor | None, hats: Tensor, samples: Samples) -> System:
    """Accumulate the normal equations; without ``gains`` only those of the gains."""
    count, tiles = len(paths), hats.shape[1]
    vectors = 1 if gains is None else 2 + samples.grid.antennas.shape[1]
    steps = 0 if gains is None else count * paths.n_parameters
    device = samples.y.device

    def zeros(*shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=device)

    matrix, right = zeros(tiles, tiles, count, count), zeros(count, tiles)
    mixed, steps_matrix = zeros(count, tiles, steps), zeros(steps, steps, dtype=torch.float64)
    steps_right = zeros(steps, dtype=torch.float64)
    for part in chunks(samples, 3 * vectors * count):
        y, basis = samples.y[part], hats[part]
        stack = _vectors(paths, y, samples.grid, vectors > 1)
        flat = stack.flatten(1, 2)
        gram = (flat.conj() @ flat.mT).to(torch.complex128)
        project = (flat.conj() @ samples.channels[part].flatten(1)[..., None])[..., 0].to(torch.complex128)
        basis_c = basis.to(torch.complex128)
        pairs = (basis[:, :, None] * basis[:, None, :]).flatten(1).to(torch.complex128)
        plain = gram[:, :count, :count]
        matrix += (pairs.mT @ plain.flatten(1)).reshape(tiles, tiles, count, count)
        right += project[:, :count].mT @ basis_c
        if gains is None:
            continue
        weights = basis_c @ gains.T
        by_length, by_slope = paths.fields_jacobian(y)
        chain = torch.cat([by_length[:, :, None], by_slope], 2) * weights[:, :, None, None]  # [n, L, E, P]
        gram = gram.reshape(len(y), vectors, count, vectors, count)
        half = torch.einsum("naleb,nbep->nalbp", gram[:, :, :, 1:], chain)  # [n, 1+E, L, L, P]
        mixed += torch.einsum("nt,nls->lts", basis_c, half[:, 0].flatten(2))
        inner = torch.einsum("nlep,nelbq->nlpbq", chain.conj(), half[:, 1:])
        steps_matrix += inner.sum(0).reshape(steps, steps).real
        moved = project.reshape(len(y), vectors, count)[:, 1:]
        steps_right += torch.einsum("nlep,nel->lp", chain.conj(), moved).flatten().real
    size = count * tiles
    return System(
        matrix.permute(2, 0, 3, 1).reshape(size, size),
        right.flatten(),
        mixed.reshape(size, steps),
        steps_matrix,
        steps_right,
    )


def _vectors(paths: Paths, y: Tensor, grid: Grid, derivatives: bool) -> Tensor:
    """``psi`` and its derivatives by length and slopes: complex64 ``[n, 1 or 2 + r, L, A K]``."""
    length, slopes = paths.fields(y)
    lengths = antenna_lengths(length, slopes, grid)
    psi = waves(lengths, grid)
    if not derivatives:
        return psi.flatten(2)[:, None]
    stack = [psi]
    tones = (-1j * grid.tones).to(torch.complex64)
    by_tone = psi * tones
    along = slopes @ grid.antennas.T
    stack.append(by_tone * ((length[..., None] - along) / lengths).to(torch.float32)[..., None])
    slopes_factors = -length[..., None, None] * grid.antennas / lengths[..., None]
    stack.extend(by_tone * factor.to(torch.float32)[..., None] for factor in slopes_factors.unbind(-1))
    return torch.stack(stack, 1).flatten(3)


def refine(sources: Sources, samples: Samples, iterations: int, ridge: float, damping: float = 1e-3) -> Sources:
    """Joint Gauss-Newton on all paths with the gains eliminated; keeps what lowers the cost."""
    hats = sources.hats.values(samples.y)
    shape = (len(sources.paths), hats.shape[1])
    best, best_gain, step, system = sources, -float("inf"), None, None
    paths = sources.paths
    for iteration in range(iterations + 1):
        last = iteration == iterations
        trial = assemble(paths, None if last else best.gains, hats, samples)
        flat = trial.solve_gains(ridge)
        gain = float((trial.gains_right.conj() @ flat).real)
        if gain > best_gain:
            best, best_gain, system = Sources(paths, flat.reshape(shape), sources.hats), gain, trial
            damping = max(damping / 4, 1e-5)
        else:
            damping *= 16
        if last:
            break
        assert system is not None
        step = system.solve_steps(ridge, damping).reshape(len(paths), -1)
        paths = best.paths.from_flat(best.paths.flat() + _limited(step))
    return best


def _limited(step: Tensor) -> Tensor:
    limit = torch.full_like(step, 0.1)
    limit[:, 0] = 5.0
    return torch.maximum(torch.minimum(step, limit), -limit)


def find(
    samples: Samples,
    held_out: Samples,
    pitch: float,
    max_sources: int,
    a_round: int = 6,
    ridge: float = 1e-2,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, float], None] = lambda count, nmse: None,
) -> Sources:
    """Peel sources off the zone until held-out residual stops falling (or ``max_sources``, or ``stop()``)."""
    lower, upper = samples.y.min(0).values, samples.y.max(0).values
    hats = Hats(lower, upper, pitch)
    values = hats.values(samples.y)
    cells = values.argmax(1)
    search = Search(samples.grid, samples.y.shape[1], pitch)
    ridge = ridge * float(samples.channels[0].numel())
    shuffle = torch.Generator().manual_seed(0)
    rest = samples.channels
    best: Sources | None = None
    best_nmse, misses = 1.0, 0
    current: Sources | None = None
    while not stop():
        found = _candidates(search, rest, samples.y, cells)
        count = 0 if current is None else len(current.paths)
        if len(samples.y) > 1.5 * _ENOUGH:
            some = torch.randperm(len(values), generator=shuffle)[:_ENOUGH]
        else:
            some = torch.arange(len(values))
        thin = samples[some]
        chosen = _choose(found, rest[some], thin, cells[some], min(a_round, max_sources - count), ridge)
        paths = chosen if current is None else Paths.cat([current.paths, chosen])
        share = len(thin.y) / len(samples.y)
        flat = assemble(paths, None, hats.values(thin.y), thin).solve_gains(ridge * share)
        current = Sources(paths, flat.reshape(len(paths), -1), hats)
        current = refine(current, thin, 2, ridge * share)
        flat = assemble(current.paths, None, values, samples).solve_gains(ridge)
        current = Sources(current.paths, flat.reshape(len(paths), -1), hats)
        rest = residual(current, samples)
        nmse = float(residual(current, held_out).abs().square().sum() / held_out.channels.abs().square().sum())
        report(len(current.paths), nmse)
        misses = 0 if nmse < 0.97 * best_nmse else misses + 1
        if nmse < best_nmse:
            best, best_nmse = current, nmse
        if misses >= 2 or len(current.paths) >= max_sources:
            break
    return best if best is not None else current  # type: ignore[return-value]


def _candidates(search: Search, rest: Tensor, y: Tensor, cells: Tensor) -> Paths:
    found = []
    fewest = min(4, int(torch.bincount(cells).max()))  # sparse locations: what there is
    for cell in torch.unique(cells):
        members = (cells == cell).nonzero()[:, 0]
        if len(members) < fewest:
            continue
        middle = y[members].mean(0)
        found.append(search.strongest(rest[members], y[members] - middle).moved(-middle))
    return Paths.cat(found)


def _choose(found: Paths, rest: Tensor, samples: Samples, cells: Tensor, count: int, ridge: float) -> Paths:
    """Greedily the candidates that explain most of the residual, each cell with a gain of its own."""
    tiles = int(cells.max()) + 1
    gram = torch.zeros(tiles, len(found), len(found), dtype=torch.complex64, device=cells.device)
    project = torch.zeros(tiles, len(found), dtype=torch.complex64, device=cells.device)
    for part in chunks(samples, 2 * len(found)):
        psi = waves(antenna_lengths(*found.fields(samples.y[part]), samples.grid), samples.grid).flatten(2)
        gram.index_add_(0, cells[part], psi.conj() @ psi.mT)
        project.index_add_(0, cells[part], (psi.conj() @ rest[part].flatten(1)[..., None])[..., 0])
    picked: list[int] = []
    first = 0.0
    while len(picked) < count:
        score = project.abs().square() / (gram.diagonal(dim1=1, dim2=2).real + ridge)
        total = score.sum(0)
        total[picked] = 0
        top = int(total.argmax())
        if picked and float(total[top]) < 0.05 * first:
            break
        first = first or float(total[top])
        picked.append(top)
        norm = gram[:, top, top].real + ridge
        column = gram[:, :, top].clone()
        project = project - column * (project[:, top] / norm)[:, None]
        gram = gram - column[:, :, None] * column.conj()[:, None, :] / norm[:, None, None]
    return found[picked]
