"""Does on a computer what the app does: image in, likeliest classes out.

Example: python reference.py model.tflite image.jpg
"""

import argparse
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import tensorflow as tf


def classify(model: Path, image: Path, guesses: int = 3) -> list[tuple[str, float]]:
    """Returns the likeliest classes with their probabilities, best first.

    Arguments:
        model: The `.tflite` file, with its JSON beside it.
        image: A JPEG, PNG, BMP or GIF file. Unlike Android's decoder, TensorFlow's
            does not turn it as its EXIF data say.
        guesses: How many classes.
    """
    metadata = nobn.deploy.read_card(model)
    if metadata.preprocessing is None:
        raise SystemExit(
            f"{model}.json does not say how to prepare an image. Convert the model "
            "again, with preprocessing."
        )
    content = tf.io.read_file(str(image))
    pixels = tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
    run = nobn.deploy.Runner(model.read_bytes())  # rounds to int8 where the file does
    logits = run(metadata.preprocessing(pixels))[0]
    powers = np.exp(logits - logits.max())
    best = np.argsort(-logits)[:guesses]
    labels = metadata.labels or [f"class {index}" for index in range(len(logits))]
    return [(labels[index], float(powers[index] / powers.sum())) for index in best]


def main(words: list[str] | None = None) -> None:
    """Prints the classes of the image that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="The .tflite file.")
    parser.add_argument("image", type=Path, help="A JPEG, PNG, BMP or GIF file.")
    arguments = parser.parse_args(words)
    for label, probability in classify(arguments.model, arguments.image):
        print(f"{label:20} {probability:6.1%}")


if __name__ == "__main__":
    main()
