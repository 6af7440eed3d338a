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
# Which Keras leaves out of the names that it opens again.
_LEFT_OUT = {
    name: kind
    for kind in (keras.optimizers.Adafactor, keras.optimizers.Lion)
    for name in (kind.__name__, kind.__name__.lower())
}
_Wrapper = TypeVar("_Wrapper", bound="type[OptimizerWrapper]")


def resolve_optimizer(optimizer: Any, wrapper: str) -> Any:
    """Returns what `wrapper` wraps: an optimizer, also from its name or config."""
    if isinstance(optimizer, (str, dict)):
        given = copy.deepcopy(optimizer)
        with keras.utils.custom_object_scope(_LEFT_OUT):
            try:
                optimizer = keras.optimizers.get(given)
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidValue(why_no_optimizer(optimizer)) from error
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        raise InvalidType(
            f"optimizer is a LossScaleOptimizer, which belongs around {wrapper}: "
            f"inside, gradients are scaled. Write LossScaleOptimizer({wrapper}(...)), "
            "or leave the loss scaling to compile."
        )
    families = (keras.optimizers.Optimizer, keras.optimizers.legacy.Optimizer)
    if not isinstance(optimizer, families):
        raise InvalidType(why_no_optimizer(optimizer))
    return optimizer


def why_no_optimizer(given: Any) -> str:
    """Says of something that is no optimizer of legacy Keras what to pass instead."""
    if of_keras_3(given):
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        return (
            f"optimizer is the {name} of Keras 3, but larq_nobn needs legacy Keras "
            f"(tf_keras), as Larq does. Pass tf_keras.optimizers.{name}(...), or its "
            "name."
        )
    return (
        f"optimizer={given!r} is not a Keras optimizer. Pass an optimizer, its name or "
        "its config."
    )


class OptimizerWrapper:
    """Hands every attribute that a subclass does not define to `inner_optimizer`.

    State, hyperparameters, checkpoint tracking and slots stay with the inner optimizer,
    so that files and checkpoints are those of the inner optimizer alone, and a callback
    that sets `learning_rate` reaches it. Keras' optimizer classes come in as second
    base only for `isinstance` and for `minimize`, which calls back into the wrapper.

    A subclass is decorated with `in_both_families`, takes the optimizer as its first
    argument, and says in `_step` what it does.
    """

    inner_optimizer: Any
    _not_twice: str  # why there is no such wrapper around another one
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
        """Raises what is wrong with an optimizer to wrap."""
        if any(isinstance(part, cls) for part in parts_of(optimizer)):
            raise InvalidType(cls._not_twice)

    @abstractmethod
    def _step(self, pairs: Pairs, apply: Callable[[Pairs], Any]) -> Any:
        """Takes a step with gradients that are summed over replicas.

        Arguments:
            pairs: Gradients and variables.
            apply: What the wrapped optimizer does with those that it is given.
        """

    def _of_inner(self, variables: Sequence[tf.Variable]) -> Sequence[tf.Variable]:
        """The variables for which the wrapped optimizer has state."""
        return variables

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        config = copy.deepcopy(config)  # Keras changes what it reads
        config.pop("name", None)
        config["optimizer"] = keras.optimizers.deserialize(
            config["optimizer"], custom_objects={**_LEFT_OUT, **(custom_objects or {})}
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
        # Keras walks these names to find state to save. The inner optimizer's is saved
        # as the wrapper's own; listing it would save it a second time.
        return sorted(
            (set(dir(self.inner_optimizer)) | self._own) - {"inner_optimizer"}
        )


def parts_of(optimizer: Any) -> Iterator[Any]:
    """An optimizer and, one in the other, those that it wraps."""
    yield optimizer
    while isinstance(optimizer, OptimizerWrapper):
        optimizer = optimizer.inner_optimizer
        yield optimizer


class _NewStyle(OptimizerWrapper, keras.optimizers.Optimizer):
    def build(self, var_list: Sequence[tf.Variable]) -> None:
        self.inner_optimizer.build(self._of_inner(var_list))

    def finalize_variable_values(self, var_list: Sequence[tf.Variable]) -> None:
        """Puts averages in the place of variables that have them."""
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
    """Registers a wrapper whose objects belong to the family of what they wrap.

    Files name the public class, whose constructor chooses between the two again.
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
