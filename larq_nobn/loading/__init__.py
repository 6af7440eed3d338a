"""Opens models without running code from their files, and saves models."""

from ._dataset_info import describe, described, read_dataset
from ._open import is_saved_model, open_model, open_path
from ._save import save_model

__all__ = [
    "describe",
    "described",
    "is_saved_model",
    "open_model",
    "open_path",
    "read_dataset",
    "save_model",
]
