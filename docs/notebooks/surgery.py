# %% [markdown]
# # Surgery on a trained model
#
# Batch norm is removed from a trained network: first with the same outputs, then for
# further training in batches of two images.
# Everything on this page was computed when the page was built.

# %%
import larq_nobn as nobn
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)
train = nobn.data.load("digits", "train", batch_size=64)
test = nobn.data.load("digits", "test", batch_size=256)
images = np.concatenate([x.numpy() for x, _ in test])


def fit(model, optimizer, data, epochs=1):
    """Trains with clipped gradients, and returns the accuracy on the test images."""
    model.compile(
        nobn.optimizers.AdaptiveGradientClipping(optimizer, 0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(data, epochs=epochs, verbose=0)
    return model.evaluate(test, verbose=0)[1]


# %% [markdown]
# ## Trained with batch norm
#
# Any Larq model will do; this one is a small ReActNet.

# %%
model = nobn.models.ReActNet18((8, 8, 1), 10, "batch_norm", width=32, blocks=(1, 1))
before = fit(model, keras.optimizers.Adam(3e-3), train, epochs=6)
norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
print(f"{len(norms)} batch norms, {before:.1%} of the test images right")

# %% [markdown]
# ## Folded
#
# At inference a batch norm is a scale and a bias per channel. `fold_batch_norm` merges
# them into neighboring layers and reports how. The given model is unchanged.

# %%
folded, report = nobn.fold_batch_norm(model, return_report=True)
print(report)

# %% [markdown]
# The outputs are the same except for rounding. Near-zero pre-activations may change
# sign, so a few images may differ by more; predictions hardly change.

# %%
one, other = (m.predict(images, verbose=0) for m in (model, folded))
figure, axes = plt.subplots(figsize=(4, 3.4))
axes.plot(one.ravel(), other.ravel(), ".", markersize=3)
axes.set_xlabel("outputs with batch norm")
axes.set_ylabel("outputs folded")
print(f"largest difference: {np.abs(one - other).max():.1e}")
print(f"same prediction: {(one.argmax(1) == other.argmax(1)).mean():.1%}")

# %% [markdown]
# ## Training in batches of two
#
# Both train for 300 more steps of two images of one class. In training, batch norm
# uses the mean and variance of these two; the folded network is batch-independent.

# %%
pictures, classes = (
    np.concatenate([batch[part].numpy() for batch in train]) for part in (0, 1)
)
order = np.argsort(classes, kind="stable")
pairs = tf.data.Dataset.from_tensor_slices((pictures[order], classes[order]))
pairs = pairs.batch(2).shuffle(1000, seed=0).take(300)

# %%
after = {
    name: fit(each, keras.optimizers.SGD(1e-3, momentum=0.9), pairs)
    for name, each in (("folded", folded), ("batch norm", model))
}
print(f"before: {before:.1%}")
for name, accuracy in after.items():
    print(f"{name}, after 300 pairs: {accuracy:.1%}")

# %% [markdown]
# Digits are easy: [results](../results.md#how-small-can-batches-be) has the same on
# CIFAR-10.
#
# ## On device
#
# Both TFLite models contain the same operations: `convert` folds batch norm itself. The
# gain is in training.

# %%
again = nobn.convert(folded, "folded.tflite", data=test)
print(again)
