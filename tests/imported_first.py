"""What the import of the package alone brings, as the first process found it.

The server of `fresh.py` imports this before anything else, without a choice of Keras.
"""

import os
import sys
from tempfile import TemporaryFile

HAD_CHOSEN = "TF_USE_LEGACY_KERAS" in os.environ
PROCESS = os.getpid()

# What TensorFlow writes by itself bypasses Python.
with TemporaryFile() as _written:
    _streams = [os.dup(number) for number in (1, 2)]
    for _number in (1, 2):
        os.dup2(_written.fileno(), _number)

    import larq_nobn

    for _number, _stream in enumerate(_streams, 1):
        os.dup2(_stream, _number)
        os.close(_stream)
    _written.seek(0)
    WRITTEN = _written.read().decode()

LATE = sorted(
    {
        "larq_compute_engine",
        "tensorflow_datasets",
        "matplotlib",
        "sklearn",
        "tensorboard",
        "torch",
    }
    & set(sys.modules)
)

import larq  # noqa: E402
import tensorflow as tf  # noqa: E402

OBJECTS = tf.keras.utils.get_custom_objects().items()
REGISTERED = sorted(
    name for name, cls in OBJECTS if cls.__module__.startswith("larq_nobn")
)
KERAS = larq_nobn._keras.keras.__name__
IN_IT = [
    issubclass(layer, tf.keras.layers.Layer)
    for layer in (larq.layers.QuantConv2D, larq_nobn.layers.RPReLU)
]
