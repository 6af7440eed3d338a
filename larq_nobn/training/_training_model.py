"""One training step: micro-batches, a teacher, and a stop at a non-finite loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from .._errors import InvalidValue
from .._keras import dtype_policy, keras
from .._math import at_least_float32
from ..graph import _graph, _signs

NOT_FINITE = "The loss is not finite"
Probabilities = Callable[[tf.Tensor], Any]


class TrainingModel(keras.Model):
    r"""A model with a network's layers and weights, and its own training step.

    Without a teacher and with one micro-batch the step is bitwise identical to Keras.

    - *Accumulation.* Each batch (on each replica, its slice) is cut into k
      micro-batches. Their mean gradient makes one update, equal to that of the whole
      batch if layers are batch-independent, and needs the memory of one micro-batch.
    - *Distillation.* The training loss is the cross-entropy to the teacher's
      probabilities. Labels are used by the metrics alone:

      \[ L = -\frac{1}{N} \sum_n \sum_k \mathrm{softmax}(t_n)_k \log
         \mathrm{softmax}(s_n)_k . \]

    - *Attention.* With weight w, the networks' attention maps are drawn together. For
      the feature maps \(a\) of J sizes, a sum over channels, and a mean over examples:

      \[ L \leftarrow L + w \sum_{j=1}^J \operatorname{mean}_n \Big\|
         \frac{q_s}{\|q_s\|} - \frac{q_t}{\|q_t\|} \Big\|^2, \qquad
         q = \sum_c a_c^2 . \]

      It is not part of the reported loss.
    - *Labels* are numbers, or probabilities (N, classes) for mixed images. Smoothing
      spreads the fraction ε of a label evenly over all K classes,
      \( q_k = (1 - \varepsilon) y_k + \varepsilon / K \). Class weights multiply the
      loss of an example by the weight of its label, for mixed images by the mean
      weight. Metrics count the most probable class. Tests use neither.
    - *Penalties* of layers and regularizers are minimized with the loss, but reported
      apart: `loss` and `val_loss` do not contain them, and `penalty`, which only
      networks with penalties have, is their mean over the steps of an epoch.
    - *Stop.* A loss that is not finite raises an InvalidArgumentError with `NOT_FINITE`
      in its message, before any update; not under XLA, which drops assertions.
    - *Resuming.* The first epoch of `fit` starts at step `first_step`, by default 0.
      `skips_step` says that this step, the last of its epoch, is done already.

    Layers and optimizer are the network's own objects. Save the network, not this.

    Arguments:
        network: A functional classifier with one input; with a teacher it must end in
            logits.
        accumulate: Number k of micro-batches, 1 or more; must divide the batch.
        teacher: Returns the probabilities (N, classes) for a batch of inputs; with
            `attention`, these and feature maps, as `with_feature_maps` does.
        label_smoothing: The fraction ε, in [0, 1); not used with a teacher.
        class_weights: One number per class; None for equal weights.
        after_step: Called in the graph after each update, with the number of steps.
        attention: The weight w; 0 for none.

    References:
        G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network",
        2015, arXiv:1503.02531.
        C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, "Rethinking the
        Inception Architecture for Computer Vision", CVPR 2016, arXiv:1512.00567.
        B. Martinez, J. Yang, A. Bulat, G. Tzimiropoulos, "Training Binary Neural
        Networks with Real-to-Binary Convolutions", ICLR 2020, arXiv:2003.11535
        (attention).

    Differences from the paper:
        Temperature 1 and no labels, as binary networks are commonly taught. Martinez et
        al. compare the maps after each block, with norms that are not squared.
    """

    def __init__(
        self,
        network: keras.Model,
        accumulate: int = 1,
        teacher: Probabilities | None = None,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        after_step: Callable[[tf.Tensor], None] | None = None,
        attention: float = 0.0,
    ) -> None:
        with dtype_policy(network.dtype_policy.name):
            super().__init__(network.inputs, network.outputs, name=network.name)
        self._accumulate = accumulate
        self.first_step, self.skips_step = 0, False
        # In a lambda, which Keras does not inspect: it would track a model in an
        # attribute, and train and save it with this one.
        self._teacher: Any = teacher and (lambda images: teacher(images))
        self._attention = attention
        with_maps: Any = with_feature_maps(network) if attention else None
        self._with_maps = lambda: with_maps
        self._smoothing = label_smoothing
        self._after_step = after_step
        self._class_weights = None if class_weights is None else tuple(class_weights)
        # In a lambda as well: its variables are not the network's.
        penalty: Any = keras.metrics.Mean("penalty") if network.losses else None
        self._penalty = lambda: penalty

    @property
    def metrics(self) -> list[Any]:
        """Keras' metrics, and the mean penalty if the network has penalties."""
        penalty = self._penalty()
        return super().metrics if penalty is None else [*super().metrics, penalty]

    def _minimized(
        self, target: tf.Tensor, predicted: tf.Tensor, weight: Any, distance: Any
    ) -> Any:
        """Returns loss plus penalties and attention; updates the metrics of both."""
        loss = self.compiled_loss(target, predicted, weight)
        if not self.losses and distance is None:
            return loss
        wide = tf.float64 if loss.dtype == tf.float64 else tf.float32
        penalty = tf.zeros((), wide)
        if self.losses:
            penalty = tf.add_n([tf.cast(value, wide) for value in self.losses])
            self._penalty().update_state(penalty, sample_weight=tf.shape(predicted)[0])
        if distance is not None:
            penalty += self._attention * tf.cast(distance, wide)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:  # gradients are summed over replicas
            penalty *= 1.0 / replicas
        return tf.cast(loss, wide) + penalty

    def compile(self, optimizer: Any, loss: keras.losses.Loss, **options: Any) -> None:
        """Compiles as Keras does; tests always compute the loss from labels."""
        super().compile(optimizer, _LossOfAnyTarget(loss), **options)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one training step; returns the metrics of the epoch so far."""
        compute = self._gradients if self._accumulate == 1 else self._mean_gradients
        gradients, loss = compute(data)
        with tf.control_dependencies([tf.debugging.check_numerics(loss, NOT_FINITE)]):
            self.optimizer.apply_gradients(
                zip(gradients, self.trainable_variables, strict=True)
            )
        if self._after_step is not None:
            self._after_step(self.optimizer.iterations)
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes Keras' test step, also on a replica whose slice of a batch is empty."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        count = tf.shape(x)[0]
        # TensorFlow's fused convolutions return the wrong shape for an empty batch.
        blanks = tf.cast(count == 0, tf.int32)
        x = tf.pad(x, [(0, blanks), *[(0, 0)] * (x.shape.rank - 1)])
        predicted = self(x, training=False)[:count]
        self.compiled_loss(y, predicted, weight)
        self.compiled_metrics.update_state(y, predicted, weight)
        metrics = self.get_metrics_result()
        return {name: value for name, value in metrics.items() if name != "penalty"}

    def _maybe_load_initial_counters_from_ckpt(
        self, steps_per_epoch: int, initial_epoch: int
    ) -> tuple[int, int]:
        """Returns where `fit` starts; Keras calls it to resume from its own backups."""
        return initial_epoch, self.first_step

    def make_train_function(self, force: bool = False) -> Any:
        """Returns Keras' train function; with `skips_step`, it first drops a batch."""
        function = super().make_train_function(force)
        if not self.skips_step or function.__name__ == "skip":
            return function

        def skip(iterator: Any) -> dict[str, tf.Tensor]:
            next(iterator)
            self.train_function, self.skips_step = function, False
            return self.get_metrics_result()

        self.train_function = skip
        return skip

    def _gradients(self, data: Any) -> tuple[list[Any], tf.Tensor]:
        """Returns gradients and loss of one (micro-)batch; updates the metrics."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        target, y, weight, taught = self._target(x, y, weight)
        scaled = isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)
        with tf.GradientTape() as tape:
            distance = None
            if taught is None:
                predicted = self(x, training=True)
            else:
                predicted, maps = self._with_maps()(x, training=True)
                distance = attention_distance(maps, taught)
            loss = self._minimized(target, predicted, weight, distance)
            start = self.optimizer.get_scaled_loss(loss) if scaled else loss
        gradients = tape.gradient(start, self.trainable_variables)
        if scaled:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.compiled_metrics.update_state(y, predicted, weight)
        return gradients, loss

    def _target(
        self, x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None, Any]:
        """Returns target, labels as numbers, example weights, and a teacher's maps."""
        classes, mixed = self.output_shape[-1], y.shape.rank == 2
        labels = tf.argmax(y, 1) if mixed else y
        whole = y if mixed else tf.one_hot(y, classes)
        if self._class_weights is not None:
            weight = tf.reduce_sum(whole * self._class_weights, 1)
        taught = None
        if self._attention:
            y, taught = self._teacher(x)
        elif self._teacher is not None:
            y = self._teacher(x)
        elif self._smoothing:
            y = (1 - self._smoothing) * whole + self._smoothing / classes
        return y, labels, weight, taught

    def _mean_gradients(self, data: Any) -> tuple[list[Any], tf.Tensor]:
        """Returns gradients and loss: means over micro-batches, one after the other."""
        count = self._accumulate
        micro_batches = tf.nest.map_structure(
            lambda batch: tf.reshape(batch, (count, -1, *batch.shape[1:])), data
        )
        reached: list[bool] = []

        def add(before: tuple[list[tf.Tensor], tf.Tensor], data: Any) -> Any:
            (sums, loss), (gradients, own_loss) = before, self._gradients(data)
            reached[:] = [gradient is not None for gradient in gradients]
            pairs = zip(sums, gradients, strict=True)
            return [x if y is None else x + y for x, y in pairs], loss + own_loss

        zeros = [tf.zeros_like(weight) for weight in self.trainable_variables]
        start = (zeros, tf.zeros(()))
        sums, loss = tf.foldl(add, micro_batches, start, parallel_iterations=1)
        pairs = zip(sums, reached, strict=True)
        return [total / count if used else None for total, used in pairs], loss / count


