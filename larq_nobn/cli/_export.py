"""`larq-nobn export`: a folder that can be published on a model hub."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from .._names import OWN, find_pretrained
from ._arguments import Command, RunOrFile, data_dir_option, trust_option
from ._console import say
from ._deploy import converted
from ._models import Origin, open_run_or_file, origin_of
from ._outputs import EXPORT, OutputFolder
from ._package import deploy, keras, models, training

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
@click.argument("folder", metavar="FOLDER", type=OutputFolder(EXPORT))
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
    card = _described(run, trust)
    folder.parent.mkdir(exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.absolute().parent))
    try:
        training.save_model(card.model, partial / MODEL)
        report, shown = _converted(card, partial / TFLITE, data_dir)
        text = _readme(card, report, shown, license_, partial)
        (partial / README).write_text(text, encoding="utf-8")
        partial.chmod(0o755)
        _replace(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{folder}: {MODEL}, {TFLITE}, {TFLITE}.json, {README}")


@dataclass(frozen=True)
class _Network:
    """What is known of the network that is exported.

    Arguments:
        name: The network's name.
        model: The network.
        origin: What it was trained on.
        accuracy: On the test images.
        settings: Of the run.
    """

    name: str
    model: keras.Model
    origin: Origin
    accuracy: float
    settings: Mapping[str, Any]


def _described(path: Path, trust: bool) -> _Network:
    model, origin = None, None
    if not path.is_dir() and find_pretrained(path) is not None:
        _, row = models.open_pretrained(path)
        model, origin = open_run_or_file(path, trust)
        assert origin is not None
        return _Network(row.name, model, origin, row.accuracy, row.settings)
    if not Path(path, "run.json").is_file():
        raise ValueError(
            f"{path} is a model file, which does not tell its accuracy and training. "
            "Export a run folder, or the name of a trained network."
        )
    run = training.load_run(path, trust)
    name = path.absolute().name
    accuracy = training.folder.test_metrics(run.record)["accuracy"]
    return _Network(name, run.model, origin_of(run), accuracy, run.record["settings"])


def _converted(
    network: _Network, target: Path, data_dir: str | None
) -> tuple[deploy.ConversionReport, str]:
    """Converts; returns the report, and what the models were compared on."""
    with suppress(FileNotFoundError):
        report = converted(network.model, target, None, network.origin, data_dir)
        return report, "test images"
    say(f"{network.origin.info.name} is not prepared here: verified on made-up images.")
    info = network.origin.info
    steps = None
    if info.mean:
        size = info.image_shape[:2]
        steps = deploy.Preprocessing(info.mean, info.std, size, info.crop)
    report = deploy.convert(
        network.model, target, labels=info.class_names or None, preprocessing=steps
    )
    return report, "generated images"


def _replace(folder: Path, partial: Path) -> None:
    """Gives a finished folder its name; what an earlier export left there goes."""
    if folder.is_dir():
        for name in (MODEL, TFLITE, f"{TFLITE}.json", README):
            (folder / name).unlink(missing_ok=True)
        if any(folder.iterdir()):  # a user's own files stay
            for file in partial.iterdir():
                file.rename(folder / file.name)
            return
        folder.rmdir()
    partial.rename(folder)


def _readme(
    network: _Network,
    report: deploy.ConversionReport,
    examples: str,
    license_: str,
    folder: Path,
) -> str:
    info, profile = network.origin.info, models.ModelProfile(network.model)
    binary = profile.op_count("mac", 1)
    dataset, verified = Path(info.name).name, report.verify
    assert verified is not None  # which conversions here always are
    builder = network.settings["model"]
    model = builder if builder != OWN else "network"
    percent = round(100 * network.accuracy, 2)
    rows = {
        "input": "x".join(map(str, info.image_shape)),
        "classes": info.classes,
        f"accuracy on {dataset} (test)": f"{percent} %",
        "parameters": f"{network.model.count_params():,}",
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
    command = _command(network.settings, dataset)
    return f"""{_header(network, license_, dataset, percent)}
# {network.name}

A binary neural network ({model}: weights and activations of -1 and +1) for {dataset},
trained {_without(network.settings)} with `larq_nobn`. `{TFLITE}` runs on
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
{_snippet(network)}```

`{TFLITE}.json` contains class names and preprocessing for an app.

## Training

{command}
"""


def _without(settings: Mapping[str, Any]) -> str:
    normalization = settings.get("normalization")
    if normalization in ("nobn", "none"):
        return "without batch normalization"
    return f"with the normalization `{normalization}`" if normalization else "further"


def _header(network: _Network, license_: str, dataset: str, percent: float) -> str:
    """The YAML that hubs read; a JSON text is a YAML scalar."""
    hub = _HUB_NAMES.get(dataset)
    lines = [
        "---",
        f"license: {json.dumps(license_)}",
        "library_name: larq_nobn",
        "pipeline_tag: image-classification",
        "tags:",
        *(f"- {tag}" for tag in ("binary-neural-network", "larq", "keras", "tflite")),
        *(["datasets:", f"- {hub}"] if hub else []),
        "metrics:",
        "- accuracy",
        "model-index:",
        f"- name: {json.dumps(network.name)}",
        "  results:",
        "  - task:",
        "      type: image-classification",
        "    dataset:",
        f"      name: {json.dumps(dataset)}",
        f"      type: {json.dumps(hub or dataset)}",
        "      split: test",
        "    metrics:",
        "    - type: accuracy",
        f"      value: {percent}",
        "---",
        "",
    ]
    return "\n".join(lines)


def _snippet(network: _Network) -> str:
    """Loads both models and classifies an image; runs in the folder as it stands."""
    shape = network.origin.info.image_shape
    name = "labels[{0}]" if network.origin.info.class_names else "{0}"
    labels = "labels = card.labels\n" if network.origin.info.class_names else ""
    if network.origin.info.mean:
        image = (
            f"pixels = np.zeros({(*shape[:2], 3)}, np.uint8)  # an RGB image\n"
            "image = card.preprocessing(pixels)  # a batch of one\n"
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
card = nobn.deploy.read_card("{TFLITE}")
{labels}{image}print({keras_class})
print({tflite_class})
"""


def _command(settings: Mapping[str, Any], dataset: str) -> str:
    """The command that trains it again; where it started from files, in words."""
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
    usual = _usual(shown)
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


def _usual(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the recipe alone, as a record holds them."""
    name, normalization = shown["recipe"], shown.get("normalization")
    model = shown["model"]
    given = {"model": model, "normalization": normalization, "dataset": "digits"}
    if model == OWN:
        given = {"dataset": "digits"}
    found = training.RunSettings.from_recipe(name, **given)
    return {
        field.name: json.loads(json.dumps(getattr(found, field.name)))
        for field in fields(found)
    }


def _option(name: str, value: Any) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    if name in ("init", "teacher"):
        value = Path(value).name
    if isinstance(value, list | tuple):
        value = ("x" if name == "image_size" else ",").join(map(str, value))
    return f"--{option} {value}"
