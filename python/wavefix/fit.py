# SPDX-License-Identifier: Apache-2.0
"""``fit``, from a dataset to a channel model; torch is imported only when it is called."""

from __future__ import annotations

from typing import Any

from wavefix.dataset import ChannelDataset
from wavefix.files import Path_


def fit(
    data: ChannelDataset,
    kind: str = "spherical",
    *,
    seed: int = 0,
    device: str = "cpu",
    time_limit: float | None = None,
    checkpoint: Path_ | None = None,
    validation_fraction: float = 0.1,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Learn the channels of a zone: a ``ChannelModel`` ("spherical", "planar") or a torch baseline ("mlp", "rff").

    Needs torch (``pip install 'wavefix[train]'``).

    Args:
        data: channels at known positions, carrier phase kept.
        seed: the same seed, threads and versions give the same model, unless ``time_limit`` cut the run.
        device: where torch computes, such as "cpu" or "cuda".
        time_limit: seconds, all runs of one checkpoint together; None for 20 minutes. Ends earlier once converged.
        checkpoint: a file to write the state to every few seconds; a run that finds it there continues it.
        validation_fraction: part of the locations that is held out, for early stopping and ``validation_nmse``.
        progress: a bar on stderr; None shows it only on a terminal.
        options: of the kind; "spherical": ``max_sources``, ``max_rounds``, ``position_std``: standard deviation of the
            errors of ``data.positions`` in meters along each axis, up to about an eighth of a wavelength
            (0: none; they are refined with the model where there are some, docs/equations.md, (22));
            "planar": ``max_sources``, ``max_atoms``, ``epochs``, ``batch_size``,
            ``learning_rate``, ``patience``, ``hidden`` (widths of the weight network's hidden layers).

    Raises:
        DataError: too few distinct positions, channels all zero or not a function of the position; a checkpoint
            of other data or options.
        ValueError: an unknown kind, a fraction or a limit out of range, ``position_std`` negative, not finite
            or above a quarter of the wavelength.
        TypeError: an option that the kind does not know.
        ImportError: torch is not installed.
    """
    from wavefix.training import fit as fit_

    return fit_(
        data,
        kind,
        seed=seed,
        device=device,
        time_limit=time_limit,
        checkpoint=checkpoint,
        validation_fraction=validation_fraction,
        progress=progress,
        **options,
    )
