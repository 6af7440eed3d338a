"""The settings of a run that starts from the weights of another network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..._names import OWN, find_pretrained

_MODEL_OF_RUN = "model.keras"
# What a network that is taken as it is has already, and the value that leaves it so.
_DECIDED: dict[str, Any] = {
    "normalization": None,
    "width": None,
    "blocks": None,
    "network": {},
    "stages": 1,
    "precision": "float32",
}


def weights_file(init: str) -> Path:
    """The file of the weights of a run folder, of a trained network, or of itself."""
    path = Path(init)
    if path.is_dir():
        return path / _MODEL_OF_RUN
    return find_pretrained(init) or path


def content_hash(init: str) -> str | None:
    """The SHA-256 of that file, in hexadecimal; None if there is no such file."""
    file = weights_file(init)
    if not file.is_file():
        return None
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_init(settings: Any) -> None:
    """Refuses what does not go with the weights of another network.

    Arguments:
        settings: Those of a run.

    Raises:
        TypeError: If `init` is no text.
        ValueError: If there is none where there has to be one, or something decides
            what is decided by it.
    """
    init = settings.init
    if init is None:
        if settings.model == OWN:
            raise ValueError(
                f"model={OWN!r} is the network of init, which is not given. Add "
                "--init RUN_OR_FILE (init=...), or name the network."
            )
        return
    if not isinstance(init, str) or not init:
        raise TypeError(
            f"init={init!r} is no path. Give a run folder, or a .keras or .h5 file, "
            "as text."
        )
    if settings.calibrate:
        raise ValueError(
            f"calibrate=True would overwrite shifts and gains of init={init!r}. Leave "
            "one of them out."
        )
    if settings.model != OWN:
        return
    for name, usual in _DECIDED.items():
        if (value := getattr(settings, name)) != usual:
            raise ValueError(
                f"{name}={value!r} does not apply to the network of init={init!r} as "
                "it is. Leave it out, or choose a model (--model) that takes the "
                "weights."
            )
