"""What is said of a model whose graph cannot be read or built again."""

from __future__ import annotations


class ModelError(ValueError):
    """A model, or a layer of one, that this package cannot take apart."""


# For a wrapper, which may change the weights of its layer whenever it is called.
UNWRAP = (
    "take layers out of wrappers, such as those of pruning "
    "(tfmot.sparsity.keras.strip_pruning)"
)
