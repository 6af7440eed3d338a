"""What the import of the package brings, as the first process found it.

The server of `fresh.py` imports this before anything else, without a choice of Keras.
"""

import os
import sys

HAD_CHOSEN = "TF_USE_LEGACY_KERAS" in os.environ
PROCESS = os.getpid()

# Tests import the package first; here TensorFlow has come before, and with it Keras 3.
import tensorflow as tf  # noqa: E402

_before = set(sys.modules)
import larq_nobn  # noqa: E402

EXTRAS = ("larq_compute_engine", "tensorflow_datasets", "matplotlib", "sklearn")
LATE = sorted({*EXTRAS, "tensorboard", "torch"} & set(sys.modules) - _before)

import larq  # noqa: E402
from tensorflow.keras.layers import Layer  # noqa: E402

OBJECTS = tf.keras.utils.get_custom_objects().items()
REGISTERED = sorted(
    name for name, cls in OBJECTS if cls.__module__.startswith("larq_nobn")
)
KERAS = larq_nobn._keras.keras.__name__
IN_IT = [
    Layer is tf.keras.layers.Layer,
    issubclass(larq.layers.QuantConv2D, Layer),
    issubclass(larq_nobn.layers.RPReLU, Layer),
]
