"""The penalties of BNN+: the magnitudes of latent weights move towards one scale."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)
# A scale that is learned, one per output channel ...
learned = nobn.quantizers.BinaryRegularized(
    "scaled_std_sign", strength=0.01, per_channel=True
)
# ... and one that follows the weights, their mean magnitude.
follows = nobn.regularizers.BinaryRegularizer(order=2, strength=0.03)


def binary(x, **kernel):
    around = {"padding": "same", "pad_values": 1.0, "input_quantizer": "sign_swish"}
    return keras.layers.add([lq.layers.QuantConv2D(32, 3, **around, **kernel)(x), x])


image = keras.Input((8, 8, 1))
x = keras.layers.Conv2D(32, 3, padding="same")(image)
x = binary(x, kernel_quantizer=learned)
x = binary(x, kernel_quantizer="scaled_std_sign", kernel_regularizer=follows)
x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
model = keras.Model(image, keras.layers.Dense(10, name="head")(x))

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
train = nobn.data.load("digits", "train", batch_size=16)
test = nobn.data.load("digits", "test", batch_size=256)
model.fit(train, validation_data=test, epochs=6, verbose=2)
for layer in model.layers:
    if isinstance(layer, lq.layers.QuantConv2D):
        sizes = abs(layer.kernel.latent_variable.numpy())
        print(f"relative spread of |w|: {sizes.std() / sizes.mean():.2f}, once 0.58")
