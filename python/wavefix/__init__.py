# SPDX-License-Identifier: Apache-2.0
"""wavefix learns a radio scene from measured channels and returns sub-wavelength position fixes."""

from wavefix._core import DataError, Error, ModelFormatError, ShapeError, __version__

__all__ = ["DataError", "Error", "ModelFormatError", "ShapeError", "__version__"]
