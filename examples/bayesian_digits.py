"""Binary weights with a posterior: train, average networks, plot, convert the mode."""

from pathlib import Path

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)
train = nobn.data.load("digits", "train", batch_size=32)
test = nobn.data.load("digits", "test", batch_size=256)
folder, epochs = Path("runs/bayesian_digits"), 15
folder.mkdir(parents=True, exist_ok=True)


def binary(x):
    kernel = {
        "kernel_quantizer": nobn.quantizers.BernoulliSign(temperature=0.5),
        "kernel_constraint": lq.constraints.WeightClip(5.0),  # all but certain
    }
    around = {"padding": "same", "pad_values": 1.0, "input_quantizer": "approx_sign"}
    y = lq.layers.QuantConv2D(32, 3, use_bias=False, **around, **kernel)(x)
    return keras.layers.add([x, keras.layers.BatchNormalization(momentum=0.9)(y)])


x = image = keras.Input((8, 8, 1))
x = binary(binary(binary(keras.layers.Conv2D(32, 3, padding="same")(x))))
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, keras.layers.Dense(10, name="head")(x))
rate = keras.optimizers.schedules.PolynomialDecay(300.0, epochs * len(train), 0.0)
rule = nobn.optimizers.BayesianLearningRule("adam", rate, prior_weight=1e-5)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(rule, loss, metrics=["accuracy"])
model.fit(train, validation_data=test, epochs=epochs, verbose=2)
found = nobn.diagnostics.sampled_predictions(model, test, samples=16)
averaged = found.probabilities, found.labels
print(f"average of 16: {(averaged[0].argmax(1) == averaged[1]).mean():.1%}")
nobn.diagnostics.reliability_diagram(*averaged, folder / "reliability.png")
print(nobn.convert(model, folder / "mode.tflite", data=test))
