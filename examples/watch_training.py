"""What happens inside while a binary network learns: flips, dead weights, clipping."""

import larq_nobn as nobn
import tensorflow as tf

keras = tf.keras
keras.utils.set_random_seed(0)

train = nobn.data.load("digits", "train", batch_size=64)
test = nobn.data.load("digits", "test", batch_size=256)

model = nobn.models.ReActNet18((8, 8, 1), 10, width=16, blocks=(2, 2))
model.compile(
    nobn.optimizers.AdaptiveGradientClipping(keras.optimizers.Adam(3e-3), 0.02),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
folder = "runs/watch_training"  # tensorboard --logdir runs/watch_training
model.fit(
    train,
    validation_data=test,
    epochs=10,
    verbose=2,
    callbacks=[
        nobn.callbacks.BinaryWeightMonitor(log_dir=folder),
        nobn.callbacks.GradientClippingMonitor(log_dir=folder),
    ],
)
