"""Which variables a latent-free optimizer trains: Larq's Bop, and what is like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from larq.optimizers import Bop, CaseOptimizer, _var_key

from ._boolean import BooleanAccumulation

_LATENT_FREE = (Bop, BooleanAccumulation)


def is_latent_free(optimizer: Any, pairs: list[Any]) -> Callable[[tf.Variable], bool]:
    """Returns a predicate for the variables that are flipped inside `optimizer`.

    Arguments:
        optimizer: Any optimizer.
        pairs: Gradients and variables of the step.
    """
    if not isinstance(optimizer, CaseOptimizer):
        return lambda _: isinstance(optimizer, _LATENT_FREE)
    if optimizer.var_opt_mapping is None:  # as its own first step would do
        optimizer._compute_var_opt_mapping(pairs)
    chosen = optimizer.var_opt_mapping
    flipping = [isinstance(each, _LATENT_FREE) for each in optimizer.optimizers]

    def is_flipped(variable: tf.Variable) -> bool:
        index = chosen.get(_var_key(variable))
        return index is not None and flipping[index]

    return is_flipped
