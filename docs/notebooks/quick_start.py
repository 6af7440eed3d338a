# %% [markdown]
# # Quick start: digits
#
# A binary network without batch normalization, from images to a verified TFLite
# model. Everything on this page was computed on two CPU cores when it was built.

# %%
from pathlib import Path

import larq_nobn as nobn  # before larq and tensorflow.keras: it selects legacy Keras
import matplotlib.pyplot as plt
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Images
#
# The 1,797 handwritten digits of scikit-learn have 8 times 8 pixels. `load` returns a
# `tf.data.Dataset` of standardized images and labels, shuffled again in each epoch.

# %%
train = nobn.data.load("digits", "train", batch_size=64)
test = nobn.data.load("digits", "test", batch_size=256)
images, labels = next(iter(train))

figure, places = plt.subplots(1, 8, figsize=(8, 1.4))
for place, image, label in zip(places, images, labels, strict=False):
    place.imshow(image[..., 0], cmap="gray")
    place.set_title(int(label))
    place.axis("off")

# %% [markdown]
# ## A network
#
# ReActNet-18, cut down to four blocks. Weights and activations of its convolutions
# are -1 and +1; the first convolution and the last dense layer have real numbers.
# Without batch norm, `calibrate` sets the thresholds of the signs and the scales of
# the kernels from a few hundred images, before the first step.

# %%
model = nobn.models.ReActNet18((8, 8, 1), classes=10, width=32, blocks=(2, 2))
nobn.calibrate(model, train)
nobn.models.summary(model)

# %% [markdown]
# ## Training
#
# Keras' `fit`. The optimizer is wrapped in adaptive gradient clipping, which limits
# the steps as batch norm does.

# %%
epochs = 8
rate = keras.optimizers.schedules.PolynomialDecay(3e-3, epochs * len(train), 0.0)
model.compile(
    nobn.optimizers.AdaptiveGradientClipping(keras.optimizers.Adam(rate), 0.02),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = model.fit(train, validation_data=test, epochs=epochs, verbose=0).history

# %%
figure, axes = plt.subplots(figsize=(6, 3))
steps = range(1, epochs + 1)
axes.plot(steps, history["accuracy"], "o-", label="training images")
axes.plot(steps, history["val_accuracy"], "s-", label="test images")
axes.set_xlabel("epoch")
axes.set_ylabel("accuracy")
axes.legend()
print(f"test accuracy: {history['val_accuracy'][-1]:.1%}")

# %% [markdown]
# ## A TFLite model
#
# `convert` writes a `.tflite` model with binary convolutions only if it computes what
# the Keras model computes, here on the test images.

# %%
report = nobn.convert(model, "digits.tflite", data=test)
print(report)

# %% [markdown]
# `Runner` runs the file on this computer with the kernels of LCE.

# %%
run = nobn.deploy.Runner(Path("digits.tflite").read_bytes())
images, labels = next(iter(test))
found = run(images.numpy()).argmax(-1)
print(f"{(found == labels.numpy()).mean():.1%} of {len(labels)} test images are right")

# %% [markdown]
# From here: [a network of your own](../guides/own_network.md), or [your own
# images](../guides/own_images.md).
