"""Which variables have no magnitude that a gradient could be measured by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from larq.optimizers import Bop, CaseOptimizer, _var_key

from ._bayesian import BayesianLearningRule
from ._boolean import BooleanAccumulation
from ._natural import is_natural, split
from ._wrapper import OptimizerWrapper, Pairs

_LATENT_FREE = (Bop, BooleanAccumulation)


def is_latent_free(optimizer: Any, pairs: Pairs) -> Callable[[tf.Variable], bool]:
    """Returns a predicate for variables of signs that flip, or of log odds.

    Arguments:
        optimizer: Any optimizer.
        pairs: Gradients and variables of the step.
    """
    if isinstance(optimizer, BayesianLearningRule):
        of_others = is_latent_free(optimizer.inner_optimizer, split(pairs)[1])
        return lambda variable: is_natural(variable) or of_others(variable)
    if isinstance(optimizer, OptimizerWrapper):
        return is_latent_free(optimizer.inner_optimizer, pairs)
    if not isinstance(optimizer, CaseOptimizer):
        return lambda _: isinstance(optimizer, _LATENT_FREE)
    if optimizer.var_opt_mapping is None:  # as its own first step would do
        optimizer._compute_var_opt_mapping(pairs)
    chosen = optimizer.var_opt_mapping
    of_parts = [is_latent_free(each, pairs) for each in optimizer.optimizers]

    def of_its_part(variable: tf.Variable) -> bool:
        index = chosen.get(_var_key(variable))
        return index is not None and of_parts[index](variable)

    return of_its_part
