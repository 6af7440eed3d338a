"""A recipe, interrupted after two of four epochs, that resumes where it stopped."""

import larq_nobn as nobn
import tensorflow as tf

settings = nobn.training.RunSettings.from_recipe(
    "nobn", dataset="digits", width=16, blocks=(2, 2), epochs=4, batch_size=64
)
folder = "runs/train_with_resume"


class PowerCut(tf.keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


try:
    nobn.training.train(settings, folder, PowerCut(), resume=True)
except KeyboardInterrupt:
    print("Stopped. The same call resumes:")
run = nobn.training.train(settings, folder, resume=True)
for row in run.history:
    print(
        f"epoch {row['epoch']:.0f}: test accuracy {row['test_accuracy']:.1%}, "
        f"{row['flip_ratio']:.2%} of the binary weights flipped, "
        f"{row['clipped_share']:.0%} of the units clipped"
    )
