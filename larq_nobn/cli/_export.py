"""`larq-nobn export`: a folder that can be published on a model hub."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .._files import partial_name, replacing, unwritable
from .._names import ON_GIVEN_DATA, OWN
from ._arguments import Command, RunOrFile, data_dir_option, trust_option
from ._console import say
from ._deploy import converted
from ._models import Origin, open_run_or_file
from ._outputs import EXPORT, Output
from ._package import data, deploy, keras, models, training

MODEL, TFLITE, README = "model.keras", "model.tflite", "README.md"
# Settings that say where something lies on the machine of the training.
_PLACES = ("data_dir", "init_sha256")
# Names of data sets on the hub that publishes models under such headers.
_HUB_NAMES = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "imagenet": "ILSVRC/imagenet-1k",
}


@click.command(cls=Command)
@click.argument("run", metavar="RUN", type=RunOrFile())
@click.argument("folder", metavar="FOLDER", type=Output(EXPORT))
@click.option(
    "--license",
    "license_",
    default="other",
    metavar="ID",
    help="License of the trained network, as an identifier such as apache-2.0 or mit.",
)
@data_dir_option
@trust_option
def export(
    run: Path, folder: Path, license_: str, data_dir: str | None, trust: bool
) -> None:
    """Export a trained network as a folder to publish on a model hub.

    FOLDER contains model.keras, a verified model.tflite with its metadata, and a
    README.md with the hub's YAML header, accuracy, sizes, the training command and
    code that loads the network. RUN is a run folder, or the name of a trained
    network (larq-nobn models).

    \b
    Example: larq-nobn export runs/a hub/a --license mit
             larq-nobn export reactnet18-w32-digits hub/digits
    """
    model, origin = open_run_or_file(run, trust)
    if origin is None:
        raise ValueError(
            f"{run} is a model file, which does not tell its accuracy and training. "
            "Export a run folder, or the name of a trained network."
        )
    place = Path(os.path.realpath(folder))
    partial = partial_name(place)
    try:
        place.parent.mkdir(exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        training.save_model(model, partial / MODEL)
        report = converted(model, partial / TFLITE, None, origin, data_dir)
        text = _readme(model, origin, report, license_, partial)
        with replacing(partial / README) as readme:
            # A path in it may have bytes that are not text.
            readme.write_bytes(text.encode(errors="replace"))
        _replace(place, partial)
    except OSError as error:
        if str(partial) not in str(error):  # a name that nobody has given
            raise
        said = str(unwritable(folder, error))
        raise type(error)(said.replace(str(partial), str(folder))) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{folder}: {MODEL}, {TFLITE}, {TFLITE}.json, {README}")


def _replace(folder: Path, partial: Path) -> None:
    """Gives a finished folder its name; in one that is there, a user's files stay."""
    if not folder.is_dir():
        partial.rename(folder)
        return
    for file in partial.iterdir():
        file.replace(folder / file.name)


