"""Binary kernels of ReCU: tau frees more weights from epoch to epoch."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)


def block(x, channels):
    """FRN(conv(sign(x))) + x; the standardization scales the sign's gradient only."""
    y = nobn.layers.ActivationStandardization()(x)
    y = lq.layers.QuantConv2D(
        channels,
        3,
        padding="same",
        pad_values=1.0,
        use_bias=False,
        input_quantizer="approx_sign",
        kernel_quantizer=nobn.quantizers.ReCU(),
    )(y)
    return keras.layers.add([nobn.layers.FilterResponseNormalization()(y), x])


image = keras.Input((8, 8, 1))
x = keras.layers.Conv2D(32, 3, padding="same")(image)
for _ in range(3):
    x = block(x, 32)
x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
model = keras.Model(image, keras.layers.Dense(10, name="head")(x))
model.compile(
    keras.optimizers.Adam(3e-3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
train = nobn.data.load("digits", "train", batch_size=16)
test = nobn.data.load("digits", "test", batch_size=256)
schedule = nobn.callbacks.TauScheduler(start=0.85, end=0.99)
model.fit(train, validation_data=test, epochs=6, verbose=2, callbacks=[schedule])
