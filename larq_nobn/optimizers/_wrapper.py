"""An optimizer around an optimizer, in both of Keras' optimizer families."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._keras import PACKAGE, keras, of_keras_3, register

Pairs = list[tuple[Any, tf.Variable]]
# Optimizers whose names Keras cannot deserialize.
_MISSING_NAMES = {
    name: kind
    for kind in (keras.optimizers.Adafactor, keras.optimizers.Lion)
    for name in (kind.__name__, kind.__name__.lower())
}
_Wrapper = TypeVar("_Wrapper", bound="type[OptimizerWrapper]")


def resolve_optimizer(optimizer: Any, wrapper: str) -> Any:
    """Returns the optimizer that `wrapper` gets as an object, a name or a config."""
    if isinstance(optimizer, (str, dict)):
        copied = copy.deepcopy(optimizer)
        with keras.utils.custom_object_scope(_MISSING_NAMES):
            try:
                optimizer = keras.optimizers.get(copied)
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidValue(why_no_optimizer(optimizer)) from error
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        raise InvalidType(
            f"optimizer is a LossScaleOptimizer, which must be around {wrapper}: "
            f"inside, gradients are scaled. Write LossScaleOptimizer({wrapper}(...)), "
            "or let compile add the loss scaling."
        )
    families = (keras.optimizers.Optimizer, keras.optimizers.legacy.Optimizer)
    if not isinstance(optimizer, families):
        raise InvalidType(why_no_optimizer(optimizer))
    return optimizer


def why_no_optimizer(value: Any) -> str:
    """Returns the message for a value that is not an optimizer of legacy Keras."""
    if of_keras_3(value):
        name = value.__name__ if isinstance(value, type) else type(value).__name__
        return (
            f"optimizer is the {name} of Keras 3, but larq_nobn needs legacy Keras "
            f"(tf_keras), as Larq does. Pass tf_keras.optimizers.{name}(...), or its "
            "name."
        )
    return (
        f"optimizer={value!r} is not a Keras optimizer. Pass an optimizer, its name or "
        "its config."
    )


class OptimizerWrapper:
    """Delegates every attribute that a subclass does not define to `inner_optimizer`.

    State, hyperparameters, checkpoint tracking and slots are those of the inner
    optimizer, so files and checkpoints contain nothing else, and a callback that sets
    `learning_rate` sets that of the inner optimizer. Keras' optimizer classes are
    second bases only for `isinstance` and for `minimize`, which calls the wrapper.

    A subclass has the decorator `in_both_families`, takes the optimizer as its first
    argument, and defines `_step`.
    """

    inner_optimizer: Any
    _not_twice: str  # the message for such a wrapper around another one
    _own: frozenset[str]
    # The public class, and its subclasses for new-style and legacy optimizers.
    _public: Any
    _families: tuple[Any, Any]

    def __new__(cls, optimizer: Any = None, *_: Any, **__: Any) -> Any:
        if cls is not cls._public:  # a copy of an existing wrapper
            return object.__new__(cls)
        inner = resolve_optimizer(optimizer, cls.__name__)
        cls._check(inner)
        legacy = isinstance(inner, keras.optimizers.legacy.Optimizer)
        self = object.__new__(cls._families[legacy])
        self.inner_optimizer = inner
        return self

    @classmethod
    def _check(cls, optimizer: Any) -> None:
        """Raises an error if an optimizer cannot be wrapped."""
        if any(isinstance(part, cls) for part in parts_of(optimizer)):
            raise InvalidType(cls._not_twice)

    @abstractmethod
    def _step(self, pairs: Pairs, apply: Callable[[Pairs], Any]) -> Any:
        """Takes a step with gradients that are summed over replicas.

        Arguments:
            pairs: Gradients and variables.
            apply: Function that applies pairs with the wrapped optimizer.
        """

    def _of_inner(self, variables: Sequence[tf.Variable]) -> Sequence[tf.Variable]:
        """Returns the variables for which the wrapped optimizer has state."""
        return variables

    def _add_state(self, variables: Sequence[tf.Variable]) -> None:
        """Adds variables of its own to those of a new-style inner optimizer."""

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        config = copy.deepcopy(config)  # Keras changes what it reads
        config.pop("name", None)
        config["optimizer"] = keras.optimizers.deserialize(
            config["optimizer"],
            custom_objects={**_MISSING_NAMES, **(custom_objects or {})},
        )
        return cls._public(**config)

    def __init_subclass__(cls) -> None:
        wrappers = [base for base in cls.__mro__ if issubclass(base, OptimizerWrapper)]
        own = {"minimize", "get_updates"}
        for base in wrappers:
            own |= set(vars(base)) | set(vars(base).get("__annotations__", ()))
        cls._own = frozenset(own)

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        if name.startswith("__") or name in own(self, "_own"):
            return own(self, name)
        return getattr(own(self, "inner_optimizer"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._own:
            object.__setattr__(self, name, value)
        else:
            setattr(self.inner_optimizer, name, value)

    def __dir__(self) -> list[str]:
        # Keras searches these names for state to save. The wrapper has the state of the
        # inner optimizer, so listing `inner_optimizer` would save it twice.
        return sorted(
            (set(dir(self.inner_optimizer)) | self._own) - {"inner_optimizer"}
        )


def parts_of(optimizer: Any) -> Iterator[Any]:
    """Yields an optimizer and the optimizers that it wraps, from the outside in."""
    yield optimizer
    while isinstance(optimizer, OptimizerWrapper):
        optimizer = optimizer.inner_optimizer
        yield optimizer


class _NewStyle(OptimizerWrapper, keras.optimizers.Optimizer):
    def build(self, var_list: Sequence[tf.Variable]) -> None:
        self.inner_optimizer.build(self._of_inner(var_list))
        self._add_state(var_list)

    def finalize_variable_values(self, var_list: Sequence[tf.Variable]) -> None:
        """Replaces variables by their moving averages, if they have some."""
        self.inner_optimizer.finalize_variable_values(self._of_inner(var_list))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, tf.Variable]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        experimental_aggregate_gradients: bool = True,
    ) -> Any:
        pairs, inner = list(grads_and_vars), self.inner_optimizer
        if experimental_aggregate_gradients and not skip_gradients_aggregation:
            pairs = inner.aggregate_gradients(pairs)
        return self._step(
            pairs,
            lambda changed: inner.apply_gradients(
                changed, name=name, skip_gradients_aggregation=True
            ),
        )


class _Legacy(OptimizerWrapper, keras.optimizers.legacy.Optimizer):
    _HAS_AGGREGATE_GRAD = True

    def _create_slots(self, var_list: Sequence[tf.Variable]) -> None:
        self.inner_optimizer._create_slots(self._of_inner(var_list))

    def _create_all_weights(self, var_list: Sequence[tf.Variable]) -> None:
        self.inner_optimizer._create_all_weights(self._of_inner(var_list))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, tf.Variable]],
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> Any:
        pairs, inner = list(grads_and_vars), self.inner_optimizer
        if experimental_aggregate_gradients:
            pairs = inner._aggregate_gradients(pairs)
        return self._step(
            pairs,
            lambda changed: inner.apply_gradients(
                changed, name=name, experimental_aggregate_gradients=False
            ),
        )


def in_both_families(wrapper: _Wrapper) -> _Wrapper:
    """Registers a wrapper whose objects are new-style or legacy like the inner one.

    Files contain the public class, whose constructor chooses between the two.
    """
    names = {"__module__": wrapper.__module__, "__qualname__": wrapper.__qualname__}
    new_style, legacy = (
        type(wrapper.__name__, (wrapper, family), dict(names))
        for family in (_NewStyle, _Legacy)
    )
    wrapper._public, wrapper._families = wrapper, (new_style, legacy)
    for kind in (new_style, legacy):
        keras.utils.register_keras_serializable(PACKAGE)(kind)
    return register()(wrapper)
