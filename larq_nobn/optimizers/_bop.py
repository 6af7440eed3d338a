"""Which variables Larq's latent-free optimizer trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from larq.optimizers import Bop, CaseOptimizer, _var_key


def is_trained_by_bop(
    optimizer: Any, pairs: list[Any]
) -> Callable[[tf.Variable], bool]:
    """Returns a predicate for the variables that `Bop` trains inside `optimizer`.

    Arguments:
        optimizer: Any optimizer.
        pairs: Gradients and variables of the step.
    """
    if not isinstance(optimizer, CaseOptimizer):
        return lambda _: isinstance(optimizer, Bop)
    if optimizer.var_opt_mapping is None:  # as its own first step would do
        optimizer._compute_var_opt_mapping(pairs)
    chosen = optimizer.var_opt_mapping
    bops = {i for i, each in enumerate(optimizer.optimizers) if isinstance(each, Bop)}
    return lambda variable: chosen.get(_var_key(variable)) in bops
