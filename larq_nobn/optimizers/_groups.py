"""Learning rates that differ by group of variables, around any new-style optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from .._checks import check_kind, check_number
from .._errors import InvalidType, InvalidValue
from .._keras import keras
from ._bayesian import BayesianLearningRule
from ._unit_axes import check_patterns
from ._variable_names import Names, PatternWrapper, first_match, key_of
from ._wrapper import Pairs, in_both_families, parts_of


@in_both_families
class ParameterGroups(PatternWrapper):
    """Optimizer wrapper: learning-rate multipliers for groups of variables.

    With `w` a variable, `w'` its next value under the wrapped optimizer and `m` the
    factor of its group:

        w <- w + m * (w' - w)

    `w'` contains the update and the decoupled weight decay. In optimizers that are
    linear in the learning rate, such as Adam, SGD and Lion, this multiplies the
    learning rate by `m`. Gradients, their clipping and the optimizer's state are not
    scaled; constraints and moving averages are applied afterwards. Updates of variables
    in no group are bitwise identical to those of the wrapped optimizer. State and
    hyperparameters are those of the wrapped optimizer: files and checkpoints contain
    nothing else.

    `AdaptiveGradientClipping` may be inside or around this wrapper, with the same
    result; `BayesianLearningRule` only around it.

    Arguments:
        optimizer: A new-style Keras optimizer as an object, name or config. In mixed
            precision, wrap this optimizer in the loss scaling, which `compile` does for
            you.
        multipliers: `{regular expression: factor}`, factors in [0, inf). The first
            pattern with a match in one of a variable's names counts. Its names are its
            path in the model, such as `block/conv/kernel:0`, and the name that Keras
            gives it; a leading `^` is the start of a name or of any part after a slash.
            A factor of 0 freezes the variable.

    Raises:
        TypeError: If an argument has the wrong type, or if `optimizer` is a legacy
            optimizer, scales the loss, has groups already or is a
            `BayesianLearningRule`; at the first step, if it does not update variables
            in `update_step`.
        ValueError: If a pattern is invalid, a factor is out of its range or, once the
            variables are known, a pattern matches none of them.

    Example:
        ```python
        optimizer = nobn.optimizers.ParameterGroups(
            "adam", {"^(shift|gain):0$": 4.0, "^head/": 0.5}
        )
        model.compile(optimizer, "sparse_categorical_crossentropy")
        ```
    """

    multipliers: dict[str, float]
    _factors: dict[Any, float]
    _steps: int
    _reached: bool

    _not_twice = (
        "optimizer has ParameterGroups already, and their factors would multiply. Put "
        "all multipliers into one."
    )

    def __init__(
        self,
        optimizer: Any,  # taken by __new__
        multipliers: Mapping[str, float],
    ) -> None:
        wanted = 'a dictionary of factors by pattern, such as {"^gain:0$": 4.0}'
        check_kind("multipliers", multipliers, Mapping, wanted)
        check_patterns("multipliers", list(multipliers))
        advice = "Use 0 to freeze, 1 for no change, 4 for four times the learning rate."
        self.multipliers = {
            pattern: check_number(
                f"multipliers[{pattern!r}]", factor, "[0, inf)", advice
            )
            for pattern, factor in multipliers.items()
        }
        self._factors = {}  # by key of the variable, once the variables are known
        self._steps = 0  # how many steps run now: one per replica
        self._reached = False

    @classmethod
    def _check(cls, optimizer: Any) -> None:
        if isinstance(optimizer, keras.optimizers.legacy.Optimizer):
            raise InvalidType(
                f"optimizer={optimizer!r} is a legacy optimizer, whose updates cannot "
                "be scaled. Use the optimizer of this name in keras.optimizers."
            )
        if any(isinstance(part, BayesianLearningRule) for part in parts_of(optimizer)):
            raise InvalidType(
                "optimizer is a BayesianLearningRule, whose natural steps have no "
                "groups. Write BayesianLearningRule(ParameterGroups(...), ...)."
            )
        super()._check(optimizer)

    def _of_inner(self, variables: Sequence[tf.Variable]) -> Sequence[tf.Variable]:
        self._find_factors(variables)
        return variables

    def _step(self, pairs: Pairs, apply: Callable[[Pairs], Any]) -> Any:
        self._find_factors([variable for _, variable in pairs])
        with self._scaling():
            iteration = apply(pairs)
        if pairs and not self._reached:
            raise InvalidType(
                f"{type(self._rule()).__name__} updates variables without calling "
                "update_step, so its updates cannot be scaled. Use an optimizer that "
                "defines update_step, and wrap it before its first step."
            )
        return iteration

    def get_config(self) -> dict[str, Any]:
        return {
            "optimizer": keras.optimizers.serialize(self.inner_optimizer),
            "multipliers": dict(self.multipliers),
            **super().get_config(),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> ParameterGroups:
        known = ("optimizer", "multipliers", "variables")
        return super().from_config(
            {key: config[key] for key in known if key in config}, custom_objects
        )

    def _rule(self) -> Any:
        """Returns the optimizer inside all wrappers."""
        *_, rule = parts_of(self.inner_optimizer)
        return rule

    def _find_factors(self, variables: Sequence[tf.Variable]) -> None:
        """Sets the factors of the variables, at the first call with variables."""
        if self._factors or not variables:
            return
        factors = factors_by_name(self.multipliers, self._names_of(variables))
        self._factors = dict(zip(map(key_of, variables), factors, strict=True))

    @contextmanager
    def _scaling(self) -> Iterator[None]:
        """Scales the updates of the wrapped optimizer, for one step."""
        rule = self._rule()
        # All replicas enter, one after the other, before the first of them leaves.
        if not self._steps:
            rule.update_step = self._scaled_update(rule)
            rule._apply_weight_decay = self._scaled_decay(rule)
        self._steps += 1
        try:
            yield
        finally:
            self._steps -= 1
            if not self._steps:
                del rule.update_step, rule._apply_weight_decay

    def _scaled_update(self, rule: Any) -> Callable[[Any, tf.Variable], None]:
        update_step = rule.update_step

        def update(gradient: Any, variable: tf.Variable) -> None:
            self._reached = True
            factor = self._factors.get(key_of(variable), 1.0)
            # A quantized variable would read as ±1 inside a quantized scope.
            latent = getattr(variable, "latent_variable", variable)
            before = tf.convert_to_tensor(latent) if factor != 1 else None
            update_step(gradient, variable)
            if factor == 0:  # also if the update is NaN
                variable.assign(before)
            elif factor != 1:
                variable.assign(before + factor * (latent - before))

        return update

    def _scaled_decay(self, rule: Any) -> Callable[[Sequence[tf.Variable]], None]:
        apply_weight_decay, decay = rule._apply_weight_decay, rule.weight_decay

        def apply(variables: Sequence[tf.Variable]) -> None:
            if decay is None:
                return
            groups: dict[float, list[tf.Variable]] = {}
            for variable in variables:
                factor = self._factors.get(key_of(variable), 1.0)
                groups.setdefault(factor, []).append(variable)
            try:
                for factor, members in groups.items():
                    rule.weight_decay = factor * decay
                    apply_weight_decay(members)
            finally:
                rule.weight_decay = decay

        return apply


def factors_by_name(
    multipliers: Mapping[str, float], names: Sequence[Names]
) -> list[float]:
    """Returns the factor of the first pattern that matches each variable, or 1."""
    factors = [1.0] * len(names)
    # Reversed, so that the first pattern is assigned last.
    for pattern, factor in reversed([*multipliers.items()]):
        found = [i for i, own in enumerate(names) if first_match([pattern], own)]
        if not found:
            shown = ", ".join(own[0].lstrip("/") for own in names[:6])
            raise InvalidValue(
                f"The pattern {pattern!r} in multipliers matches none of the "
                f"{len(names)} variables, such as {shown}. Correct the pattern, or "
                "leave it out."
            )
        for place in found:
            factors[place] = factor
    return factors
