"""Trained networks in small files.

A packed network is a NumPy archive without pickled objects. Its entry `card` is a JSON
text: the builder, its arguments, the data set and the training. Every other entry is a
float32 weight or, of a binary kernel, the signs, one bit each, and one magnitude per
filter, which are the initial latent weights if the network is trained further.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from .._checks import check_kind
from .._errors import InvalidValue
from .._files import check_shape, parse_json, read_arrays
from .._keras import keras
from .._messages import first_line
from .._names import find_pretrained, pretrained_files
from .._tables import as_text
from ._frame import check_image_shape
from ._weight_names import weights_by_name

FORMAT, VERSION = "larq_nobn network", 1
METADATA, BITS, MAGNITUDE = "card", ".bits", ".magnitude"
# Types of the metadata; a list is for lists of that type.
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("name", "model", "dataset", "recipe"), str),
    **dict.fromkeys(("classes", "epochs", "seed", "binary_macs", "float_macs"), int),
    **dict.fromkeys(("arguments", "settings"), dict),
    "accuracy": (int, float),
    "log": (str, type(None)),
    "preprocessing": (dict, type(None)),
    "input_shape": [int],
    "class_names": [str],
}
_WEIGHTS = """
    Trained weights:
        `weights=` takes a name of `models.pretrained()` or the path of a packed
        network; a `ValueError` is raised if there is none. The default arguments are
        then those of the trained network. Only `name`, the height and width in
        `input_shape`, and `classes` may differ; another number of classes gets a new
        head.
    """
_NUMBER = (int, float)
_STEPS = {"mean": [_NUMBER], "std": [_NUMBER], "size": [int], "crop": _NUMBER}


@dataclass(frozen=True)
class PretrainedNetwork(Mapping[str, Any]):
    """The record of a trained network, one row of `pretrained()`.

    It is also a mapping, so that `pandas.DataFrame(map(dict, rows))` is a table.

    Attributes:
        name: Name of the network, for `weights=`.
        model: Name of its builder in `larq_nobn.models`.
        dataset: Data set of its training.
        classes: Number of classes.
        input_shape: (height, width, channels).
        accuracy: Top-1 accuracy on the test images, in [0, 1].
        recipe: Name of the training recipe.
        epochs: Training length.
        seed: Seed of the run.
        size_bytes: Size of the packed file.
        binary_macs: Multiply-accumulates per image of ±1 with ±1.
        float_macs: All other multiply-accumulates per image.
        log: Folder in the repository with the log of the run; None for networks that
            are not part of the package.
        class_names: One name per class, in the order of the outputs.
        preprocessing: Keyword arguments of `deploy.Preprocessing`; None if images need
            no preprocessing.
        arguments: Arguments of the builder.
        settings: All settings of the run.
    """

    name: str
    model: str
    dataset: str
    classes: int
    input_shape: tuple[int, int, int]
    accuracy: float
    recipe: str
    epochs: int
    seed: int
    size_bytes: int
    binary_macs: int
    float_macs: int
    log: str | None
    class_names: tuple[str, ...]
    preprocessing: Mapping[str, Any] | None
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return vars(self)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


class PretrainedNetworks(list[PretrainedNetwork]):
    """A list of trained networks that prints as a table."""

    def table(self) -> Table:
        """Returns a table with the most important columns and a row per network."""
        titles = "Name", "Data set", "Input", "Top-1"
        macs = "Binary MACs", "Float MACs"
        table = Table(*titles, *macs, title="Trained networks", title_justify="left")
        for row in self:
            table.add_row(
                row.name,
                row.dataset,
                "x".join(map(str, row.input_shape)),
                f"{100 * row.accuracy:.1f} %",
                f"{row.binary_macs / 1e6:,.1f} M",
                f"{row.float_macs / 1e6:,.2f} M",
            )
        return table

    def __repr__(self) -> str:
        return as_text(self.table())


def pretrained() -> PretrainedNetworks:
    """Lists the trained networks of the package, by name.

    Returns:
        A list of one `PretrainedNetwork` for each, which prints as a table.

    Example:
        ```python
        import larq_nobn as nobn

        for row in nobn.models.pretrained():
            print(f"{row.name}: {row.accuracy:.1%} on {row.dataset}")
        ```
    """
    return PretrainedNetworks(_read(file)[0] for file in pretrained_files())


def open_pretrained(
    weights: str | os.PathLike,
) -> tuple[keras.Model, PretrainedNetwork]:
    """Opens a packed network; runs no code from its file.

    Arguments:
        weights: A name of `pretrained()`, or the path of a packed network.

    Returns:
        The network, with the outputs of the trained one, and its row.

    Raises:
        ValueError: If there is no such network, or its file is damaged.
    """
    from . import BUILDERS  # not at the top, since the builders import this module

    metadata, _ = _read(weights)
    return BUILDERS[metadata.model](weights=weights), metadata


def opens_weights(build: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    """Adds the argument `weights` to a builder, which makes all others optional."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def builder(
        *arguments: Any, weights: str | os.PathLike | None = None, **options: Any
    ) -> keras.Model:
        if weights is None:
            return build(*arguments, **options)
        metadata, stored = _read(weights)
        if metadata.model != build.__name__:
            raise InvalidValue(
                f"weights={os.fspath(weights)!r} is a {metadata.model}, not a "
                f"{build.__name__}. Build it with larq_nobn.models.{metadata.model}."
            )
        by_caller = signature.bind_partial(*arguments, **options).arguments
        shape = by_caller.pop("input_shape", None)
        for key, value in by_caller.items():
            trained = metadata.arguments.get(key, signature.parameters[key].default)
            free = key in ("classes", "name")
            if not free and _plain(value) != _plain(trained):
                raise InvalidValue(
                    f"{key}={value!r} does not fit weights={os.fspath(weights)!r}, "
                    f"which has {key}={trained!r}. Leave it out."
                )
        try:
            network = build(**{**metadata.arguments, **by_caller})
        except (TypeError, ValueError) as error:  # the builder rejects an argument
            if by_caller:
                raise
            raise _damaged(weights, str(error).rstrip(".")) from error
        new_head = by_caller.get("classes", metadata.classes) != metadata.classes
        _fill(network, weights, stored, new_head)
        return network if shape is None else _resized(network, shape, weights)

    optional = [
        p.replace(default=None) if p.default is inspect.Parameter.empty else p
        for p in signature.parameters.values()
    ]
    weights = inspect.Parameter("weights", inspect.Parameter.KEYWORD_ONLY, default=None)
    builder.__doc__ = f"{build.__doc__}{_WEIGHTS}"
    builder.__signature__ = signature.replace(parameters=[*optional, weights])  # type: ignore[attr-defined]  # of functions it may be set
    return builder


