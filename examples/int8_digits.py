"""Fine-tune a binary network for int8, and compare its file with the float one."""

import tempfile
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import tensorflow as tf

tf.keras.utils.set_random_seed(0)
train = nobn.data.load("digits", "train", batch_size=64)
test = nobn.data.load("digits", "test", batch_size=64)


def fit(model, rate, epochs):
    model.compile(
        nobn.optimizers.AdaptiveGradientClipping(tf.keras.optimizers.Adam(rate), 0.02),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train, validation_data=test, epochs=epochs, verbose=2)


def accuracy(path):
    run = nobn.deploy.Runner(path.read_bytes())
    hits = [np.argmax(run(x.numpy()), axis=-1) == y.numpy() for x, y in test]
    return np.concatenate(hits).mean()


model = nobn.models.ReActNet18((8, 8, 1), classes=10, width=32, blocks=(2, 2))
fit(model, rate=3e-3, epochs=8)
quantized = nobn.deploy.fake_quantize(model, train)
for each in (model, quantized):  # as long as the other, for a fair comparison
    fit(each, rate=3e-4, epochs=2)

with tempfile.TemporaryDirectory() as folder:
    paths = [Path(folder) / name for name in ("float.tflite", "int8.tflite")]
    reports = [
        nobn.convert(model, paths[0], data=test),
        nobn.convert(quantized, paths[1], data=test, int8=True),
    ]
    for path, report in zip(paths, reports, strict=True):
        print(report)
        print(f"{path.name}: accuracy {accuracy(path):.1%}")
