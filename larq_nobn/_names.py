"""The names that options and settings choose from.

This module needs no TensorFlow. The modules that define the named objects make their
tables from these names.
"""

from __future__ import annotations

import os
from pathlib import Path

from ._checks import check_choice, check_path
from ._errors import InvalidType, InvalidValue

MODELS = (
    "ReActNet18",
    "ReActNet34",
    "ReActNetA",
    "ReCUResNet18",
    "ReCUResNet34",
    "BiRealNet18",
    "XNORNet18",
    "ResNet20",
    "VGGSmall",
    "BinaryAlexNet",
    "DoReFaNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet45",
    "MeliusNet22",
    "MeliusNet29",
    "MeliusNet42",
    "MeliusNet59",
    "MeliusNetA",
    "MeliusNetB",
    "MeliusNetC",
    "QuickNetSmall",
    "QuickNet",
    "QuickNetLarge",
)
# Runtimes of a file: LCE, unmodified LiteRT (formerly TensorFlow Lite), TensorFlow Lite
# Micro, or none for a file in C.
RUNTIMES = ("lce", "litert", "micro", "c")
# Types of the inputs and outputs of int8 files.
IO_TYPES = ("float32", "uint8", "int8")
# Teachers that a run trains itself: a float network, and one for the first of two
# stages, which teaches the second.
TRAINED, CONSECUTIVE = "train", "consecutive"
# A real-valued network, the teacher of binary ones.
FLOAT_MODEL = "FloatResNet"
# The value of `model` that means the network in `init`.
MODEL_FROM_INIT = "init"
NORMALIZATIONS = (
    "batch_norm",
    "none",
    "nobn",
    "filter_response",
    "proxy",
    "group",
    "kalman",
    "independent_component",
    "evonorm",
    "dynamic_tanh",
)
KERNELS = (
    "ste_sign",
    "approx_sign",
    "magnitude_aware_sign",
    "scaled_std_sign",
    "recu",
    "reste",
    "sign_swish",
    "sigmoid_sign",
    "bernoulli_sign",
    "bnn_plus",
    "biper",
)
LATENT_INITIALIZERS = ("glorot_uniform", "he_normal")
VARIANCE_RULES = ("vita", "nf")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("linear", "cosine", "polynomial", "constant", "step")
KEPT = ("last", "best")
MONITORS = ("val_accuracy", "val_loss")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("none", "mirrored", "multi_worker")
DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "imagenet")
# Usual names of the folders of splits, and of splits of data sets.
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLITS = tuple(_SPLIT_NAMES)
AUGMENTATIONS = (
    *("none", "crop", "standard", "strong", "random_resized_crop", "randaugment"),
)
FLIPS = ("auto", "none", "horizontal")
CACHES = ("auto", "memory", "disk", "none")
# The name of a data set of images that a caller passes.
GIVEN = "given"
TFDS_PREFIX = "tfds:"  # of data sets that are not in DATASETS
# The format that the metadata beside a TFLite file names.
METADATA_FORMAT = "larq_nobn card"
ON_GIVEN_DATA = "the given data"  # in reports: the data of a verification
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")


def pretrained_files() -> list[Path]:
    """Returns the files of the trained networks of the package, by name."""
    return sorted(Path(__file__).parent.glob("models/weights/*.npz"))


def find_pretrained(weights: str | os.PathLike) -> Path | None:
    """Returns the packed file of a name (in any case) or of a path, or None."""
    for own in pretrained_files():
        if own.stem.lower() == os.fspath(weights).lower():
            return own
    # Path.is_file raises for a name that is too long, os.path.isfile does not.
    path = Path(weights)
    return path if path.suffix == ".npz" and os.path.isfile(path) else None


def is_keras_file(path: str | os.PathLike) -> bool:
    """Whether a path is that of a Keras model's file, by its name."""
    return Path(path).suffix.lower() in (".keras", ".h5")


def check_dataset(argument: str, name: object) -> str:
    """Returns the name of a data set, or the absolute path of a folder.

    The message uses the name `argument`.
    """
    allowed = (
        f"one of {', '.join(DATASETS)}, a folder of images, or {TFDS_PREFIX}NAME for "
        "a set of TensorFlow Datasets"
    )
    if not isinstance(name, (str, os.PathLike)):
        raise InvalidType(
            f"{argument}={name!r} is neither a name nor a path. Give {allowed}."
        )
    known = name in (*DATASETS, GIVEN)
    if known or (isinstance(name, str) and name.startswith(TFDS_PREFIX)):
        return str(name)
    path = Path(os.path.expanduser(check_path(argument, name)))
    # A missing folder counts as a path only with a slash; a word may be a misspelling.
    if path.is_dir() or isinstance(name, os.PathLike) or {*name} & {"/", os.sep}:
        return os.path.abspath(path)
    raise InvalidValue(f"{argument} must be {allowed}; got {name!r}.")


def split_named(name: str) -> str | None:
    """Returns `"train"`, `"validation"` or `"test"` for a usual name, in any case.

    The name may end with "set", as in test_set, "Test set" and testset.
    """
    word = name.casefold().removesuffix("set").rstrip(" _-")
    return next((split for split, all_ in _SPLIT_NAMES.items() if word in all_), None)


def check_split(split: object) -> str:
    """Returns the split of a usual name; raises if there is none."""
    usual = split_named(split) if isinstance(split, str) else None
    return usual or check_choice("split", split, SPLITS)
