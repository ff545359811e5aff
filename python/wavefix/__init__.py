# SPDX-License-Identifier: Apache-2.0
"""wavefix learns a radio scene from measured channels and returns sub-wavelength position fixes."""

from wavefix._core import (
    DataError,
    Error,
    LocalizerOptions,
    ModelFormatError,
    RefineOptions,
    ShapeError,
    Status,
    __version__,
)
from wavefix.channel_model import ChannelModel
from wavefix.dataset import ChannelDataset
from wavefix.dictionary import Dictionary
from wavefix.evaluation import evaluate
from wavefix.fit import fit
from wavefix.localizer import STRATEGIES, FingerprintLocalizer, Fixes, Localizer
from wavefix.propagation import Scene, scenes, simulate
from wavefix.refine import Refined, position_error_bound, refine
from wavefix.results import Evaluation

__all__ = [
    "STRATEGIES",
    "ChannelDataset",
    "ChannelModel",
    "DataError",
    "Dictionary",
    "Error",
    "Evaluation",
    "FingerprintLocalizer",
    "Fixes",
    "Localizer",
    "LocalizerOptions",
    "ModelFormatError",
    "RefineOptions",
    "Refined",
    "Scene",
    "ShapeError",
    "Status",
    "__version__",
    "evaluate",
    "fit",
    "position_error_bound",
    "refine",
    "scenes",
    "simulate",
]
