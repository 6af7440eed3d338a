"""Adaptive gradient clipping as a wrapper around any Keras optimizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidType
from .._keras import keras
from .._larq import lq
from . import _unit_axes
from ._bayesian import BayesianLearningRule, is_natural, split
from ._boolean import BooleanAccumulation
from ._clipping import Axes, clip_gradients
from ._silence import Silence
from ._variable_names import PatternWrapper, first_match, key_of, tell
from ._wrapper import OptimizerWrapper, Pairs, in_both_families

_log = logging.getLogger("larq_nobn")

_HEADS = ("^head/", "^predictions/")
_LATENT_FREE = (lq.optimizers.Bop, BooleanAccumulation)


class ClipCounts:
    """Counters of clipped units and of all units, for each of some variables.

    Every step adds to two rows of integers, inside the compiled step. They are no
    state: no file or checkpoint contains them. Other variables are ignored.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self.variables = tuple(variables)
        self._places = {id(v): place for place, v in enumerate(self.variables)}
        # All replicas have the same aggregated gradients, so the first one is enough.
        self._totals = tf.Variable(
            tf.zeros((2, len(self.variables)), tf.int64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="clipped_units",
        )

    def add(
        self, factors: tf.Tensor, owners: np.ndarray, variables: Sequence[Any]
    ) -> None:
        """Counts one step, with factors and owners as in `Clipped`."""
        # The last entry serves owner -1, a unit that is not clipped.
        places = np.array([self._places.get(id(v), -1) for v in variables] + [-1])
        by_unit = places[owners]
        clipped = tf.math.unsorted_segment_sum(
            tf.cast(factors < 1, tf.int64), by_unit, len(self.variables)
        )
        seen = np.bincount(by_unit[by_unit >= 0], minlength=len(self.variables))
        self._totals.assign_add(tf.stack([clipped, tf.constant(seen, tf.int64)]))

    def totals(self) -> np.ndarray:
        """Returns two rows: clipped units and all units."""
        return tf.convert_to_tensor(self._totals).numpy()


@in_both_families
class AdaptiveGradientClipping(PatternWrapper):
    """Optimizer wrapper: limits each unit's gradient norm relative to its weights.

    With `||.||_i` the norm over unit `i`, such as one output filter:

        G_i <- G_i * min(1, clip_factor * max(||W_i||, epsilon) / max(||G_i||, 1e-6))

    One step runs in this order: aggregation over replicas, un-scaling of the loss,
    this clipping, then in the wrapped optimizer its own clipping, weight decay, the
    update and the constraints. Norms are those of the latent float32 weights, also for
    the binary kernels of Larq. Like the wrapped optimizer, the result is new-style or
    legacy. It has the hyperparameters and state of the wrapped optimizer: files and
    checkpoints contain nothing else.

    The name and rank of a variable decide the axes of its units: all axes but the last
    for kernels, all but the last two for `depthwise_kernel`, the last for `embeddings`,
    the whole tensor for vectors and PReLU slopes. A transposed convolution is
    recognized by the name that Keras gives it, such as `conv2d_transpose`. If it has
    another name, or for locally connected layers, use `for_model` or `unit_axes`.

    Arguments:
        optimizer: A Keras optimizer, new-style or legacy, as an object, name or config;
            also Larq's `Bop` and `CaseOptimizer`. Variables of `Bop`,
            `BooleanAccumulation` and `BayesianLearningRule` (log odds) have no latent
            magnitude and are not clipped. In mixed precision, wrap this optimizer in
            the loss scaling, which `compile` does for you.
        clip_factor: Largest ratio of the norms of gradient and weights, in (0, inf];
            recipes have 0.02;
            default 0.01.
        epsilon: Lower bound of the norm of the weights, above 0; default 0.001.
        exclude: Regular expressions; a variable with a match in one of its names is not
            clipped. Its names are its path in the compiled model, such as
            `block/conv/kernel:0`, and the name that Keras gives it. A leading `^` is
            the start of a name or of any part after a slash. Default: the classifiers
            `head` and `predictions`; in `for_model` also the layer that gives the
            output. A warning tells if nothing is excluded.
        unit_axes: `{regular expression: axes}` for variables whose units the name does
            not tell. The first pattern with a match counts; with the axes `()` each
            element is a unit. Default: none.
        lower_factor: Smallest ratio of the norms for binary kernels of Larq's layers:
            smaller gradients are scaled up to it, as in `adaptive_gradient_clip`. In
            [0, clip_factor]; default 0, OvSW has 0.04 with SGD.
        silent_decay: Factor γ: adds γ times the distance from the threshold to the
            gradient of each binary weight whose sign has not changed for about 2,300
            steps, or since the start: its rate of changes, an average of decay 0.999,
            is below 1e-4. Default 0, OvSW has 9e-4 with SGD. Signs and rates are state
            of the optimizer, which must be new-style.

    Raises:
        TypeError: If an argument has the wrong type, or if `optimizer` already clips
            or scales the loss.
        ValueError: If an argument is out of its range; at the first step, if a variable
            has no known role.
        InvalidArgumentError: At a step whose gradients are not finite. Compiled by XLA,
            which drops assertions, those gradients count as zero.

    Example:
        ```python
        optimizer = nobn.optimizers.AdaptiveGradientClipping("adam", clip_factor=0.02)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        ```

    References:
        Brock, De, Smith, Simonyan, "High-Performance Large-Scale Image Recognition
        Without Normalization", 2021, arXiv:2102.06171.
        Xiang, Chen, Mao, Wang, Liu, "OvSW: Overcoming Silent Weights for Accurate
        Binary Neural Networks", ECCV 2024, arXiv:2407.05257.

    Differences from the paper: the classifier is found by its name, or by `for_model`;
    gains, biases and slopes are clipped whole. OvSW has no upper limit, and its
    threshold is 0; here it is the mean of the filter where a quantizer subtracts that.
    """

    clip_factor: float
    epsilon: float
    exclude: tuple[str, ...]
    unit_axes: dict[str, Axes]
    lower_factor: float
    silent_decay: float
    _silences: dict[Any, Silence]
    _counts: ClipCounts | None
    _warned: bool

    _not_twice = (
        "optimizer already clips by an AdaptiveGradientClipping, and cannot clip "
        "twice. Pass its inner_optimizer."
    )

    def __init__(
        self,
        optimizer: Any,  # taken by __new__, which needs it to choose the class
        clip_factor: float = 0.01,
        epsilon: float = 1e-3,
        exclude: Sequence[str] = _HEADS,
        unit_axes: Mapping[str, Any] | None = None,
        lower_factor: float = 0.0,
        silent_decay: float = 0.0,
    ) -> None:
        advice = "Use 0.01, or 0.02 for binary networks."
        if clip_factor != float("inf"):
            check_number("clip_factor", clip_factor, "(0, inf)", advice)
        self.clip_factor = float(clip_factor)
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 0.001.")
        self.exclude = _unit_axes.check_patterns("exclude", exclude)
        self.unit_axes = _unit_axes.check_unit_axes(unit_axes)
        self.lower_factor = check_number(
            "lower_factor",
            lower_factor,
            f"[0, {self.clip_factor}]",
            "Use 0, or less than clip_factor.",
        )
        self.silent_decay = check_number(
            "silent_decay", silent_decay, "[0, inf)", "Use 0, or 9e-4."
        )
        if silent_decay and isinstance(
            self.inner_optimizer, keras.optimizers.legacy.Optimizer
        ):
            raise InvalidType(
                f"silent_decay={silent_decay} needs an optimizer that can have more "
                "state. Use the optimizer of this name in keras.optimizers."
            )
        self._silences = {}  # by key of the variable
        self._counts = None  # until a monitor needs them
        self._warned = False

    @classmethod
    def for_model(
        cls,
        model: keras.Model,
        optimizer: Any,
        clip_factor: float = 0.01,
        epsilon: float = 1e-3,
        exclude: Sequence[str] | None = None,
        unit_axes: Mapping[str, Any] | None = None,
        **options: float,
    ) -> AdaptiveGradientClipping:
        """Builds the wrapper with the roles of the weights read from the layers.

        Arguments:
            model: A built model, nested models included.
            optimizer: See the class, as for all further arguments. `unit_axes` has
                precedence over the layers.
            exclude: None for the classifiers `head` and `predictions`, and the last
                layers with a kernel before the outputs, whatever their names.
            **options: `lower_factor` and `silent_decay`.

        Returns:
            The wrapped optimizer.

        Raises:
            ValueError: If the model is not built, if two weights of the same name have
                different roles, or if the layout of a layer's kernel is not known.

        Example:
            ```python
            wrapper = nobn.optimizers.AdaptiveGradientClipping
            optimizer = wrapper.for_model(model, "adam", clip_factor=0.02)
            ```
        """
        by_user = _unit_axes.check_unit_axes(unit_axes)
        if exclude is None:
            exclude = (*_HEADS, *_unit_axes.classifier_patterns(model))
        settled = [*_unit_axes.check_patterns("exclude", exclude), *by_user]
        by_layer = _unit_axes.axes_by_layer(
            model, lambda names: first_match(settled, names) is not None
        )
        units = {**by_user, **by_layer}
        self = cls(optimizer, clip_factor, epsilon, exclude, units, **options)
        tell(self, model)
        return self

    def get_config(self) -> dict[str, Any]:
        return {
            # Larq's CaseOptimizer finds the class by this name.
            "name": AdaptiveGradientClipping.__name__,
            "optimizer": keras.optimizers.serialize(self.inner_optimizer),
            "clip_factor": self.clip_factor,
            "epsilon": self.epsilon,
            "exclude": list(self.exclude),
            "unit_axes": {key: list(axes) for key, axes in self.unit_axes.items()},
            "lower_factor": self.lower_factor,
            "silent_decay": self.silent_decay,
            # The default patterns need no names: they match the same paths.
            **(super().get_config() if self._has_own_patterns else {}),
        }

    @property
    def _has_own_patterns(self) -> bool:
        return self.exclude != _HEADS or bool(self.unit_axes)

    def _add_state(self, variables: Sequence[tf.Variable]) -> None:
        """Adds the state of `silent_decay` to that of the wrapped optimizer."""
        for variable in filter(_is_binary, variables if self.silent_decay else ()):
            if key_of(variable) not in self._silences:
                silence = self._silences[key_of(variable)] = Silence(variable)
                self.inner_optimizer._variables.extend(silence.variables)

    def _step(self, pairs: Pairs, apply: Callable[[Pairs], Any]) -> Any:
        if self.silent_decay and not self._silences:
            with tf.init_scope():
                self.build([variable for _, variable in pairs])
        pairs = self._clip(pairs)
        # Step counter and weight decay wait for the check of all gradients, on which
        # each clipped gradient depends.
        with tf.control_dependencies([g for g, _ in pairs if g is not None][:1]):
            return apply(pairs)

    def _clip(self, pairs: Pairs) -> Pairs:
        """Clips aggregated gradients; pairs without a gradient remain unchanged."""
        present = [i for i, (gradient, _) in enumerate(pairs) if gradient is not None]
        if not present:
            return pairs
        variables = [pairs[i][1] for i in present]
        axes = self._axes_of(variables, pairs)
        with tf.name_scope("adaptive_gradient_clipping"):
            clipped = clip_gradients(
                [_to_clip(*pairs[i], of) for i, of in zip(present, axes, strict=True)],
                # A quantized variable would read as ±1 inside a quantized scope.
                [getattr(v, "latent_variable", v) for v in variables],
                axes,
                self.clip_factor,
                self.epsilon,
                [variable.name for variable in variables],
                [self.lower_factor * _is_binary(variable) for variable in variables],
            )
            if self._counts is not None:
                self._counts.add(clipped.factors, clipped.owners, variables)
        result = list(pairs)
        for i, gradient, of in zip(present, clipped.gradients, axes, strict=True):
            silence = self._silences.get(key_of(pairs[i][1]))
            if silence is not None and of is not None:
                offset = silence.offset(pairs[i][1].latent_variable, of)
                gradient += tf.cast(self.silent_decay * offset, gradient.dtype)
            result[i] = (_clipped_like(gradient, *pairs[i]), pairs[i][1])
        return result

    def _axes_of(
        self, variables: Sequence[tf.Variable], pairs: Pairs
    ) -> list[Axes | None]:
        """Returns the axes of a unit of each variable, or None if it is not clipped."""
        latent_free = is_latent_free(self.inner_optimizer, pairs)
        settled = (self.exclude, tuple(self.unit_axes.items()))
        names = self._names_of([variable for _, variable in pairs])
        roles = [
            _unit_axes.axes_of(own, tuple(variable.shape), *settled)
            for own, (gradient, variable) in zip(names, pairs, strict=True)
            if gradient is not None
        ]
        if self.exclude and None not in roles and not self._warned:
            self._warned = True
            _log.warning(
                "AdaptiveGradientClipping clips all variables: %s. Name it in exclude, "
                "or use AdaptiveGradientClipping.for_model(model, optimizer).",
                "no classifier is named head or predictions"
                if self.exclude == _HEADS
                else f"none is found by exclude={self.exclude}",
            )
        return [
            None if latent_free(variable) else role
            for variable, role in zip(variables, roles, strict=True)
        ]

    def _count_for(self, variables: Sequence[Any]) -> ClipCounts:
        """Returns counters that the next trace of the training step will update."""
        counts = self._counts
        if counts is None or [*map(id, variables)] != [*map(id, counts.variables)]:
            counts = self._counts = ClipCounts(variables)
        return counts


def _to_clip(gradient: Any, variable: tf.Variable, axes: Axes | None) -> tf.Tensor:
    """Returns a gradient as a tensor; dense if it will be clipped."""
    if isinstance(gradient, tf.IndexedSlices) and axes is None:
        return gradient.values
    return tf.ensure_shape(tf.convert_to_tensor(gradient), variable.shape)


def _clipped_like(clipped: tf.Tensor, gradient: Any, variable: tf.Variable) -> Any:
    """Returns the clipped values as a gradient; sparse if the gradient was."""
    if isinstance(gradient, tf.IndexedSlices) and clipped.shape != variable.shape:
        return tf.IndexedSlices(clipped, gradient.indices, gradient.dense_shape)
    return clipped


def _is_binary(variable: Any) -> bool:
    """Returns whether a variable contains the latent weights of a binary kernel."""
    return hasattr(variable, "latent_variable") and variable.precision == 1


def is_latent_free(optimizer: Any, pairs: Pairs) -> Callable[[tf.Variable], bool]:
    """Returns a predicate: is a variable trained as signs or as log odds?"""
    if isinstance(optimizer, BayesianLearningRule):
        by_inner = is_latent_free(optimizer.inner_optimizer, split(pairs)[1])
        return lambda variable: is_natural(variable) or by_inner(variable)
    if isinstance(optimizer, OptimizerWrapper):
        return is_latent_free(optimizer.inner_optimizer, pairs)
    if not isinstance(optimizer, lq.optimizers.CaseOptimizer):
        return lambda _: isinstance(optimizer, _LATENT_FREE)
    if optimizer.var_opt_mapping is None:  # as its first step does
        optimizer._compute_var_opt_mapping(pairs)
    chosen = optimizer.var_opt_mapping
    predicates = [is_latent_free(part, pairs) for part in optimizer.optimizers]

    def by_optimizer(variable: tf.Variable) -> bool:
        index = chosen.get(lq.optimizers._var_key(variable))
        return index is not None and predicates[index](variable)

    return by_optimizer