def _resized(
    network: keras.Model, shape: Sequence[int], weights: str | os.PathLike
) -> keras.Model:
    """Returns a network of the same layers for images of another height and width."""
    wanted = check_image_shape(shape, 1, network.name)
    trained = network.input_shape[1:]
    if wanted == trained:
        return network
    problem = (
        f"input_shape={wanted} does not fit weights={os.fspath(weights)!r} of "
        f"input_shape={trained}"
    )
    if wanted[-1] != trained[-1]:
        raise InvalidValue(
            f"{problem}, whose images have another number of channels. Convert images "
            f"to {trained[-1]} channels (tf.image), or train a new network."
        )
    start = keras.Input(wanted, name=network.input_names[0])
    try:
        resized = keras.models.clone_model(network, start)
        resized.set_weights(network.get_weights())
    except ValueError as error:  # such as a dense layer that reads all positions
        raise InvalidValue(
            f"{problem}, on which some layer depends: {first_line(error)}"
        ) from error
    return resized


def _fill(
    network: keras.Model,
    weights: str | os.PathLike,
    stored: Mapping[str, np.ndarray],
    new_head: bool,
) -> None:
    """Assigns trained weights to a network; a new head keeps its initial weights."""
    for name, variable in weights_by_name(network).items():
        if new_head and name.startswith("head/"):
            continue
        value, shape = stored.get(name), variable.shape
        if (bits := stored.get(name + BITS)) is not None:
            rows, magnitude = int(np.prod(shape[:-1])), stored.get(name + MAGNITUDE)
            wide = bits.dtype == np.uint8 and bits.shape == (-(-rows // 8), shape[-1])
            if not wide or magnitude is None or magnitude.dtype.kind != "f":
                raise _damaged(weights, f"{name!r} contains no bits of {shape}")
            signs = np.unpackbits(bits, axis=0, count=rows).astype(np.float32) * 2 - 1
            value = (signs * magnitude).reshape(shape)
        if value is None or value.shape != shape or value.dtype.kind not in "fiu":
            raise _damaged(weights, f"it has no weight {name!r} of {shape}")
        variable.assign(value)


def _read(
    weights: str | os.PathLike,
) -> tuple[PretrainedNetwork, Mapping[str, np.ndarray]]:
    """Returns the row of a packed network, and the entries of its file."""
    from . import BUILDERS  # not at the top, since the builders import this module

    wanted = "a name of pretrained() or a path"
    file = find_pretrained(check_kind("weights", weights, (str, os.PathLike), wanted))
    if file is None:
        names = ", ".join(row.name for row in pretrained()) or "none yet"
        raise InvalidValue(
            f"weights={os.fspath(weights)!r} is not a trained network. Give the path "
            f"of a packed network (.npz), or one of: {names}."
        )
    try:
        entries = read_arrays(file)
        metadata = parse_json(str(entries.get(METADATA)))
        check_shape(metadata, {})
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise InvalidValue("it is of another format, or a later version")
        check_shape(metadata, _TYPES)
        if unknown := metadata.keys() - _TYPES.keys() - {"format", "version"}:
            raise InvalidValue(f"it also contains {min(unknown)!r}")
        if metadata["model"] not in BUILDERS:
            raise InvalidValue(f"model is {metadata['model']!r}")
        allowed = inspect.signature(BUILDERS[metadata["model"]]).parameters.keys()
        if unknown := metadata["arguments"].keys() - (allowed - {"weights"}):
            raise InvalidValue(f"its arguments contain {min(unknown)!r}")
        if (steps := metadata["preprocessing"]) is not None:
            check_shape(steps, _STEPS, "preprocessing")
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    row = {name: metadata[name] for name in _TYPES}
    row.update((name, tuple(metadata[name])) for name in ("input_shape", "class_names"))
    return PretrainedNetwork(**row, size_bytes=file.stat().st_size), entries


def _damaged(weights: str | os.PathLike, reason: str) -> ValueError:
    return InvalidValue(
        f"{os.fspath(weights)!r} is damaged or not a packed network: {reason}. "
        "Restore it from a copy."
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
