"""Fine-tune a trained network on other classes, and convert it.

The network that comes with the package tells ten digits apart. Here it learns to tell
odd digits from even ones, with a fresh head, in less than a minute.
"""

import larq_nobn as nobn
import tensorflow as tf

NAME = "reactnet18-w32-digits"


def parity(split: str) -> tf.data.Dataset:
    images = nobn.data.load("digits", split, batch_size=64)
    return images.map(lambda image, label: (image, label % 2))


for row in nobn.models.pretrained():
    print(f"{row.name}: {row.accuracy:.1%} on {row.dataset}, {row.size_bytes:,} bytes")

model = nobn.models.ReActNet18(weights=NAME, classes=2)
optimizer = nobn.optimizers.AdaptiveGradientClipping(
    tf.keras.optimizers.Adam(1e-3), clip_factor=0.02
)
loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer, loss, metrics=["accuracy"])
model.fit(parity("train"), epochs=3, verbose=2)
accuracy = model.evaluate(parity("test"), verbose=0)[1]
print(f"odd or even: {accuracy:.1%} of the test images")
report = nobn.convert(model, "parity.tflite", data=parity("test"))
print(f"parity.tflite: {report.lce_bconv2d} binary convolutions")
