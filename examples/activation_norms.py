"""What can stand after a binary convolution instead of batch norm, eight at a time."""

import larq_nobn as nobn
import larq as lq
import tensorflow as tf

keras = tf.keras
NORMS = {
    "filter response norm": nobn.layers.FilterResponseNormalization,
    "proxy norm": nobn.layers.ProxyNormalization,
    "group norm": lambda: keras.layers.GroupNormalization(groups=4),
    "EvoNorm-S0": lambda: nobn.layers.EvoNormS0(groups=4),
}
binary = {"input_quantizer": "approx_sign", "kernel_quantizer": "ste_sign"}
binary |= {"kernel_constraint": "weight_clip", "use_bias": False}
train = nobn.data.load("digits", "train", batch_size=8)
test = nobn.data.load("digits", "test", batch_size=256)

for name, norm in NORMS.items():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = norm()(keras.layers.Conv2D(32, 3, padding="same")(image))
    for _ in range(3):
        conv = lq.layers.QuantConv2D(32, 3, padding="same", pad_values=1.0, **binary)
        x = keras.layers.add([norm()(conv(x)), x])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(10)(x))
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    print(name)
    model.fit(train, validation_data=test, epochs=2, verbose=2)
