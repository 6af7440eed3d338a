from ._keras import keras as _keras  # first: selects legacy Keras
