"""Writes the networks of rows to files and has a fresh process open them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import contract_reopen
import numpy as np
from contract_case import Case
from contract_networks import draw, host, network, perturb

SUFFIXES = contract_reopen.SUFFIXES


@dataclass(frozen=True)
class Opened:
    """What one process makes of a model: its outputs, classes and architecture."""

    outputs: list[np.ndarray]
    classes: list[str]
    architecture: str


def written(case: Case, folder: Path) -> Opened:
    """Saves a network around the row in every format, with inputs for it."""
    called, shape = host(case, case.shapes[0], case.make())
    model = network(called, shape, unknown=True)
    perturb(model)
    inputs = draw(case, shape)
    # In float32 as Keras would make them, so that both processes start from the same.
    images = inputs if isinstance(shape, list) else [inputs]
    images = [image.astype(np.float32) for image in images]
    np.savez(folder / f"{case.name}.inputs.npz", *images)
    for suffix in SUFFIXES:
        kind = {"save_format": "tf"} if suffix == ".saved_model" else {}
        model.save(folder / f"{case.name}{suffix}", **kind)
    return Opened(
        contract_reopen.outputs(model, images),
        contract_reopen.class_names(model),
        contract_reopen.architecture(model),
    )


def reopen(folder: Path) -> None:
    """Opens every file of `folder` in one process that imports only larq_nobn."""
    # That process has to choose legacy Keras by itself.
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    subprocess.run(
        [sys.executable, contract_reopen.__file__, str(folder)],
        check=True,
        env=environment,
    )


def opened(case: Case, suffix: str, folder: Path) -> Opened:
    """What the fresh process found in one file."""
    path = folder / f"{case.name}{suffix}"
    error = Path(f"{path}.error.txt")
    if error.exists():
        raise AssertionError(f"{path.name} could not be opened:\n{error.read_text()}")
    found = np.load(f"{path}.opened.npz")
    outputs = [found[key] for key in found.files if key.startswith("arr_")]
    return Opened(outputs, list(found["classes"]), str(found["architecture"]))


def write_and_reopen(cases: Iterable[Case], folder: Path) -> dict[str, Opened]:
    """Both steps for all rows; returns what the writing process saw, by name."""
    seen = {case.name: written(case, folder) for case in cases}
    reopen(folder)
    return seen
