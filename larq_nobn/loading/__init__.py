"""Opens models without running code from their files."""

from ._images import describe, described, read_dataset, write_dataset
from ._open import is_saved_model, open_model

__all__ = [
    "describe",
    "described",
    "is_saved_model",
    "open_model",
    "read_dataset",
    "write_dataset",
]
