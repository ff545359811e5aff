# SPDX-License-Identifier: Apache-2.0
"""The localization pipeline of arXiv 2506.06387 written plainly in torch: its off-grid PI/PS variant with circles.

(a) global grid by the phase-insensitive similarity (5), (b) local grid around its best point by (4), (c) gradient
descent, (d) circles of radius k wavelengths around the result, (e) gradient descent from the best point on them. The
dictionary of (a) is synthesized once, as the paper's is. Descent is Adam on (4) with a falling step, by automatic
differentiation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Synthesize = Callable[[torch.Tensor], torch.Tensor]


class PaperPipeline:
    """Locates one query at a time in a square region at a known height, from a torch function that gives channels."""

    def __init__(self, synthesize: Synthesize, lower: torch.Tensor, upper: torch.Tensor, wavelength: float) -> None:
        self.synthesize, self.wavelength = synthesize, wavelength
        step = wavelength / 4
        axes = [torch.arange(float(lower[i]), float(upper[i]), step, dtype=torch.float64) for i in range(2)]
        x, y = torch.meshgrid(*axes, indexing="ij")
        self.height = lower[2]
        self.grid = self.points(torch.stack([x.ravel(), y.ravel()], dim=1))
        with torch.no_grad():
            entries = [self.channels(part) for part in self.grid.split(512)]
        self.entries = torch.cat(entries)
        self.norms = torch.linalg.vector_norm(self.entries, dim=1)
        offsets = torch.arange(-2, 3, dtype=torch.float64) * wavelength / 8
        dx, dy = torch.meshgrid(offsets, offsets, indexing="ij")
        self.local = torch.stack([dx.ravel(), dy.ravel()], dim=1)
        angles = [torch.arange(int(2 * torch.pi * k * 8), dtype=torch.float64) / (8 * k) for k in (1, 2, 3)]
        circles = [k * torch.stack([a.cos(), a.sin()], dim=1) for k, a in zip((1, 2, 3), angles, strict=True)]
        self.circles = wavelength * torch.cat(circles)

    def points(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([y, self.height.expand(len(y), 1)], dim=1)

    def channels(self, positions: torch.Tensor) -> torch.Tensor:
        return self.synthesize(positions).reshape(len(positions), -1)

    def best(self, query: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            cost = torch.linalg.vector_norm(self.channels(self.points(y)) - query, dim=1)
        return y[int(cost.argmin())]

    def descend(self, query: torch.Tensor, y: torch.Tensor, steps: int = 100) -> tuple[torch.Tensor, float]:
        y = y.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([y], lr=self.wavelength / 50)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.93)
        cost = torch.tensor(0.0)
        for _ in range(steps):
            optimizer.zero_grad()
            cost = torch.linalg.vector_norm(self.channels(self.points(y[None]))[0] - query) ** 2
            cost.backward()
            optimizer.step()
            schedule.step()
        return y.detach(), float(cost.detach())

    def locate(self, channel: torch.Tensor) -> torch.Tensor:
        query = channel.reshape(-1)
        correlation = (self.entries.conj() @ query).abs() / self.norms  # (a)
        y = self.grid[int(correlation.argmax())][:2]
        y = self.best(query, y + self.local)  # (b)
        first, first_cost = self.descend(query, y)  # (c)
        second, second_cost = self.descend(query, self.best(query, first + self.circles))  # (d), (e)
        return self.points((second if second_cost < first_cost else first)[None])[0]
