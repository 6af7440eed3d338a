"""Networks as files: their weights, what the files contain, and how long they take."""

from __future__ import annotations

import larq_nobn as nobn
import numpy as np
import tensorflow as tf

SEED = 0


def network(name, side, classes, *arguments, **options):
    """A network with every vector of weights moved to where training may leave it.

    Else gains and thresholds would vanish from its file that a training needs.
    """
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(SEED)
    builder = getattr(nobn.models, name)
    model = builder((side, side, 3), classes, *arguments, **options)
    random = np.random.default_rng(SEED)
    for weight in model.weights:
        if weight.shape.rank == 1:
            weight.assign(weight + random.uniform(0.05, 0.2, weight.shape))
    return model


def float_operations(found):
    """How many a report or an audit of a file names."""
    return sum(operation["count"] for operation in found.float_ops)


def timed(files, runs):
    """Medians of files by name, all in turns, and ratios to the first of them."""
    first, *others = files.values()
    found = nobn.benchmark(first, others, runs=runs, warmup=2, seed=SEED)
    return {
        name: {
            "ms": round(timing.ms, 3),
            "quartiles_ms": [round(timing.low_ms, 3), round(timing.high_ms, 3)],
            "ratio": round(timing.ratio, 3),
            "interval": [round(timing.ratio_low, 3), round(timing.ratio_high, 3)],
        }
        for name, timing in zip(files, found.timings, strict=True)
    }


def ordinary_file(model, path, images=None):
    """Has TensorFlow write a file for one image at a time, in int8 with images."""
    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    function = tf.function(lambda image: model(image, training=False))
    concrete = function.get_concrete_function(image)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    if images is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None]] for x in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())
