"""Compares the program that main.cc became with the file that it contains.

    python examples/microcontroller/check.py model.tflite digits ./network

Gives the program all test images of a data set, and counts how often its class is that
of the file in TensorFlow Lite Micro's interpreter for Python.
"""

import subprocess
import sys

import larq_nobn as nobn
import numpy as np

path, name, program = sys.argv[1:]
run, images = nobn.deploy.Runner(path), nobn.data.open_dataset(name)
batches = images.batches("test", 128, augment=False, like=None)
x = np.concatenate([batch for batch, _ in batches.as_numpy_iterator()])
mean, std = (np.array(numbers) for numbers in (images.info.mean, images.info.std))
pixels = np.round(255 * (x * std + mean)).astype(np.uint8)
done = subprocess.run(
    [program], input=pixels.tobytes(), capture_output=True, check=True
)
classes = np.array(done.stdout.split(), int)
same = int((classes == run(pixels).argmax(-1)).sum())
print(f"same class on {same} of {len(pixels)} test images")
sys.exit(same < len(pixels))
