"""What binary convolutions take the signs of."""

from __future__ import annotations

import larq as lq
import numpy as np
import tensorflow as tf

keras = tf.keras


def before_signs(model, images):
    """What the sign is taken of, by binary convolution, over its channels."""
    convs = [x for x in model.layers if isinstance(x, lq.layers.QuantConv2D)]
    maps = keras.Model(model.input, [conv.input for conv in convs])(images)
    found = {}
    for conv, x in zip(convs, maps, strict=True):
        sign = conv.input_quantizer
        x = np.asarray(x, np.float64) * getattr(sign, "scale", 1)
        if (shift := getattr(sign, "shift", None)) is not None:
            x += shift.numpy()
        mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
        positive = (x >= 0).mean((0, 1, 2))
        found[conv.name] = {
            "deviation": round(float(np.median(deviation)), 4),
            "offset": round(float(np.median(abs(mean) / deviation)), 4),
            "stuck": round(float((abs(positive - 0.5) > 0.45).mean()), 4),
            "window": round(float((abs(x) <= 1).mean()), 4),
        }
    return found
