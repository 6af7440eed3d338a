"""A Larq network of one's own without batch norm, trained two images at a time."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)


def block(x, channels):
    """RPReLU(conv(sign(x)) + x); the kernel does what batch norm would."""
    conv = lq.layers.QuantConv2D(
        channels,
        3,
        padding="same",
        pad_values=1.0,
        use_bias=False,
        input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(
            scale=0.5, variance_preserving=True, balanced=True
        ),
    )
    return nobn.layers.RPReLU()(keras.layers.add([conv(x), x]))


image = keras.Input((8, 8, 1))
x = keras.layers.Conv2D(32, 3, padding="same")(image)
for _ in range(3):
    x = block(x, 32)
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, keras.layers.Dense(10, name="head")(x))
nobn.models.summary(model)

model.compile(
    nobn.optimizers.AdaptiveGradientClipping(keras.optimizers.Adam(3e-3), 0.02),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
train = nobn.data.load("digits", "train", batch_size=2)
test = nobn.data.load("digits", "test", batch_size=256)
model.fit(train, validation_data=test, epochs=3, verbose=2)
