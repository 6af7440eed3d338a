"""Mixed pairs of images and labels."""

from __future__ import annotations

import tensorflow as tf


def shares(alpha: float, examples: int, seed: tuple) -> tf.Tensor:
    """Draws from Beta(α, α) how much of itself each example keeps, (N,) in [0, 1].

    Arguments:
        alpha: The parameter α, above 0.
        examples: Number of draws.
        seed: Two integers, of which the first is 0 or more.
    """
    # Beta by two draws of Gamma, from a stream that nothing else begins.
    seed = (-1 - tf.cast(seed[0], tf.int64), -1 - tf.cast(seed[1], tf.int64))
    gamma = tf.random.stateless_gamma((examples, 2), seed, alpha)
    total = tf.reduce_sum(gamma, 1)
    # Of a small α both may be 0 in float32: then the example stays what it is.
    return tf.where(total > 0, tf.math.divide_no_nan(gamma[:, 0], total), 1.0)


def mixed(
    images: tf.Tensor, labels: tf.Tensor, share: tf.Tensor, classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Mixes each example of a batch with the one before it, the first with the last.

    \[ \tilde x_i = \lambda_i x_i + (1 - \lambda_i) x_{i-1}, \quad
       \tilde y_i = \lambda_i y_i + (1 - \lambda_i) y_{i-1} \]

    Arguments:
        images: (N, height, width, channels).
        labels: (N,) integers.
        share: (N,), the numbers λ.
        classes: Number of classes.

    Returns:
        Images, and probabilities of classes (N, classes), both float32.

    References:
        H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk
        Minimization", ICLR 2018, arXiv:1710.09412.

    Differences from the paper:
        Each example has a λ of its own, and not each batch.
    """
    images = tf.cast(images, tf.float32)
    wide = share[:, None, None, None]
    images = wide * images + (1 - wide) * tf.roll(images, 1, 0)
    hot, share = tf.one_hot(labels, classes), share[:, None]
    return images, share * hot + (1 - share) * tf.roll(hot, 1, 0)
