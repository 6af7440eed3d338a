"""Shifts per channel, moved to where they cost nothing."""

from ._move import move_shifts

__all__ = ["move_shifts"]
