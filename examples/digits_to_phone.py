"""Train a batch-norm-free binary network on digits and write a verified .tflite."""

import tempfile
from pathlib import Path

import larq_nobn as nobn
import tensorflow as tf

tf.keras.utils.set_random_seed(0)
train = nobn.data.load("digits", "train", batch_size=64)
test = nobn.data.load("digits", "test", batch_size=64)

model = nobn.models.ReActNet18((8, 8, 1), classes=10, width=32, blocks=(2, 2))
nobn.calibrate(model, train)
rate = tf.keras.optimizers.schedules.PolynomialDecay(3e-3, 8 * len(train), 0.0)
model.compile(
    nobn.optimizers.AdaptiveGradientClipping(tf.keras.optimizers.Adam(rate), 0.02),
    tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(train, validation_data=test, epochs=8, verbose=2)

with tempfile.TemporaryDirectory() as folder:
    report = nobn.convert(model, Path(folder) / "digits.tflite", data=test)
    print(report)
