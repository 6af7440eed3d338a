from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_number
from .._keras import RandomLayer, keras, register
from .._larq import lq
from .._math import at_least_float32, fused, tanh_slope, with_gradient
from ._kernel_quantizer import KernelQuantizer


@fused
def _noisy(natural: tf.Tensor, uniform: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """Computes (λ + δ) / T, with the logistic noise δ of the uniform draws."""
    noise = (tf.math.log(uniform) - tf.math.log1p(-uniform)) / 2
    return (at_least_float32(natural) + noise) / temperature


@fused
def _gradient(noisy: tf.Tensor, upstream: tf.Tensor, temperature: tf.Tensor) -> Any:
    return at_least_float32(upstream) * tanh_slope(noisy) / temperature


@with_gradient
def bernoulli_sign(
    natural: tf.Tensor, *, uniform: tf.Tensor, temperature: float, hard: bool
) -> tuple[tf.Tensor, Callable]:
    """Draws ±1 weights, or relaxed ones; the gradient is that of the relaxation.

    `uniform` has one number in (0, 1) per weight, in the dtype of the computation.
    """
    t = tf.constant(temperature, uniform.dtype)
    noisy = _noisy(natural, uniform, t)
    value = lq.math.sign(noisy) if hard else tf.tanh(noisy)

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        return tf.cast(_gradient(noisy, upstream, t), natural.dtype)

    return tf.cast(value, natural.dtype), grad


def open_uniform(generator: tf.random.Generator, like: tf.Tensor) -> tf.Tensor:
    """Draws numbers in the open interval (0, 1), the same in every replica.

    Drawing from a generator gives each replica other numbers, as dropout needs. Its
    state is the same in all replicas, so numbers drawn from the state are, too.
    """
    state = generator.skip(1)
    seed = tf.stack([state[0], state[-1]])  # the counter and the key
    drawn = tf.random.stateless_uniform(tf.shape(like), seed, dtype=tf.float32)
    # The numbers are multiples of 2^-23 from 0; this moves them to interval centers.
    return tf.cast(drawn + 2.0**-24, at_least_float32(like).dtype)


@register("bernoulli_sign")
class BernoulliSign(RandomLayer, KernelQuantizer):
    r"""Random binary kernel with trained probabilities of its signs.

    The kernel of the layer contains natural parameters λ of independent weights: each
    is +1 with probability \((1 + \tanh\lambda)/2\), and its mean is \(\tanh\lambda\).
    In training, with temperature \(T\) and a new uniform \(\epsilon\) per weight,

    \[ \delta = \tfrac12 \ln\frac{\epsilon}{1 - \epsilon}, \qquad
       w = \tanh\frac{\lambda + \delta}{T}, \qquad
       \frac{\partial L}{\partial\lambda} = g\,\frac{1 - w^2 + 10^{-10}}{T}, \]

    which for \(T \to 0\) becomes a sample of the binary weight,
    \(\operatorname{sign}(\lambda + \delta)\); with `hard=True` training uses that
    sample, with the same gradient. At inference, and wherever the kernel is read
    outside of training, the weight is its most probable value, with sign(0) = +1 and
    without a gradient:

    \[ w = \operatorname{sign}(\lambda) . \]

    In networks with batch norm, moving averages are those of the samples: before you
    evaluate or save, call `larq_nobn.reestimate_batch_norm`, as `train` does.

    Train it with `optimizers.BayesianLearningRule`, which uses the natural gradient of
    λ and the prior. Any other optimizer uses the gradient above. λ is not limited to
    [-1, 1]: set no `kernel_constraint`. Every call draws a new sample, so each
    micro-batch has its own; replicas use the same. At inference: **removed**; the
    sign is the kernel of the binary convolution.

    Arguments:
        temperature: T, from 1e-12; 1 is smooth, 1e-10 nearly binary. Recipes have 0.3.
        hard: Whether training uses ±1 instead of the relaxation.
        seed: Whole number that decides the draws; None uses the seed of Keras.
        metrics: `["flip_ratio"]`, of sign(λ), or `[]`; None takes those of Larq's
            `metrics_scope`.
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        A kernel of any shape.

    Output shape:
        The input shape; at inference the values are -1 and +1.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import tensorflow as tf

        model = tf.keras.Sequential([
            tf.keras.Input((8, 8, 32)),
            lq.layers.QuantConv2D(
                64, 3, padding="same", pad_values=1.0, use_bias=False,
                input_quantizer="approx_sign",
                kernel_quantizer=nobn.quantizers.BernoulliSign(),
            ),
        ])
        model.compile(
            nobn.optimizers.BayesianLearningRule(
                "adam", learning_rate=1.0, prior_weight=1e-3
            ),
            "mse",
        )
        ```

    References:
        - H. Jang, N. Skatchkovsky, O. Simeone, "BiSNN: Training Spiking Neural Networks
          with Binary Weights via Bayesian Learning", 2020, arXiv:2012.08300.
        - X. Meng, R. Bachmann, M. E. Khan, "Training Binary Neural Networks using the
          Bayesian Learning Rule", ICML 2020, arXiv:2002.10778.

    Differences from the paper:
        The uniform numbers are the centers of 2^23 intervals, so δ lies within ±8.3.
        `hard` is an addition.
    """

    precision = 1
    # Beyond it, a sample has the less probable sign once in 22,000 draws, and the
    # gradient of that one step would outweigh all others.
    latent_limit = 5.0
    # `BayesianLearningRule` reads this attribute, as Larq's `Bop` reads `precision`.
    natural_parameters = True
    _in_config = "temperature hard"

    def __init__(self, temperature: float = 1.0, hard: bool = False, **kwargs: Any):
        # Otherwise Keras may draw by operations whose state cannot be read.
        super().__init__(force_generator=True, **kwargs)
        self.temperature = check_number(
            "temperature",
            temperature,
            "[1e-12, inf)",
            "1 is smooth, 1e-10 nearly binary.",
        )
        self.hard = check_flag("hard", hard)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        if self.flip_ratio is not None:
            self._measured(lq.math.sign(inputs))
        return keras.backend.in_train_phase(
            lambda: bernoulli_sign(
                inputs,
                uniform=open_uniform(self._random_generator._generator, inputs),
                temperature=self.temperature,
                hard=self.hard,
            ),
            lambda: lq.math.sign(inputs),
            training,
        )
