"""Models of others, opened without running code from their files."""

from ._open import is_saved_model, open_model

__all__ = ["is_saved_model", "open_model"]