def _readme(
    model: keras.Model,
    origin: Origin,
    report: deploy.ConversionReport,
    license_: str,
    folder: Path,
) -> str:
    info, profile = origin.info, models.ModelProfile(model)
    binary = profile.op_count("mac", 1)
    dataset, verified = Path(info.name).name, report.verify
    assert verified is not None  # which conversions here always are
    given = verified["data"] == ON_GIVEN_DATA
    examples = "test images" if given else "generated images"
    builder = origin.settings["model"]
    kind = builder if builder != OWN else "network"
    without, norm = "without batch normalization", origin.settings.get("normalization")
    if norm not in ("nobn", "none"):
        without = f"with the normalization `{norm}`" if norm else "further"
    percent = round(100 * origin.accuracy, 2)
    rows = {
        "input": "x".join(map(str, info.image_shape)),
        "classes": info.classes,
        f"accuracy on {dataset} (test)": f"{percent} %",
        "parameters": f"{model.count_params():,}",
        "binary MACs": f"{binary:,}",
        "float MACs": f"{profile.op_count('mac') - binary:,}",
        f"size of {MODEL}": f"{(folder / MODEL).stat().st_size:,} bytes",
        f"size of {TFLITE}": f"{report.size_bytes:,} bytes",
        "binary convolutions": f"{report.lce_bconv2d} of {report.binary_layers}",
        "same class in Keras and TFLite": (
            f"{100 * verified['top1_agreement']:.1f} % of {verified['examples']} "
            f"{examples}"
        ),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""{_header(origin.name, license_, dataset, percent)}
# {origin.name}

A binary neural network ({kind}: weights and activations of -1 and +1) for {dataset},
trained {without} with `larq_nobn`. `{TFLITE}` runs on
[Larq Compute Engine](https://docs.larq.dev/compute-engine/) and was verified against
`{MODEL}`.

| | |
|---|---|
{table}

## Use

```bash
pip install 'larq-nobn[lce]'
```

```python
{_snippet(info)}```

`{TFLITE}.json` contains class names and preprocessing for an app.

## Training

{_command(origin.settings, dataset)}
"""


def _header(name: str, license_: str, dataset: str, percent: float) -> str:
    """The YAML that hubs read; a JSON text is a YAML scalar."""
    hub = _HUB_NAMES.get(dataset)
    datasets = f"datasets:\n- {hub}\n" if hub else ""
    return f"""---
license: {json.dumps(license_)}
library_name: larq_nobn
pipeline_tag: image-classification
tags:
- binary-neural-network
- larq
- keras
- tflite
{datasets}metrics:
- accuracy
model-index:
- name: {json.dumps(name)}
  results:
  - task:
      type: image-classification
    dataset:
      name: {json.dumps(dataset)}
      type: {json.dumps(hub or dataset)}
      split: test
    metrics:
    - type: accuracy
      value: {percent}
---
"""


def _snippet(info: data.DatasetInfo) -> str:
    """Loads both models and classifies an image; runs in the folder as it stands."""
    shape = info.image_shape
    name = "labels[{0}]" if info.class_names else "{0}"
    labels = "labels = metadata.labels\n" if info.class_names else ""
    if info.mean:
        image = (
            f"pixels = np.zeros({(*shape[:2], 3)}, np.uint8)  # an RGB image\n"
            "image = metadata.preprocessing(pixels)  # a batch of one\n"
        )
    else:
        image = (
            f"image = np.zeros({(1, *shape)}, np.float32)  # as the network takes it\n"
        )
    keras_class = name.format("int(np.argmax(model.predict(image)))")
    tflite_class = name.format("int(np.argmax(runner.outputs([image])[0]))")
    return f"""import larq_nobn as nobn
import numpy as np

model = nobn.training.open_model("{MODEL}")
runner = nobn.deploy.Runner("{TFLITE}")
metadata = nobn.deploy.read_card("{TFLITE}")
{labels}{image}print({keras_class})
print({tflite_class})
"""


def _command(settings: Mapping[str, Any], dataset: str) -> str:
    """The command that trains it again, in a block of code."""
    if settings.get("dataset") == "given":
        return "Trained in Python on arrays that were passed as `data`."
    shown = {**settings, "dataset": dataset}
    start = {
        name: shown[name]
        for name in ("model", "normalization", "dataset", "width", "blocks")
        if shown.get(name) is not None and shown.get(name) != OWN
    }
    words = ["larq-nobn train", f"--recipe {shown['recipe']}"]
    words += [_option(name, value) for name, value in start.items()]
    chosen: dict[str, Any] = {"dataset": "digits"}
    if shown["model"] != OWN:
        chosen |= {name: shown.get(name) for name in ("model", "normalization")}
    recipe = training.RunSettings.from_recipe(shown["recipe"], **chosen)
    usual = training.folder.plain(recipe)
    for name, value in shown.items():
        known = name in usual and name not in start and name != "recipe"
        if not known or name in _PLACES or value == usual[name]:
            continue
        if name == "network":
            words += [
                f"--network {key}={each}"
                for key, each in value.items()
                if usual["network"].get(key) != each
            ]
        elif value is not None:
            words.append(_option(name, value))
    words.append("--output runs/again")
    return "```bash\n" + " \\\n    ".join(words) + "\n```"


def _option(name: str, value: Any) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    if name in ("init", "teacher"):
        value = Path(value).name
    if isinstance(value, list | tuple):
        value = ("x" if name == "image_size" else ",").join(map(str, value))
    return f"--{option} {value}"
