"""`larq-nobn convert`, `audit`, `summary` and `models`."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from .._names import GIVEN, IO_TYPES, RUNTIMES
from . import _arguments
from ._console import print_table, progress, say, show
from ._inputs import ModelImages, Origin, is_lite, open_network
from ._outputs import TFLITE, C, Output, json_option
from ._package import data, deploy, keras
from ._package import models as networks


@click.command(cls=_arguments.Command)
@_arguments.model_argument
@click.argument("output", metavar="OUT.tflite", type=Output(TFLITE))
@_arguments.dataset_option
@_arguments.preprocessing_options
@_arguments.data_dir_option
@click.option(
    "--tolerance",
    type=float,
    default=1e-3,
    help="Largest relative difference between Keras and the file that counts as equal.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Compute everything that is not binary in int8; needs --calibrate, or ranges "
    "in the model.",
)
@click.option(
    "--calibrate",
    "range_images",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --int8: take ranges of feature maps from N training images, if the "
    "model has none.",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    show_default="c for a name that ends in .c, else lce",
    help="lce: binary kernels of Larq Compute Engine; litert: no custom operations; "
    "micro: int8 for TensorFlow Lite Micro, one bit per weight; c: C, no runtime.",
)
@click.option(
    "--io",
    type=click.Choice(IO_TYPES),
    show_default="float32 for litert, else int8",
    help="Type of the inputs and outputs of an int8 file.",
)
@click.option(
    "--small",
    is_flag=True,
    help="In C, store real kernels of one size per filter as bits, which is slower.",
)
@click.option(
    "--pixels",
    is_flag=True,
    help="Make the file take pixels from 0 to 255 and normalize them itself; in C, "
    "bytes.",
)
@click.option(
    "--allow-float",
    is_flag=True,
    help="Compute binary layers in float if no binary kernel exists, and list them.",
)
@click.option(
    "--input-shape",
    type=_arguments.SHAPE,
    metavar="H,W,C",
    help="Shape of an image, such as 96,96,3, if the model has an unknown size.",
)
@click.option("--signature", help="Name of the function of a SavedModel to convert.")
@_arguments.trust_option
@click.option("--verbose", is_flag=True, help="Print the whole report.")
@json_option
def convert(
    model: Path,
    output: Path,
    dataset: str | None,
    data_dir: str | None,
    trust: bool,
    json_path: str | None,
    range_images: int | None,
    signature: str | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Convert a model to TFLite or C and verify it against Keras.

    RUN_OR_FILE is a run folder, a .keras or .h5 file, also of Keras 3, a packed .npz
    file, the folder of a SavedModel, or the name of a trained network (larq-nobn
    models). The output is verified on test images: of the model's own data set, or of
    --dataset; without either, on generated images. If a check fails, no output is
    written. If the data set is known, OUT.tflite.json contains its class names, mean
    and standard deviation for an app. An output name that ends in .c writes C code,
    model.c and model.h, which needs no runtime.

    \b
    Example: larq-nobn convert runs/a model.tflite --json report.json
             larq-nobn convert runs/a model.c --small --pixels
             larq-nobn convert open.h5 model.tflite --input-shape 96,96,3
             larq-nobn convert runs/a m.tflite --runtime litert --int8 --calibrate 256
             larq-nobn convert runs/a m.tflite --runtime micro --calibrate 256
    """
    options["int8"] |= options["runtime"] == "micro"
    if range_images is not None and not options["int8"]:
        raise click.UsageError(
            "--calibrate takes ranges for int8, but neither --int8 nor --runtime micro "
            "is given. Add one of them, or leave --calibrate out."
        )
    network, origin = open_network(model, trust, signature)
    _arguments.preprocessing(unused=origin is not None or dataset is None)
    own = any(type(each).__name__ == "FakeQuantization" for each in network.layers)
    if range_images is not None and not own:
        if dataset is None and origin is None:
            raise click.UsageError(
                "--calibrate needs training images, but the file does not name its "
                "data set. Name it with --dataset."
            )
        images = ModelImages(dataset, origin, data_dir, network)
        with progress("taking ranges from training images"):
            few = images.batches("train", range_images, shuffle=True)
        options["calibrate"] = few
    result = converted(network, output, dataset, origin, data_dir, **options)
    show(result.to_dict(), json_path, *[result.table()] * verbose)
    if json_path != "-":
        metadata = Path(f"{output}.json")
        if output.suffix == C:
            output = Path(f"{output} and {output.with_suffix('.h')}")
        without = ", without metadata for an app (--dataset adds it)"
        also = f" and {metadata}" if metadata.exists() else without
        say(f"{result.summary()}; wrote {output}{also}")
        if result.feed is not None:
            say(f"Input: {result.feed}")


