"""Files of models: what is in them is looked through before Keras reads them."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from ..._archive_limits import check_hdf5, check_zip
from ..._files import opened
from ..._tables import sentence
from ._configuration import Untrusted, check_configuration

# Keras may quote a whole configuration.
_LONGEST = 600
_KIND = re.compile(r"\w+(Error|Exception): ")


def check_model_file(file: Path) -> int:
    """Raises ValueError unless a file may be opened without being trusted.

    Arguments:
        file: A file whose name ends in one of `SUFFIXES`.

    Returns:
        The bytes that the weights in the file take in memory.
    """
    try:
        config, stored = _READERS[file.suffix](file)
        check_configuration(config)
        return stored
    except Untrusted as error:
        raise ValueError(f"{file} {error}") from error
    except RecursionError as error:
        raise ValueError(
            f"{file} is nested too deeply to be a Keras model. Save it again, or train "
            "again."
        ) from error
    except Exception as error:  # whatever readers of archives say to other bytes
        raise ValueError(
            f"{file} is damaged or not a Keras model: {first_line(error)}. "
            "Save it again, or train it again."
        ) from error


def _of_archive(file: Path) -> tuple[object, int]:
    with zipfile.ZipFile(file) as archive:
        check_zip(archive, json=("config.json", "metadata.json"))
        with archive.open("model.weights.h5") as weights:
            size = archive.getinfo("model.weights.h5").compress_size
            in_memory = check_hdf5(weights, size)
        return json.loads(archive.read("config.json")), in_memory


def _of_hdf5(file: Path) -> tuple[object, int]:
    import h5py

    with opened(file) as stream:
        in_memory = check_hdf5(stream, file.stat().st_size)
    with h5py.File(file, "r") as stored:
        if "model_config" not in stored.attrs:
            raise ValueError("it contains weights at most, and no model")
        kept = ("model_config", "training_config")
        found = [json.loads(stored.attrs[key]) for key in kept if key in stored.attrs]
        return found, in_memory


_READERS = {".keras": _of_archive, ".h5": _of_hdf5}
SUFFIXES = frozenset(_READERS)


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind; of errors around another one the inner."""
    said = str(error).rpartition("Exception encountered: ")[2].strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if said.startswith("Exception encountered when calling"):  # Keras says where first
        what = [_KIND.sub("", line) for line in lines if _KIND.match(line)]
        lines = [*what, *lines[1:]]
    return sentence(next(iter(lines), type(error).__name__), _LONGEST)
