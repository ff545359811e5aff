# SPDX-License-Identifier: Apache-2.0
"""wavefix learns a radio scene from measured channels and returns sub-wavelength position fixes."""

from wavefix._core import DataError, Error, ModelFormatError, ShapeError, __version__
from wavefix.channel_model import ChannelModel
from wavefix.dataset import ChannelDataset
from wavefix.propagation import Scene, scenes, simulate

__all__ = [
    "ChannelDataset",
    "ChannelModel",
    "DataError",
    "Error",
    "ModelFormatError",
    "Scene",
    "ShapeError",
    "__version__",
    "scenes",
    "simulate",
]
