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
    \(\cos(2\pi(i-j)/K)\): two classes have opposite vectors, three those of a
    triangle. No class is favored, so there is no bias. The Gram-Schmidt process makes
    the plane P from a free matrix \((f_1, f_2)\), in float32 or better,

    \[ e_1 = \frac{f_1}{\|f_1\|}, \qquad
       e_2 = \frac{f_2 - (e_1 \cdot f_2)\, e_1}{h}, \qquad
       h = \|f_2 - (e_1 \cdot f_2)\, e_1\| . \]

    With the gradients \(g_1, g_2\) of \(e_1, e_2\),

    \[ \frac{\partial L}{\partial f_2} = \frac{g_2 - (e_1 \cdot g_2) e_1
       - (e_2 \cdot g_2) e_2}{h}, \qquad
       \frac{\partial L}{\partial f_1} = \frac{1}{\|f_1\|} \Big( g_1
       - (e_1 \cdot g_1) e_1 - (e_1 \cdot f_2) \frac{\partial L}{\partial f_2}
       - (e_1 \cdot g_2) e_2 \Big) . \]

    Only rotations of the plane, and within it, have a gradient; the lengths of the
    columns have none. The scale s is learned, since unit vectors alone give no
    confident probabilities; a negative s rotates all class vectors by half a circle.

    Use it for few classes. For features of length r, the logit of a class exceeds those
    of its neighbors by at most \(s r (1 - \cos\frac{2\pi}{K})\): by 0.19 s r for ten
    classes, by 0.002 s r for a hundred.

    At inference: **kept** as one dense layer, whose kernel is \(s P R\).

    Arguments:
        classes: Number of classes K, 2 or more.
        scale: Initial s, positive. With 1, class vectors are about as long as those of
            a new dense layer, which is too short for ten classes, and optimizers such
            as Adam change a single number too slowly to correct that.
        trainable_plane: Whether to learn P; otherwise it is constant.
        **kwargs: Keras layer arguments, such as `name`. Use the name `head`, by which
            clipping and diagnostics find the classifier.

    Weights:
        plane: The free matrix, shape (D, 2); starts with random orthonormal columns.
            Not trained without `trainable_plane`.
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
        The learned plane and scale are additions. The paper states the symmetry; here
        the angles and the sum of zero follow from the construction.
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
        """Returns s·PR, (D, K), the kernel of an equal dense layer."""
        vectors = symmetric_vectors(tf.convert_to_tensor(self.plane), self.classes)
        return tf.cast(self.scale, vectors.dtype) * vectors

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(inputs, tf.cast(self.class_vectors(), inputs.dtype))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([*tuple(input_shape)[:-1], self.classes])
