"""A spiking classifier: every weight is ±c, every activation a spike, eight steps."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)


def binary_dense(units):
    kernel = nobn.quantizers.ScaledStdSign(scale=2.0)
    return lq.layers.QuantDense(units, kernel_quantizer=kernel, name=f"binary_{units}")


image = keras.Input((8, 8, 1))
# The image is a constant current, so that its layer runs once for all steps.
current = binary_dense(256)(keras.layers.Flatten()(image))
x = keras.layers.RepeatVector(8)(current)
x = nobn.layers.LeakyIntegrateAndFire(decay=0.9)(x)
x = binary_dense(128)(x)
x = nobn.layers.LeakyIntegrateAndFire(decay=0.9)(x)
# Mean over time of the readout: its weights times the spike counts.
x = keras.layers.GlobalAveragePooling1D()(binary_dense(10)(x))
model = keras.Model(image, x)
nobn.models.summary(model)

train = nobn.data.load("digits", "train", batch_size=32)
test = nobn.data.load("digits", "test", batch_size=256)
epochs = 30
rate = keras.optimizers.schedules.PolynomialDecay(3e-3, epochs * len(train), 0.0)
model.compile(
    keras.optimizers.Adam(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = model.fit(train, validation_data=test, epochs=epochs, verbose=2)
assert history.history["val_accuracy"][-1] > 0.9
