# SPDX-License-Identifier: Apache-2.0
"""Learn a channel model from channels at known positions (needs torch: pip install 'wavefix[train]')."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch") is None:
    raise ImportError("training needs torch: pip install 'wavefix[train]'")

from wavefix.training.baselines import PositionRegressor
from wavefix.training.fitting import KINDS, fit

__all__ = ["KINDS", "PositionRegressor", "fit"]
