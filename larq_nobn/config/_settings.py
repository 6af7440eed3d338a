"""`Settings`: all settings of a run, and their names in tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _names
from .._checks import BOUNDS
from .._names import GIVEN, MODEL_FROM_INIT
from . import _fields
from ._fields import When, documented, network_setting, setting, settings_of, unless
from ._presets import RECIPES
from ._recipe import NETWORKS_OWN, Recipe
from ._run_files import RECORD_FILE, SETTINGS_FILE, read_object

# Data sets that may have no test split.
_FOLDER = When("dataset", ("an image folder", f"{_names.TFDS_PREFIX}NAME"))


@documented
@dataclass(frozen=True)
class Settings(Recipe):
    """All settings of a run, checked without building a network.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is outside its range.
    """

    model: str = network_setting(
        "ReActNet18",
        "The network. init (the default with --init): the network of --init, with a "
        "new classifier if the number of classes differs.",
        choices=(*_names.MODELS, _names.FLOAT_MODEL, MODEL_FROM_INIT, GIVEN),
        offered=(*_names.MODELS, MODEL_FROM_INIT),
    )
    normalization: str | None = network_setting(
        "nobn",
        "Normalization after convolutions. nobn: no layer, but scaled residual "
        "branches; none: no layer, and no scaled branches.",
        choices=_names.NORMALIZATIONS,
        registered=True,
        absent="that of the network of init",
    )
    dataset: str = network_setting(
        "cifar10",
        "The images: a data set's name, an image folder, or tfds:NAME; see larq-nobn "
        "data.",
        kind="dataset",
    )
    width: int | None = network_setting(
        None,
        "Channels of the first stage.",
        range=((1, 65_536), "It is a number of channels."),
        absent=NETWORKS_OWN,
    )
    blocks: tuple[int, ...] | None = network_setting(
        None,
        "Blocks per stage of a residual network, such as 4,4,4,4.",
        kind="blocks",
        absent=NETWORKS_OWN,
    )
    seed: int = setting(
        0,
        "Seed of initial weights, image order and augmentation.",
        range=BOUNDS["seed"],
    )
    precision: str = _fields.resource_setting(
        "float32",
        "Number format; mixed formats compute in 16 bits and store weights in 32.",
        choices=_names.PRECISIONS,
    )
    limit: int | None = network_setting(
        None,
        "Use at most this many images of each split.",
        range=BOUNDS["limit"],
        absent="all",
    )
    data_dir: str | None = _fields.output_setting(
        None,
        "Folder of downloaded data sets.",
        kind="path",
        absent="that of TensorFlow Datasets",
        applies_when=When(
            "dataset", (*_names.DATASETS[1:], f"{_names.TFDS_PREFIX}NAME")
        ),
    )
    image_size: int | tuple[int, int] | None = network_setting(
        None,
        "Size of the images in pixels: 96, or 96x128 (height, width).",
        kind="size",
        absent="the data set's own",
    )
    channels: int | None = network_setting(
        None,
        "Channels of the images. 3: gray as three equal channels; 1: the brightness "
        "of colors.",
        range=((1, 3), "Choose 1 or 3."),
        absent="the data set's own",
    )
    holdout: float = network_setting(
        0.1,
        "Test fraction of an image folder that has no test folder.",
        range=("(0, 1)", "0.1 is usual."),
        applies_when=_FOLDER,
    )
    validation: float = network_setting(
        0.0,
        "Fraction of the training images that make up the validation split; 0 for "
        "none, or if the data set has one.",
        range=("[0, 1)", "0.1 is usual."),
    )
    augment: str | None = setting(
        None,
        "Augmentation of training images; see the guide on image folders.",
        choices=_names.AUGMENTATIONS,
        absent="standard; for imagenet random_resized_crop",
    )
    flip: str = setting(
        "auto",
        "Horizontal flips. auto: horizontal, but none for images of one channel, for "
        "digits and letters as classes, and for the augmentation crop.",
        choices=_names.FLIPS,
        applies_when=unless("augment", "none"),
    )
    skip_unreadable: bool = network_setting(
        False,
        "Skip files that cannot be read.",
        applies_when=When("dataset", ("an image folder",)),
    )
    balance_classes: bool = setting(
        False, "Weight the loss by the inverse frequency of each class."
    )
    label: str | None = _fields.output_setting(
        None,
        "Name of the method in tables and plots; runs with one label may differ only "
        "in the seed and the file of init.",
        absent="the settings that differ",
    )
    recipe: str = setting(
        "plain",
        "Preset of training settings; other options change single ones.",
        choices=RECIPES,
        option=False,
    )
    init: str | None = network_setting(
        None,
        "Start from the weights of this run folder, .keras or .h5 file, or trained "
        "network, as far as names and shapes are the same; see recipe fine_tune.",
        absent="a new network",
    )
    init_sha256: str | None = network_setting(
        None,
        "SHA-256 of the file of init, to reject a changed file on resuming.",
        option=False,
        absent="computed from the file",
    )


def complete(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all settings of a stored run, which an earlier version may have written.

    New settings get their defaults, under which runs behave as they did before. Earlier
    networks were those of the published recipe.
    """
    usual = {name: each.default for name, each in settings_of(Settings).items()}
    made = {**usual, "network": dict(RECIPES["plain"].network), **stored}
    if made["augment"] == "crop_flip":  # its earlier name
        made["augment"] = "standard"
    return made


def stored_settings(folder: Path) -> dict[str, Any] | None:
    """Returns the settings of a run folder, finished or not; None without a run."""
    for name in (SETTINGS_FILE, RECORD_FILE):
        if (file := folder / name).is_file():
            content = read_object(file, {"settings": {}} if name == RECORD_FILE else {})
            return complete(content.get("settings", content))
    return None


def words(name: str) -> str:
    """Returns `"batch size"` for `"batch_size"`."""
    return name.replace("_", " ")


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(map(shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def named(name: str, value: Any) -> str:
    """Returns the value in words, with the name of the setting unless it is clear."""
    said = shown(value)
    known = name in ("label", "model", "dataset", "normalization")
    return said if known else f"{words(name)} {said}"
