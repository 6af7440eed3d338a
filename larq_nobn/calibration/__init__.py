"""Initializes networks without batch norm from data."""

from ._calibrate import calibrate

__all__ = ["calibrate"]
