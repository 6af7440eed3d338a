"""Saves models together with the data set that they classify."""

from __future__ import annotations

import os
from pathlib import Path

from .._checks import check_path
from .._errors import InvalidValue
from .._files import replacing
from .._keras import check_model, keras
from ..data import DatasetInfo, classified_images
from ._dataset_info import describe, write_dataset


def save_model(
    model: keras.Model,
    path: str | os.PathLike,
    dataset: str | os.PathLike[str] | DatasetInfo | None = None,
) -> None:
    """Saves a model as a `.keras` file, atomically.

    Arguments:
        model: A built Keras model.
        path: A name that ends in `.keras`; an earlier file is replaced.
        dataset: Data set that the model classifies, as in `data.open_dataset`. The file
            then contains its name, class names, mean and standard deviation, so that
            commands need no `--dataset`. Keras ignores them; `model.save` leaves them
            out.

    Raises:
        ValueError: If the name does not end in `.keras`, if two parts of the model
            share a layer with weights, which Keras would write to a file that nothing
            can open, or if the model does not classify images of the data set.
        OSError: If the file cannot be written; an earlier one is then left as it was.

    Example:
        ```python
        model = nobn.models.ReActNet18((8, 8, 1), 10, width=16, blocks=(1, 1))
        nobn.training.save_model(model, "model.keras", dataset="digits")
        ```
    """
    check_model(model)
    target = Path(check_path("path", path))
    if target.suffix != ".keras":
        raise InvalidValue(
            f"{target} is not a name for a Keras model. Choose one that ends in "
            ".keras, such as model.keras."
        )
    _check_saved_once(model)
    info = None if dataset is None else classified_images(model, dataset)[0]
    with replacing(target) as temporary:
        model.save(temporary)
        if info is not None:
            write_dataset(temporary, info)
            describe(model, info)


def _check_saved_once(model: keras.Model) -> None:
    """Rejects a layer with weights that is in two parts of a functional model.

    Keras writes its weights once, but reads them for each part.
    """
    places: dict[int, dict[tuple[int, int], str]] = {}
    left, seen = [model], set()
    while left:
        whole = left.pop()
        if not getattr(whole, "_is_graph_network", False) or id(whole) in seen:
            continue
        seen.add(id(whole))
        for child in whole.layers:
            is_model = isinstance(child, keras.Model)
            left += [child] if is_model else []
            for part in [child] if is_model else child._flatten_layers():
                homes = places.setdefault(id(part), {})
                homes[id(whole), id(child)] = f"{child.name!r} of {whole.name!r}"
                if len(homes) > 1 and part.weights:
                    raise InvalidValue(
                        f"Layer {part.name!r} is in {' and in '.join(homes.values())}, "
                        "and Keras would write a file that nothing can open. Make the "
                        "parts one functional model, or save the weights alone."
                    )
