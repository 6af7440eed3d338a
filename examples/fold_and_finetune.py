"""Trains with batch norm, folds it away, and continues with two images at a time."""

import larq_nobn as nobn
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)
train = nobn.data.load("digits", "train", batch_size=64)
pairs = nobn.data.load("digits", "train", batch_size=2)
test = nobn.data.load("digits", "test", batch_size=256)


def fit(model, optimizer, images, epochs):
    """Trains with clipped gradients; returns the accuracy on the test images."""
    model.compile(
        nobn.optimizers.AdaptiveGradientClipping(optimizer, 0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images, epochs=epochs, verbose=2)
    return model.evaluate(test, verbose=0)[1]


model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", 32, blocks=(1, 1, 1, 1))
before = fit(model, keras.optimizers.Adam(3e-3), train, epochs=6)
folded, report = nobn.fold_batch_norm(model, return_report=True)
print(report)
after = fit(folded, keras.optimizers.SGD(1e-3, momentum=0.9), pairs, epochs=1)
unfolded = fit(model, keras.optimizers.SGD(1e-3, momentum=0.9), pairs, epochs=1)
print(f"with batch norm, in batches of 64:   {before:.1%}")
print(f"then folded, in batches of two:      {after:.1%}")
print(f"then not folded, in batches of two:  {unfolded:.1%}")
