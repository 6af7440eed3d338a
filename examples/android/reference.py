"""Does on a computer what the app does: image in, likeliest classes out.

Example: python reference.py model.tflite image.jpg
"""

import argparse
from pathlib import Path

import larq_nobn as nobn
import numpy as np


def classify(model: Path, image: Path, guesses: int = 3) -> list[tuple[str, float]]:
    """Returns the likeliest classes with their probabilities, best first.

    Arguments:
        model: The `.tflite` file, with its JSON beside it.
        image: An image file.
        guesses: How many classes.
    """
    metadata = nobn.deploy.read_card(model)
    if metadata.preprocessing is None:
        raise SystemExit(
            f"{model}.json does not say how to prepare an image. Convert the model "
            "again, with preprocessing."
        )
    pixels = nobn.data.decode(image.read_bytes())
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))  # of a gray one, too
    run = nobn.deploy.Runner(model.read_bytes())  # rounds to int8 where the file does
    scores = run(metadata.preprocessing(pixels))[0]
    if metadata.scores == "logits":
        powers = np.exp(scores - scores.max())
        scores = powers / powers.sum()
    best = np.argsort(-scores)[:guesses]
    labels = metadata.labels or [f"class {index}" for index in range(len(scores))]
    return [(labels[index], float(scores[index])) for index in best]


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
