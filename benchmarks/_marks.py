"""What a training step is held against: its convolutions alone, and published code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import tensorflow as tf

# The published network has this width only.
PUBLISHED_WIDTH = 64


def convolutions_alone(network, batch, precision):
    """A step of the convolutions of a network, forward and both ways back.

    Each on random maps of its own shape; the first has no gradient of its input.
    """
    dtype = {"float32": tf.float32, "mixed_bfloat16": tf.bfloat16}[precision]
    layers = [
        layer for layer in network.layers if isinstance(layer, tf.keras.layers.Conv2D)
    ]

    def random(*shape):
        return tf.Variable(tf.cast(tf.random.stateless_normal(shape, (0, 1)), dtype))

    maps = [random(batch, *layer.input_shape[1:]) for layer in layers]
    kernels = [random(*layer.kernel.shape) for layer in layers]
    behind = [random(batch, *layer.output_shape[1:]) for layer in layers]

    @tf.function
    def step():
        some = []
        for number, layer in enumerate(layers):
            x, w, g = maps[number], kernels[number], behind[number]
            how = {"strides": layer.strides, "padding": layer.padding.upper()}
            wanted = [w] if number == 0 else [w, x]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(wanted)
                y = tf.nn.conv2d(x, w, **how)
            found = [y, *tape.gradient(y, wanted, g)]
            # What nobody reads would not be computed.
            some += [tf.reshape(each, [-1])[0] for each in found]
        return tf.add_n(some)

    return lambda: step().numpy()


class Published:
    """Steps of the published PyTorch code, in a process of its own.

    Arguments:
        folder: A clone of github.com/VITA-Group/BNN_NoBN; its `.venv` has PyTorch.
        batch: Images a step.
    """

    def __init__(self, folder, batch):
        driver = Path(__file__).with_name("_published.py")
        self.process = subprocess.Popen(
            [folder / ".venv" / "bin" / "python", driver, folder, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions = json.loads(self.process.stdout.readline())

    def __call__(self):
        print(file=self.process.stdin, flush=True)
        if not self.process.stdout.readline():
            sys.exit("The published code stopped; what it said is above.")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
