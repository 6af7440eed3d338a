"""Writes the networks of rows to files and has a fresh process open them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import contract_reopen
import fresh
import numpy as np
from contract_case import Case
from contract_networks import draw, host, network, perturb, side_by_side
from larq_nobn.loading._configuration import check_model_file

SUFFIXES = contract_reopen.SUFFIXES


@dataclass(frozen=True)
class Opened:
    """What one process makes of a model: its outputs, classes and architecture."""

    outputs: list[np.ndarray]
    classes: list[str]
    architecture: str


def written(cases: Sequence[Case], name: str, folder: Path) -> Opened:
    """Saves one network around some rows in every format, with inputs for it."""
    parts, images = [], []
    for case in cases:
        called, shape = host(case, case.shapes[0], case.make())
        parts.append(network(called, shape, unknown=True))
        drawn = draw(case, shape)
        images += drawn if isinstance(shape, list) else [drawn]
    model = side_by_side(parts)
    perturb(model)
    # In float32 as Keras would make them, so that both processes start from the same.
    images = [image.astype(np.float32) for image in images]
    np.savez(folder / f"{name}.inputs.npz", *images)
    for suffix in SUFFIXES:
        # Traces, which only a process without the package reads, take most of the time.
        traced = name == "activation"
        kind = {"save_format": "tf", "save_traces": traced}
        model.save(
            folder / f"{name}{suffix}", **kind if suffix == ".saved_model" else {}
        )
        if suffix != ".saved_model":  # which nobody opens without trusting it
            check_model_file(folder / f"{name}{suffix}")
    return Opened(
        contract_reopen.outputs(model, images),
        contract_reopen.class_names(model),
        contract_reopen.architecture(model),
    )


def opened(name: str, suffix: str, folder: Path) -> Opened:
    """What the fresh process found in one file."""
    path = folder / f"{name}{suffix}"
    error = Path(f"{path}.error.txt")
    if error.exists():
        raise AssertionError(f"{path.name} could not be opened:\n{error.read_text()}")
    found = np.load(f"{path}.opened.npz")
    outputs = [found[key] for key in found.files if key.startswith("arr_")]
    return Opened(outputs, list(found["classes"]), str(found["architecture"]))


def write_and_reopen(
    groups: Mapping[str, Sequence[Case]], folder: Path
) -> dict[str, Opened]:
    """Writes a network per group and opens every file in one process of its own.

    Returns what the writing process saw, by name of the group.
    """
    seen = {name: written(cases, name, folder) for name, cases in groups.items()}
    done = fresh.run(Path(contract_reopen.__file__), [folder])
    assert done.returncode == 0, done.stderr
    return seen
