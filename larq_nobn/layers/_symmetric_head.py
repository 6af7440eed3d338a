from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_channels, check_flag, check_integer, check_number
from .._errors import InvalidValue
from .._keras import Configured, keras, register
from ..initializers._symmetric_classes import random_plane, symmetric_vectors


@register()
class SymmetricHead(Configured, keras.layers.Layer):
    r"""Classifier whose class vectors lie in one plane, at equal angles.

    \[ y = s\, x P R, \qquad
       R_{\cdot k} = \big(\cos\tfrac{2\pi k}{K}, \sin\tfrac{2\pi k}{K}\big)^\top,
       \qquad P^\top P = I, \]

    for K classes and features \(x\) of D numbers. The class vectors \(P R\) have length
    1 and add up to zero, and two of them, \(i\) and \(j\), have the cosine
    \(\cos(2\pi(i-j)/K)\): for two classes they are opposite, for three those of a
    triangle. No class is favored over another, so there is no bias. The plane P is
    made of a free matrix \((f_1, f_2)\) by Gram and Schmidt, in float32 or better,

    \[ e_1 = \frac{f_1}{\|f_1\|}, \qquad
       e_2 = \frac{f_2 - (e_1 \cdot f_2)\, e_1}{h}, \qquad
       h = \|f_2 - (e_1 \cdot f_2)\, e_1\| . \]

    With \(g_1, g_2\), the gradient by \(e_1\) and \(e_2\),

    \[ \frac{\partial L}{\partial f_2} = \frac{g_2 - (e_1 \cdot g_2) e_1
       - (e_2 \cdot g_2) e_2}{h}, \qquad
       \frac{\partial L}{\partial f_1} = \frac{1}{\|f_1\|} \Big( g_1
       - (e_1 \cdot g_1) e_1 - (e_1 \cdot f_2) \frac{\partial L}{\partial f_2}
       - (e_1 \cdot g_2) e_2 \Big) . \]

    Only what turns the plane, or turns it within itself, has a gradient, and the
    lengths of the columns play no part. The scale s is learned, since unit vectors
    alone give no confident probabilities; where it becomes negative, the vectors have
    turned by half a circle, and nothing else has changed.

    A plane has room for few classes. The logit of a class leads those of its neighbors
    by \(s r (1 - \cos\frac{2\pi}{K})\) at most, r the length of the features: by 0.19 s
    r for ten classes, and by 0.002 s r for a hundred.

    At inference: **kept** as one dense layer, into whose kernel all of this folds.

    Arguments:
        classes: Number of classes K, 2 or more.
        scale: Positive number that s starts at. With 1 the class vectors are about as
            long as those of a fresh dense layer, too short for ten classes; an
            optimizer as Adam hardly moves a single number that far.
        trainable_plane: Whether to learn P; otherwise it stays where it starts.
        **kwargs: Keras layer arguments, such as `name`. Networks of this package call
            their classifier `head`, by which clipping and diagnostics know it.

    Weights:
        plane: The free matrix, shape (D, 2); starts with orthonormal columns, at
            random. Not trained without `trainable_plane`.
        scale: s, shape ().

    Input shape:
        (batch, D), with D of 2 or more.

    Output shape:
        (batch, K), logits.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, or inputs that
            are not one vector of features per example.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        image = tf.keras.Input((8, 8, 16))
        x = tf.keras.layers.GlobalAveragePooling2D()(image)
        model = tf.keras.Model(image, nobn.layers.SymmetricHead(10, name="head")(x))
        ```

    References:
        - I. Kansizoglou, L. Bampis, A. Gasteratos, "Do Neural Network Weights Account
          for Classes Centers?", IEEE Transactions on Neural Networks and Learning
          Systems, 2022, arXiv:2104.07004.

    Differences from the paper:
        How the plane is learned, and the scale, are our own. The paper states the
        symmetry, from which the angles and the sum of zero follow here by construction.
    """

    _in_config = "classes scale=_initial_scale trainable_plane"

    def __init__(
        self,
        classes: int,
        scale: float = 20.0,
        trainable_plane: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.classes = check_integer("classes", classes, 2, "A classifier needs two.")
        self.scale = self._initial_scale = check_number(
            "scale", scale, "(0, inf)", "It multiplies the logits; 20 is a good start."
        )
        self.trainable_plane = check_flag("trainable_plane", trainable_plane)

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tuple(input_shape)
        features = check_channels("SymmetricHead", shape)
        if len(shape) != 2 or features < 2:
            raise InvalidValue(
                f"SymmetricHead got an input of shape {shape}, but it takes one vector "
                "of two features or more per example. Pool or flatten maps before it."
            )
        self.plane = self.add_weight(
            "plane", (features, 2), random_plane, trainable=self.trainable_plane
        )
        self.scale = self.add_weight("scale", (), self._initial_scale)
        super().build(input_shape)

    def class_vectors(self) -> tf.Tensor:
        """Returns s·PR, (D, K): what the kernel would be of a dense layer."""
        vectors = symmetric_vectors(tf.convert_to_tensor(self.plane), self.classes)
        return tf.cast(self.scale, vectors.dtype) * vectors

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(inputs, tf.cast(self.class_vectors(), inputs.dtype))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([*tuple(input_shape)[:-1], self.classes])
