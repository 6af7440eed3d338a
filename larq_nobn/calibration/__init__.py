"""Starts networks without batch norm where batch norm would start them."""

from ._calibrate import calibrate

__all__ = ["calibrate"]
