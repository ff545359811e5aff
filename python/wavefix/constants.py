# SPDX-License-Identifier: Apache-2.0
"""Constants of physics."""

SPEED_OF_LIGHT = 299792458.0
"""Meters per second, exact."""
