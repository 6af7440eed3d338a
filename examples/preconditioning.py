"""Plain SGD along the gradient that batch norm would give, without batch norm."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)
preconditioned = nobn.layers.BatchNormalizationPreconditioning


def binary_conv(filters, **kwargs):
    conv = lq.layers.QuantConv2D(
        filters,
        3,
        padding="same",
        pad_values=1.0,
        input_quantizer="approx_sign",
        kernel_quantizer="scaled_std_sign",
        **kwargs,
    )
    return preconditioned(conv)  # the inference graph is that of the layer alone


model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        preconditioned(keras.layers.Conv2D(32, 3, padding="same")),
        binary_conv(64, strides=2),
        binary_conv(64),
        keras.layers.GlobalAveragePooling2D(),
        preconditioned(keras.layers.Dense(10, name="head")),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.03), loss, metrics=["accuracy"])
train = nobn.data.load("digits", "train", batch_size=32)
test = nobn.data.load("digits", "test", batch_size=256)
model.fit(train, validation_data=test, epochs=8, verbose=2)
