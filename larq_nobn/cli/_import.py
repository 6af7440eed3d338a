"""`larq-nobn import`."""

from __future__ import annotations

from pathlib import Path

import click

from ._arguments import Command
from ._console import progress, say
from ._outputs import KERAS, Output
from ._package import interop, training


@click.command("import", cls=Command, limited=True)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT.keras", type=Output(KERAS))
@click.option(
    "--source",
    type=click.Choice(["bnn_nobn"]),
    default="bnn_nobn",
    help="The published PyTorch code that wrote the checkpoint.",
)
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
    help="Binary kernels, as after the second of two training stages, or "
    "real-valued ones, as after the first.",
)
@click.option(
    "--alpha",
    type=float,
    default=0.2,
    help="Factor on the residual branches, which no checkpoint contains.",
)
def import_(
    checkpoint: Path,
    output: Path,
    source: str,
    published_image_size: tuple[int, int] | None,
    binary_weights: bool,
    alpha: float,
) -> None:
    """Convert a published PyTorch checkpoint to a Keras model.

    CHECKPOINT is a .pth.tar file of BNN-BN's code; the names in it identify the
    network. OUT.keras computes the same function, for fold, convert or further
    training.

    \b
    Example: larq-nobn import model_best.pth.tar reactnet18.keras
             larq-nobn import checkpoint.pth.tar reactnet.keras --image-size 32 32
    """
    with progress("importing"):
        model = interop.load_bnn_nobn(
            checkpoint, published_image_size, binary_weights, alpha
        )
        training.save_model(model, output)
    height, width, channels = model.input_shape[1:]
    say(
        f"{output} contains {model.name}: {model.count_params():,} values, images of "
        f"{height}x{width}x{channels}, {model.output_shape[-1]} classes."
    )
