"""Learning-rate multipliers for groups of variables, around any optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import keras, register
from ._arguments import check_patterns
from ._unit_axes import first_match
from ._wrapper import OptimizerWrapper


@register()
class ParameterGroups(OptimizerWrapper, keras.optimizers.Optimizer):
    """Multiplies the updates of chosen variables: learning rates that differ by group.

    With `w_t` the variable, `U` the wrapped optimizer's own rule and `m` the factor of
    the variable's group:

        w_{t+1} = constraint(w_t + m * (U(w_t) - w_t))

    `U` holds the update and the decoupled weight decay; under every rule that is linear
    in the learning rate (Adam, SGD, Lion and most others) this is the learning rate
    times `m`. Gradients, their clipping and the optimizer's state are not scaled;
    moving averages are those of the scaled steps. Variables of no group are updated bit
    for bit as without the wrapper. The state and the hyperparameters are the wrapped
    optimizer's: files and checkpoints hold its state and nothing else.

    It may stand inside or around `AdaptiveGradientClipping`, with the same result.

    Arguments:
        optimizer: A new-style Keras optimizer as an object, name or config. Under mixed
            precision, loss scaling goes around this wrapper, as `compile` does on its
            own.
        multipliers: `{regular expression: factor}`, factors in [0, inf). The first
            pattern with a match in a variable's name counts; a leading `^` stands for
            the start of the name or of any part after a slash. A factor of 0 freezes,
            weight decay included.

    Raises:
        TypeError: If `optimizer` is a legacy optimizer, scales the loss or has groups
            already, if an argument has the wrong type; at the first step, if the
            optimizer does not update variables in `update_step`.
        ValueError: If a pattern or a factor is out of its range; when the optimizer is
            built, if a pattern matches no variable.

    Example:
        ```python
        optimizer = nobn.optimizers.ParameterGroups(
            "adam", {"^(shift|gain|shift_in|shift_out):0$": 4.0}
        )
        model.compile(optimizer, "sparse_categorical_crossentropy")
        ```
    """

    multipliers: dict[str, float]
    _names: tuple[str, ...]
    _factors: dict[str, float]
    _active: int
    _reached: bool

    def __init__(self, optimizer: Any, multipliers: Mapping[str, float]) -> None:
        self.inner_optimizer = _resolve(optimizer)
        self.multipliers = _check_multipliers(multipliers)
        self._names = ()  # of the variables, once built
        self._factors = {}  # by key of the variable
        self._active = 0
        self._reached = False

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Finds the factor of each variable and creates the optimizer's state."""
        self._match(var_list)
        self.inner_optimizer.build(var_list)

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, tf.Variable]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        experimental_aggregate_gradients: bool = True,
    ) -> Any:
        pairs = list(grads_and_vars)
        self._match([variable for _, variable in pairs])
        skip = skip_gradients_aggregation or not experimental_aggregate_gradients
        with self._scaled():
            result = self.inner_optimizer.apply_gradients(
                pairs, name=name, skip_gradients_aggregation=skip
            )
        if pairs and not self._reached:
            kind = type(self._innermost()).__name__
            raise TypeError(
                f"{kind} did not call its method update_step, so the updates were not "
                "scaled. Use an optimizer that updates its variables there."
            )
        return result

    def get_config(self) -> dict[str, Any]:
        return {
            "name": type(self).__name__,
            "optimizer": keras.optimizers.serialize(self.inner_optimizer),
            "multipliers": dict(self.multipliers),
            # A reopened .keras file has lost the front of some names.
            "variables": list(self._names),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> ParameterGroups:
        config = copy.deepcopy(config)  # Keras changes what it reads
        inner = keras.optimizers.deserialize(
            config["optimizer"], custom_objects=custom_objects
        )
        self = cls(inner, config["multipliers"])
        self._names = tuple(config.get("variables", ()))
        return self

    def _innermost(self) -> Any:
        """Returns the optimizer inside all wrappers, whose rule is scaled."""
        optimizer = self.inner_optimizer
        while isinstance(optimizer, OptimizerWrapper):
            optimizer = optimizer.inner_optimizer
        return optimizer

    def _match(self, variables: Sequence[tf.Variable]) -> None:
        """Finds the factors of the variables, once."""
        if self._factors or not variables:
            return
        names = [variable.name for variable in variables]
        if len(names) == len(self._names) and all(
            f"/{old}".endswith(f"/{new}")
            for old, new in zip(self._names, names, strict=True)
        ):
            names = list(self._names)
        factors = factors_by_name(self.multipliers, names)
        keys = map(self._innermost()._var_key, variables)
        self._factors = dict(zip(keys, factors, strict=True))
        self._names = tuple(names)

    @contextmanager
    def _scaled(self) -> Iterator[None]:
        """Lets the wrapped optimizer scale, for the time of one step."""
        optimizer = self._innermost()
        # Replicas enter one after the other, before the first of them has left.
        if not self._active:
            optimizer.update_step = self._scale_update(optimizer)
            optimizer._apply_weight_decay = self._scale_decay(optimizer)
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                del optimizer.update_step, optimizer._apply_weight_decay

    def _factor(self, variable: tf.Variable) -> float:
        return self._factors.get(self._innermost()._var_key(variable), 1.0)

    def _scale_update(self, optimizer: Any) -> Callable[[Any, tf.Variable], None]:
        update_step = optimizer.update_step

        def scaled(gradient: Any, variable: tf.Variable) -> None:
            self._reached = True
            factor = self._factor(variable)
            if factor == 1:
                update_step(gradient, variable)
                return
            before = tf.convert_to_tensor(variable)
            update_step(gradient, variable)
            if factor == 0:  # also where the update is not finite
                variable.assign(before)
            else:
                variable.assign(before + (variable - before) * factor)

        return scaled

    def _scale_decay(self, optimizer: Any) -> Callable[[Sequence[tf.Variable]], None]:
        apply_weight_decay, decay = (
            optimizer._apply_weight_decay,
            optimizer.weight_decay,
        )

        def scaled(variables: Sequence[tf.Variable]) -> None:
            if not decay:
                return
            factors = [self._factor(variable) for variable in variables]
            try:
                for factor in sorted({*factors} - {0.0}):
                    optimizer.weight_decay = decay * factor
                    apply_weight_decay(
                        [
                            v
                            for v, f in zip(variables, factors, strict=True)
                            if f == factor
                        ]
                    )
            finally:
                optimizer.weight_decay = decay

        return scaled


def factors_by_name(
    multipliers: Mapping[str, float], names: Sequence[str]
) -> list[float]:
    """Returns the factor of each name, of which the first pattern that matches decides.

    Raises:
        ValueError: If a pattern matches no name.
    """
    for pattern in multipliers:
        if not any(first_match([pattern], name) is not None for name in names):
            raise ValueError(
                f"The pattern {pattern!r} in multipliers matches none of the "
                f"{len(names)} variables, such as {', '.join(names[:6])}. Correct the "
                "pattern, or leave it out."
            )

    def factor(name: str) -> float:
        for pattern, each in multipliers.items():
            if first_match([pattern], name) is not None:
                return each
        return 1.0

    return [factor(name) for name in names]


def _resolve(optimizer: Any) -> Any:
    """Returns the optimizer to wrap, from an object, a name or a config."""
    if isinstance(optimizer, (str, dict)):
        optimizer = keras.optimizers.get(copy.deepcopy(optimizer))
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        raise TypeError(
            "optimizer is a LossScaleOptimizer, which goes around ParameterGroups. "
            "Write LossScaleOptimizer(ParameterGroups(...)), or leave the loss scaling "
            "to compile."
        )
    if isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        raise TypeError(
            f"optimizer={optimizer!r} is a legacy optimizer, whose updates cannot be "
            "scaled. Use its namesake in keras.optimizers."
        )
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"optimizer={optimizer!r} is not a Keras optimizer. Pass an optimizer, its "
            "name or its config."
        )
    inner = optimizer
    while isinstance(inner, OptimizerWrapper):
        if isinstance(inner, ParameterGroups):
            raise TypeError(
                "optimizer has ParameterGroups already. Put all multipliers into one."
            )
        inner = inner.inner_optimizer
    return optimizer


def _check_multipliers(multipliers: Mapping[str, float]) -> dict[str, float]:
    """Returns `multipliers` as a dictionary if it leads from patterns to factors."""
    if not isinstance(multipliers, Mapping):
        raise TypeError(
            f"multipliers={multipliers!r} is not a mapping from regular expressions to "
            'factors. Use one such as {"^gain:0$": 4.0}.'
        )
    check_patterns("multipliers", multipliers)
    advice = "Use 0 to freeze, 1 for no change, 4 for four times the learning rate."
    for pattern, factor in multipliers.items():
        check_number(f"multipliers[{pattern!r}]", factor, "[0, inf)", advice)
    return {pattern: float(factor) for pattern, factor in multipliers.items()}
