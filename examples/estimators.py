"""One binary network, trained with four pseudo-gradients of the sign."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
quantizers = nobn.quantizers
ESTIMATORS = {
    "approx_sign": quantizers.RSign,
    "sign_swish": lambda: quantizers.SignSwish(beta=5.0, trainable_beta=True),
    "sigmoid_sign": lambda: quantizers.SigmoidSign(slope=3.0),
    "reste": lambda: quantizers.RSign(estimator="reste"),
}


def network(activation):
    x = image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(32, 3, padding="same")(x)
    for _ in range(3):
        kernel = quantizers.ScaledStdSign(scale=0.5, variance_preserving=True)
        binary = {"input_quantizer": activation(), "kernel_quantizer": kernel}
        y = lq.layers.QuantConv2D(32, 3, padding="same", pad_values=1.0, **binary)(x)
        x = nobn.layers.RPReLU()(keras.layers.add([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(10, name="head")(x))


train = nobn.data.load("digits", "train", batch_size=32)
test = nobn.data.load("digits", "test", batch_size=256)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
accuracy = {}
for name, activation in ESTIMATORS.items():
    keras.utils.set_random_seed(0)  # the same start for each
    model = network(activation)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    move = [nobn.callbacks.PowerScheduler()] if name == "reste" else []
    run = model.fit(train, validation_data=test, epochs=8, verbose=2, callbacks=move)
    accuracy[name] = run.history["val_accuracy"][-1]
for name, found in accuracy.items():
    print(f"{name:14} {found:.1%}")
