"""What a C file makes by walks over maps and windows, and what it rejects by name."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, chain, images
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, Runner

layers = keras.layers
SHAPE = (8, 8, 3)


class Products(layers.Layer):
    """Products of matrices: turned, of several axes, and one for several others."""

    def call(self, x):
        a, b = tf.reshape(x, (-1, 16, 8)), tf.reshape(x, (-1, 8, 16))
        heads = tf.reshape(x, (-1, 4, 4, 8))
        each = tf.matmul(heads, a[:, None], transpose_b=True)
        return tf.concat(
            [
                *(tf.matmul(a, a, transpose_b=True), tf.matmul(b, b, transpose_a=True)),
                *(tf.matmul(a, b), tf.reshape(each, (-1, 16, 16))),
                tf.matmul(b, a, transpose_a=True, transpose_b=True),
            ],
            axis=-1,
        )


class Attention(layers.Layer):
    """Two heads, whose projections are einsums."""

    def __init__(self):
        super().__init__()
        self.inner = layers.MultiHeadAttention(2, 4)

    def call(self, x):
        return self.inner(x, x)


class Counts(layers.Layer):
    """Which numbers are between others, and whether conditions hold."""

    def __init__(self):
        super().__init__()
        self.buckets = layers.Discretization([-3.0, 0.0, 2.5])

    def call(self, x):
        every, some = tf.reduce_all(x > -4, -1, True), tf.reduce_any(x > 4, -1, True)
        made = (self.buckets(x), every, some)
        return tf.concat([x, *(tf.cast(each, x.dtype) for each in made)], -1)


NETS = {
    "counts": [binary_conv(4), Counts()],
    "products": [binary_conv(2), Products()],
    "attention": [
        binary_conv(2),
        layers.Reshape((16, 8)),
        Attention(),
    ],
    "norms": [
        *(binary_conv(4), layers.LayerNormalization(), layers.GroupNormalization(2)),
        *(layers.UnitNormalization(), layers.Softmax(), layers.Softmax(axis=1)),
    ],
    "windows": [
        binary_conv(4, pad_values=0.0),
        layers.MaxPooling2D(3, 1, "same"),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        layers.Conv2D(4, 3, padding="same", dilation_rate=2, groups=2),
        layers.Conv2DTranspose(3, 3, 2, "same"),
        layers.AveragePooling2D(3, 2, "same"),
    ],
    "few_channels": [
        binary_conv(10, pad_values=-1.0),
        binary_conv(16, pad_values=0.0),
        binary_conv(5, pad_values=1.0),
    ],
}


@pytest.mark.parametrize("name", NETS)
def test_walks_and_windows(tmp_path, name):
    net = chain(*NETS[name], shape=SHAPE, stem=False, name=name)
    nobn.convert(net, tmp_path / "net.c")
    given = images(3, SHAPE)
    wanted = net.predict(given, verbose=0)
    np.testing.assert_allclose(
        Runner(tmp_path / "net.c")(given), wanted, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("layer", "shape", "operation"),
    [
        (layers.Conv3D(2, 3, name="own"), (5, 5, 5, 2), "Conv3D"),
        (layers.UpSampling2D(2, "channels_last", "bilinear", name="own"), SHAPE, "Res"),
        (layers.LSTM(2, name="own"), (4, 2), ""),
    ],
    ids=lambda x: getattr(x, "__class__", x).__name__,
)
def test_what_is_rejected_is_named(tmp_path, layer, shape, operation):
    net = chain(layer, shape=shape, stem=False)
    message = f"'own' needs the operation '{operation}"
    with pytest.raises(ConversionError, match=message):
        nobn.convert(net, tmp_path / "net.c", allow_float=True)
    assert not [*tmp_path.iterdir()]