def with_feature_maps(model: keras.Model) -> keras.Model:
    """Returns a model of the same layers with two outputs: the model's, and its maps.

    These are the last real-valued feature maps of every size, by names such as "8x8".
    """
    maps = {}
    for call in _graph.calls_of(model):
        shape = call.first_output.shape
        is_map = shape.rank == 4 and shape[1:3].num_elements() != 1
        if is_map and not _signs.is_binary(call.layer):
            maps["x".join(map(str, shape[1:3]))] = call.first_output
    return keras.Model(model.inputs, [*model.outputs, maps])


def attention_distance(
    ours: dict[str, tf.Tensor], theirs: dict[str, tf.Tensor]
) -> tf.Tensor:
    """Returns the squared distance of unit attention maps, a sum over common sizes."""
    sizes = sorted(ours.keys() & theirs.keys())
    if not sizes:
        raise InvalidValue(
            f"Network and teacher have no feature maps of the same size: {[*ours]} and "
            f"{[*theirs]}. Train with attention=0, or choose another teacher."
        )

    def unit(maps: tf.Tensor) -> tf.Tensor:
        q = tf.reduce_sum(tf.square(at_least_float32(maps)), 3)
        return tf.math.l2_normalize(tf.reshape(q, (tf.shape(q)[0], -1)), 1)

    squares = [tf.square(unit(ours[size]) - unit(theirs[size])) for size in sizes]
    return tf.add_n([tf.reduce_mean(tf.reduce_sum(each, 1)) for each in squares])


class _LossOfAnyTarget(keras.losses.Loss):
    """Cross-entropy if targets are probabilities; the given loss if they are labels."""

    def __init__(self, of_labels: keras.losses.Loss) -> None:
        super().__init__(of_labels.reduction, of_labels.name)
        self._of_labels = of_labels

    def call(self, target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if not target.dtype.is_floating:
            return self._of_labels.call(target, logits)
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Returns class weights that give all classes the same fraction of the loss.

    A class with n of N training images of K classes has the weight N / (K n).
    """
    present = [count for count in counts if count]
    return [count and sum(present) / (len(present) * count) for count in counts]
