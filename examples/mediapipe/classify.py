"""Classifies images by MediaPipe's ImageClassifier.

larq-nobn convert RUN model.tflite --runtime litert --int8 --calibrate 256 --pixels
pip install mediapipe   # in an environment of its own: it needs NumPy 2
python examples/mediapipe/classify.py model.tflite cat.jpg
"""

import sys

import mediapipe as mp
from mediapipe.tasks.python import BaseOptions, vision

model, *images = sys.argv[1:]
options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=model))
with vision.ImageClassifier.create_from_options(options) as classifier:
    for image in images:
        found = classifier.classify(mp.Image.create_from_file(image))
        best = found.classifications[0].categories[0]
        print(f"{image}: {best.category_name} ({best.score:.6g})")
