"""What is said of a model whose graph cannot be read or built again."""

from __future__ import annotations


class ModelError(ValueError):
    """A model, or a layer of one, that this package cannot take apart."""
