"""`larq-nobn import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ._arguments import Command, WholeNumber, check_unused
from ._console import say, working
from ._outputs import KERAS, Output
from ._package import interop, training

# What no file of these tells: arguments of `load_bnn_nobn` and so on.
_SOURCES: dict[str, tuple[str, ...]] = {
    "bnn_nobn": ("binary_weights", "alpha"),
    "recu": (),
    "ab": ("binary_weights", "alpha", "stem_stride"),
}


@click.command("import", cls=Command)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT.keras", type=Output(KERAS))
@click.option(
    "--source",
    type=click.Choice(list(_SOURCES)),
    required=True,
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
    "real-valued ones, as after the first. Not for recu.",
)
@click.option(
    "--alpha",
    type=float,
    show_default="0.2 for bnn_nobn, 0.25 for ab",
    help="Factor on the residual branches, which no checkpoint contains. Not for recu.",
)
@click.option(
    "--stem-stride",
    type=WholeNumber(1, 2),
    show_default="2 from 64 pixels on",
    help="Stride of the first convolution of ab's ReActNet-A, in no checkpoint either.",
)
@click.pass_context
def import_(
    ctx: click.Context,
    checkpoint: Path,
    output: Path,
    source: str,
    published_image_size: tuple[int, int] | None,
    **given: Any,
) -> None:
    """Convert a published PyTorch checkpoint to a Keras model.

    CHECKPOINT is a .pth.tar file of BNN-BN's or ReCU's code, or a .h5 file of A&B
    BNN's; the names in it identify the network. OUT.keras computes the same function,
    for fold, convert or further training.

    \b
    Example: larq-nobn import model_best.pth.tar resnet20.keras --source recu
             larq-nobn import checkpoint.h5 reactnet.keras --source ab --alpha 0.25
    """
    unused = given.keys() - _SOURCES[source]
    check_unused(ctx, unused, f"for {source}, whose files tell it")
    chosen = {n: given[n] for n in _SOURCES[source] if given[n] is not None}
    with working("importing"):
        load = getattr(interop, f"load_{source}")
        model = load(checkpoint, published_image_size, **chosen)
        training.save_model(model, output)
    height, width, channels = model.input_shape[1:]
    say(
        f"{output} contains {model.name}: {model.count_params():,} values, images of "
        f"{height}x{width}x{channels}, {model.output_shape[-1]} classes."
    )
