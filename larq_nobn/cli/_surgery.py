"""`larq-nobn fold`, `larq-nobn remove` and `larq-nobn import`."""

from __future__ import annotations

from pathlib import Path

import click

from .._names import GIVEN, VARIANCE_RULES
from ._arguments import Command, model_argument, trust_option
from ._console import progress, say, show
from ._inputs import Origin, open_run_or_file, shape_of
from ._outputs import KERAS, Output, json_option
from ._package import data, interop, keras, surgery, training

_output_argument = click.argument("output", metavar="OUT.keras", type=Output(KERAS))


@click.command(cls=Command)
@model_argument
@_output_argument
@trust_option
@json_option
def fold(model: Path, output: Path, trust: bool, json_path: str | None) -> None:
    """Fold batch norm into adjacent layers, with the same outputs.

    OUT.keras has no batch norm, computes what the network computes at inference, and
    can be trained further in batches of any size. The table shows how each batch norm
    was replaced.

    \b
    Example: larq-nobn fold runs/a folded.keras
             larq-nobn fold model.keras folded.keras --force --json report.json
    """
    network, origin = open_run_or_file(model, trust)
    with progress("folding"):
        folded, changes = surgery.fold_batch_norm(network, return_report=True)
    _finish(folded, changes, origin, output, json_path)


@click.command(cls=Command)
@model_argument
@_output_argument
@click.option(
    "--alpha", type=float, default=0.2, help="Factor on the residual branches."
)
@click.option(
    "--variance-rule",
    type=click.Choice(VARIANCE_RULES),
    default="nf",
    help="How variance is predicted along residual shortcuts. nf: each block adds to "
    "it; vita: each but the first of a stage, as in the code of BNN-BN.",
)
@trust_option
@json_option
def remove(
    model: Path,
    output: Path,
    alpha: float,
    variance_rule: str,
    trust: bool,
    json_path: str | None,
) -> None:
    """Rewrite a network with batch norm into one without, to train further.

    OUT.keras has the same architecture with scaled standardized kernels, initialized
    from the given weights. Unlike fold, this changes the outputs: train the network
    further.

    \b
    Example: larq-nobn remove runs/a free.keras
             larq-nobn remove model.keras free.keras --force --alpha 0.5
    """
    network, origin = open_run_or_file(model, trust)
    with progress("rewriting"):
        free, changes = surgery.remove_batch_norm(
            network, alpha, variance_rule, return_report=True
        )
    _finish(free, changes, origin, output, json_path)
    if changes.changes and json_path != "-":
        shape = shape_of(free)
        sized = f"--image-size {shape[0]}x{shape[1]} " if shape else ""
        say(
            f"Train it now: larq-nobn train --init {output} --recipe fine_tune "
            f"--dataset NAME_OR_FOLDER {sized}--output RUN"
        )


def _finish(
    model: keras.Model,
    changes: surgery.SurgeryReport,
    origin: Origin | None,
    output: Path,
    json_path: str | None,
) -> None:
    info = None if origin is None or origin.info.name == GIVEN else origin.info
    known = info and data.classifies(model, info)
    training.save_model(model, output, info if known else None)
    found = bool(changes.changes)
    show(changes.to_dict(), json_path, *[changes.table()] * found)
    if json_path != "-":
        copy = f"No batch norm was found; {output} is a copy."
        say(f"{output} contains no batch norm." if found else copy)


@click.command("import", cls=Command, limited=True)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@_output_argument
@click.option(
    "--image-size",
    "published_image_size",
    type=(int, int),
    metavar="HEIGHT WIDTH",
    show_default="that of the published data set",
    help="Size of the images that the network takes.",
)
@click.option(
    "--binary-weights/--real-weights",
    default=True,
    help="Give OUT.keras binary kernels, for a checkpoint of the second training "
    "stage, or real-valued kernels, for one of the first.",
)
@click.option(
    "--alpha",
    type=float,
    show_default="0.2, for A&B BNN 0.25",
    help="Factor on the residual branches; checkpoints do not contain it.",
)
@click.option(
    "--source",
    type=click.Choice(["bnn_nobn", "ab"]),
    show_default="recognized by its names",
    help="The code that has written the checkpoint: BNN-BN or A&B BNN.",
)
def import_(
    checkpoint: Path,
    output: Path,
    published_image_size: tuple[int, int] | None,
    binary_weights: bool,
    alpha: float | None,
    source: str | None,
) -> None:
    """Convert a published PyTorch checkpoint to a Keras model.

    CHECKPOINT is a .pth or .pth.tar file of the code of BNN-BN or of A&B BNN; the names
    in it identify the network. OUT.keras computes the same function. Use it for fold,
    convert or further training.

    \b
    Example: larq-nobn import model_best.pth.tar reactnet18.keras
             larq-nobn import checkpoint.pth.tar reactnet.keras --image-size 32 32
    """
    with progress("importing"):
        model = interop.import_checkpoint(
            checkpoint, published_image_size, binary_weights, alpha, source
        )
        training.save_model(model, output)
    height, width, channels = model.input_shape[1:]
    name = model.name.replace("reactnet", "ReActNet").replace("_a", "A")
    say(
        f"{output} contains {name}: {model.count_params():,} values, inputs of "
        f"{height}x{width}x{channels}, {model.output_shape[-1]} classes."
    )
