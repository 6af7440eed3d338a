"""The names that options and settings choose from, without what they stand for.

Modules that need TensorFlow contain what a name means; here the names are found without
it. Tables elsewhere are made from these names.
"""

from __future__ import annotations

import os
from pathlib import Path

from ._checks import check_choice, check_path
from ._errors import InvalidType, InvalidValue

MODELS = (
    "ReActNet18",
    "ReActNetA",
    "BiRealNet18",
    "XNORNet18",
    "ResNet20",
    "VGGSmall",
    "BinaryAlexNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet45",
    "MeliusNet22",
    "MeliusNet29",
    "QuickNetSmall",
    "QuickNet",
    "QuickNetLarge",
)
# Who runs a file: LCE, LiteRT (formerly TensorFlow Lite) as it is everywhere, or, of a
# file in C, nobody.
RUNTIMES = ("lce", "litert", "c")
# A real-valued network, which teaches binary ones.
FLOAT_MODEL = "FloatResNet"
# As a model: the network that `init` names.
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
# How folders of splits, and splits of data sets, are usually called.
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
# As a data set: the images that a caller passes.
GIVEN = "given"
TFDS_PREFIX = "tfds:"  # of sets that have no other name here
# What the metadata beside a TFLite file says of itself.
METADATA_FORMAT = "larq_nobn card"
ON_GIVEN_DATA = "the given data"  # what a conversion was verified on, in its report
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")


def pretrained_files() -> list[Path]:
    """Returns the packed networks that come with the package, by name."""
    return sorted(Path(__file__).parent.glob("models/weights/*.npz"))


def find_pretrained(weights: str | os.PathLike) -> Path | None:
    """Returns the packed file of a name, in any case, or at a path; None without."""
    for own in pretrained_files():
        if own.stem.lower() == os.fspath(weights).lower():
            return own
    # Unlike a Path, os.path takes a name that is too long for one that is not there.
    path = Path(weights)
    return path if path.suffix == ".npz" and os.path.isfile(path) else None


def check_dataset(argument: str, name: object) -> str:
    """Returns the name of a data set; that of a folder is its absolute path.

    The message calls it by its `argument`.
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
    # A word could be a name that is spelled wrongly; what has a slash is a path.
    if path.is_dir() or isinstance(name, os.PathLike) or {*name} & {"/", os.sep}:
        return os.path.abspath(path)
    raise InvalidValue(f"{argument} must be {allowed}; got {name!r}.")


def split_named(name: str) -> str | None:
    """Returns `"train"`, `"validation"` or `"test"` for a usual name, in any case.

    "set" may follow it, as in test_set, "Test set" and testset.
    """
    word = name.casefold().removesuffix("set").rstrip(" _-")
    return next((split for split, all_ in _SPLIT_NAMES.items() if word in all_), None)


def check_split(split: object) -> str:
    """Returns the split that a usual name means."""
    usual = split_named(split) if isinstance(split, str) else None
    return usual or check_choice("split", split, SPLITS)