@click.command(cls=_arguments.Command, limited=True)
@click.argument("file", type=_arguments.tflite_file)
@click.option(
    "--against",
    metavar="OTHER.tflite",
    type=_arguments.tflite_file,
    help="Show how FILE differs from this one.",
)
@json_option
def audit(file: Path, against: Path | None, json_path: str | None) -> None:
    """List the operations of a .tflite file, and what could be saved.

    \b
    Example: larq-nobn audit model.tflite --json -
             larq-nobn audit model.tflite --against other.tflite
    """
    if against is None:
        operations = deploy.audit(file)
        show(operations.to_dict(), json_path, *operations.tables())
    else:
        difference = deploy.diff(file, against)
        show(difference, json_path, _difference_table(difference, file, against))


def _difference_table(difference: dict[str, Any], file: Path, against: Path) -> Table:
    table = Table("", title=f"{file} against {against}", title_justify="left")
    for name in (file.name, against.name, "difference"):
        table.add_column(name, justify="right")
    for name, row in {**difference["numbers"], **difference["ops"]}.items():
        both = f"{row['path']:,}", f"{row['against']:,}"
        change = f"{row['difference']:+,}" if row["difference"] else ""
        table.add_row(name.replace("_", " "), *both, change)
    return table


def converted(
    model: keras.Model,
    output: Path,
    dataset: str | None,
    origin: Origin | None,
    data_dir: str | None = None,
    **options: Any,
) -> deploy.ConversionReport:
    """Converts a model; verifies it on test images if they are known and available."""
    info = origin.info if origin else None
    images = None
    if dataset is not None or (info is not None and info.name != GIVEN):
        try:
            known = ModelImages(dataset, origin, data_dir, model)
            images = known.batches(limit=deploy.device.VERIFIED_IMAGES)
            info = info or known.info
        except FileNotFoundError as error:
            if dataset is not None:
                raise
            say(f"Verifying on generated images. {error}", stderr=True)
    if info and not data.classifies(model, info, options.get("input_shape")):
        info = None
    with progress(f"converting and verifying {output}"):
        return deploy.convert(model, output, data=images, dataset=info, **options)


@click.command(cls=_arguments.Command)
@_arguments.model_argument
@_arguments.trust_option
def summary(model: Path, trust: bool) -> None:
    """Print the model summary and each layer's TFLite operations.

    RUN_OR_FILE is a run folder, a .keras, .h5 or packed .npz file, also of Keras 3, the
    folder of a SavedModel, or the name of a trained network (larq-nobn models). The
    second table comes from a temporary conversion. For a .tflite file, the output of
    audit is printed.

    \b
    Example: larq-nobn summary runs/a
             larq-nobn summary model.keras
    """
    if is_lite(model):
        show({}, None, *deploy.audit(model).tables())
        return
    network, _ = open_network(model, trust)
    networks.summary(network, print_fn=say)
    with progress("converting"), tempfile.TemporaryDirectory() as folder:
        report = deploy.convert(network, Path(folder, "model.tflite"), verify=False)
    print_table(_outcomes(network, report))


def _outcomes(network: keras.Model, report: deploy.ConversionReport) -> Table:
    table = Table("Layer", "On device", title="Layers", title_justify="left")
    binary, inputs = deploy.binary_layers(network), getattr(network, "input_names", ())
    own = [layer.name for layer in network.layers if layer.name not in inputs]
    inside = [name for op in report.float_ops for name in op["layers"]]
    for name in dict.fromkeys((*own, *binary, *inside)):
        parts = ["binary convolution"] if name in binary else []
        for op in report.float_ops:
            if count := op["layers"].count(name):
                parts.append(f"{count} {op['op']}")
        table.add_row(name, ", ".join(parts) or "nothing of its own")
    return table


@click.command(cls=_arguments.Command)
@click.option(
    "--for",
    "device",
    metavar="FLASH,RAM",
    help="List the networks whose files fit a device, such as 256k,256k or 1m,512k.",
)
@json_option
def models(device: str | None, json_path: str | None) -> None:
    """List the trained networks that come with the package.

    Use their names instead of a file in every command that opens a model, in train
    --init, and in Python as weights=. With --for, models at usual widths and image
    sizes are listed, trained or not, if they fit: with flash and memory of their files
    as C, for TensorFlow Lite Micro, for LiteRT in int8 and for LCE.

    \b
    Example: larq-nobn models
             larq-nobn models --for 256k,256k
             larq-nobn models --json models.json
    """
    rows: Any = networks.pretrained()
    if device is not None:
        rows = networks.file_sizes(*_bytes(device))
    show([dataclasses.asdict(row) for row in rows], json_path, rows.table())


def _bytes(device: str) -> list[int]:
    """Returns flash and memory in bytes; k is 1,024 bytes, m is 1,024 k."""
    sizes = re.fullmatch(r"(\d+)([km]?),(\d+)([km]?)", device.lower().replace(" ", ""))
    if sizes is None:
        raise click.BadParameter(
            f"{device!r} is not flash and memory of a device. Give both, such as "
            "256k,256k or 1m,512k.",
            param_hint="'--for'",
        )
    counts, units = sizes.groups()[::2], sizes.groups()[1::2]
    scales = {"": 1, "k": 1024, "m": 1024**2}
    return [int(n) * scales[unit] for n, unit in zip(counts, units, strict=True)]
