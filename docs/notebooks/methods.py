# %% [markdown]
# # Methods compared
#
# One small network with five normalizations, each trained twice on digits for a few
# epochs when this page was built. It shows how to exchange the normalization and how
# to compare; [results](../results.md) has the measurements.

# %%
import time

import larq_nobn as nobn
import larq as lq
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

keras = tf.keras
layers = keras.layers
train = nobn.data.load("digits", "train", batch_size=16)
test = nobn.data.load("digits", "test", batch_size=256)

# %% [markdown]
# ## The methods
#
# A method is a layer after a binary convolution, or a kernel quantizer.

# %%
scaled = {"scale": 0.5, "variance_preserving": True}
METHODS = {
    "nothing": ("ste_sign", None),
    "batch norm": ("ste_sign", layers.BatchNormalization),
    "scaled kernels": (lambda: nobn.quantizers.ScaledStdSign(**scaled), None),
    "filter response": ("ste_sign", nobn.layers.FilterResponseNormalization),
    "proxy norm": ("ste_sign", nobn.layers.ProxyNormalization),
}


def network(kernel, norm):
    """Three residual blocks of a sign, a binary convolution and a normalization."""
    x = image = keras.Input((8, 8, 1))
    x = layers.Conv2D(32, 3, padding="same")(x)
    for _ in range(3):
        y = lq.layers.QuantConv2D(
            32,
            3,
            padding="same",
            pad_values=1.0,
            use_bias=False,
            input_quantizer="approx_sign",
            kernel_quantizer=kernel() if callable(kernel) else kernel,
        )(x)
        if norm is not None:
            y = norm()(y)
        x = nobn.layers.RPReLU()(layers.add([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="head")(x))


# %% [markdown]
# ## The same training for each
#
# The same seeds, images, learning rate and clipping. Differences within the seed
# spread are noise.

# %%
EPOCHS, SEEDS = 2, (0, 1)
accuracy, seconds = {}, {}
for name, method in METHODS.items():
    began = time.perf_counter()
    accuracy[name] = []
    for seed in SEEDS:
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        model = network(*method)
        model.compile(
            nobn.optimizers.AdaptiveGradientClipping(keras.optimizers.Adam(3e-3), 0.02),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(train, epochs=EPOCHS, verbose=0)
        accuracy[name].append(model.evaluate(test, verbose=0)[1])
    seconds[name] = (time.perf_counter() - began) / len(SEEDS)

# %%
figure, axes = plt.subplots(figsize=(6, 3))
for row, found in enumerate(accuracy.values()):
    axes.plot(100 * np.array(found), [row] * len(found), "o-", color="#0072B2")
axes.set_yticks(range(len(accuracy)), accuracy)
axes.invert_yaxis()
axes.set_xlabel(f"test accuracy after {EPOCHS} epochs, %, a dot for each seed")
axes.grid(alpha=0.3)
for name, found in accuracy.items():
    print(f"{name:16} {100 * np.mean(found):5.1f} %  {seconds[name]:4.1f} s")

# %% [markdown]
# Batch norm uses statistics of the batch, the others those of one example or none.
# [Choosing a method](../guides/choosing.md) adds the cost on device and accuracy in
# small batches.
