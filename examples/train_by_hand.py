"""The parts of the recipe `nobn` in Keras' own `fit`, for a network of one's own."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)
train = nobn.data.load("digits", "train", batch_size=64)
test = nobn.data.load("digits", "test", batch_size=256)

image = keras.Input((8, 8, 1))
x = keras.layers.Conv2D(32, 3, padding="same", name="stem")(image)
for _ in range(3):
    y = lq.layers.QuantConv2D(
        filters=32,
        kernel_size=3,
        padding="same",
        pad_values=1.0,
        use_bias=False,
        input_quantizer=nobn.quantizers.RSign(),
        kernel_quantizer=nobn.quantizers.ScaledStdSign(
            scale=0.5, variance_preserving=True, balanced=True
        ),
    )(x)
    x = nobn.layers.RPReLU()(keras.layers.add([x, y]))
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, keras.layers.Dense(10, name="head")(x))

epochs = 8
rate = keras.optimizers.schedules.PolynomialDecay(3e-3, epochs * len(train), 0.0)
grouped = nobn.optimizers.ParameterGroups(
    keras.optimizers.Adam(rate, beta_2=0.99), {"^(shift|gain):": 4.0}
)
model.compile(
    nobn.optimizers.AdaptiveGradientClipping(grouped, clip_factor=0.02),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
nobn.calibrate(model, train)  # before the first step
watching = [
    nobn.callbacks.ThroughputMonitor(batch_size=64),
    nobn.callbacks.BinaryWeightMonitor(),
    nobn.callbacks.GradientClippingMonitor(),
]
model.fit(train, validation_data=test, epochs=epochs, callbacks=watching, verbose=2)
