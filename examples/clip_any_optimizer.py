"""Adaptive gradient clipping around Larq's own optimizers, for latent-free weights."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)
binary = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": lq.quantizers.NoOp(precision=1),
    "kernel_initializer": keras.initializers.RandomUniform(-1, 1),
    "use_bias": False,
}
model = keras.Sequential(
    [
        keras.layers.Conv2D(32, 3, padding="same", input_shape=(8, 8, 1)),
        keras.layers.BatchNormalization(momentum=0.9),
        lq.layers.QuantConv2D(64, 3, strides=2, padding="same", **binary),
        keras.layers.BatchNormalization(momentum=0.9),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, name="head"),
    ]
)
kernel = model.layers[2].kernel.latent_variable
kernel.assign(lq.math.sign(kernel))  # Bop flips weights of -1 and +1

clipped = nobn.optimizers.AdaptiveGradientClipping(
    keras.optimizers.legacy.Adam(0.01), clip_factor=0.02
)
optimizer = lq.optimizers.CaseOptimizer(
    (lq.optimizers.Bop.is_binary_variable, lq.optimizers.Bop(threshold=1e-6)),
    default_optimizer=clipped,
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer, loss, metrics=["accuracy"])
train = nobn.data.load("digits", "train", batch_size=64)
test = nobn.data.load("digits", "test", batch_size=256)
model.fit(train, validation_data=test, epochs=5, verbose=2)
