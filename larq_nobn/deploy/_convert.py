"""From a trained Keras model to a verified `.tflite` file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from .._checks import check_bounds, check_flag, check_integer
from .._files import replacing
from .._keras import keras
from ._checks import (
    check_file,
    check_float32,
    check_model,
    check_trace,
    merged_convolutions,
)
from ._errors import UnreadableError
from ._graph import normalized, output_layers
from ._normal import given_name
from ._opening import with_known_sizes
from ._report import ConversionReport
from .inspection import audit_graphs
from .int8 import check_int8, round_kernels, verify_int8, verify_without_rounding
from .lite import (
    Runner,
    Trace,
    compute_engine,
    inference,
    io_spec,
    read,
    to_flatbuffer,
)
from .phone import Preprocessing, check_card, replacing_card
from .prepare import pad_with_ones, prepare, rewritten
from .verify import (
    tie_warnings,
    verification_examples,
    verify_file,
    verify_prepared,
    verify_trace,
    verify_traced_file,
)

_log = logging.getLogger("larq_nobn")

# Examples for the comparison that is made even without verification: of those that
# are made up, all regular and three random ones.
_FEW = 8


def convert(
    model: keras.Model,
    path: str | os.PathLike,
    verify: bool = True,
    data: Any = None,
    tolerance: float = 1e-3,
    *,
    batch_size: int = 1,
    one_padding: bool = False,
    int8: bool = False,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    allow_float: bool = False,
    input_shape: Sequence[int] | None = None,
) -> ConversionReport:
    """Converts a trained model to a `.tflite` file with LCE's binary kernels.

    The model is rewritten for inference, converted, counted and compared; the given
    model itself is not changed. On failure nothing is written, and a file that was at
    `path` before stays as it was.

    Arguments:
        model: A Larq model of any number of inputs and outputs, which the file has in
            the same order and under their names. A subclassed model, or one with a
            layer that does not show what it is made of, is converted as it computes,
            without preparation; the report then says why.
        path: Where the `.tflite` file goes.
        verify: Whether to compare on all examples, and report how far the outputs
            agree. Without, 8 examples are compared all the same. Compared are the given
            model with the prepared one, and that with the file, each segment by
            segment: from the signs and inputs that it reads to the next pre-activations
            and outputs, computed by one form from the signs that the other had there.
            Numbers must agree within tolerance per channel, and signs unless their
            pre-activation is within rounding of 0.
        data: Examples to compare on: an array, a list or dict of one per input,
            `(x, y)` or a batched tf.data dataset, of which the first 256 examples are
            used. None makes up 32, or 8 of inputs above 128x128 pixels.
        tolerance: Allowed difference between numbers of model and file, relative to
            the largest of their channel.
        batch_size: How many examples the file takes at once, whatever number the
            model was built for; layers that need that number need it here too.
        one_padding: Whether zero-padded binary convolutions are padded with ones
            instead. The file then computes something else than the model, at the
            borders of maps; it is compared with the model so changed. Train with
            `pad_values=1.0` where accuracy counts.
        int8: Whether the file computes in int8 what is not binary, and takes and gives
            int8. The model must say the ranges: see `deploy.fake_quantize`. Such a
            file is compared map by map, in quantization steps instead of `tolerance`.
        labels: One name per class. With labels or preprocessing, `<path>.json` is
            written too, for the app that uses the file: see `read_card`. Without, a
            JSON that an earlier conversion wrote there goes.
        preprocessing: What makes an input of the model of a picture.
        allow_float: Whether binary layers for which LCE has no kernel, such as
            depthwise ones or those of more than one bit, become float layers of the
            same function; so does a whole model without binary convolutions. The
            report lists them.
        input_shape: The size of one example, such as (96, 96, 3), of a model that
            leaves it open and has one input, or of a subclassed one that was never
            called.

    Returns:
        A `ConversionReport`.

    Raises:
        ConversionError: If the model or the data cannot be used, or a binary layer
            would stay float. The message names the layer and the remedy.
        VerificationError: If the file computes something else.
        OSError: If the file cannot be written.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((32, 32, 3), 10, width=16)
        report = nobn.convert(model, "model.tflite")
        print(report)
        ```
    """
    check_flag("verify", verify)
    check_bounds("tolerance", tolerance)
    check_integer("batch_size", batch_size, 1, "A phone sees one example at a time.")
    check_flag("one_padding", one_padding)
    check_flag("int8", int8)
    check_flag("allow_float", allow_float)
    compute_engine()
    reference, model = model, with_known_sizes(model, input_shape, data)
    repadded: list[str] = []
    merged: list[str] = []
    if one_padding:
        model, repadded = pad_with_ones(model)
    if one_padding or not getattr(reference, "_is_graph_network", False):
        reference = model
    trace, reason = None, None
    try:
        given, merged = normalized(model)
        names = check_card(given, labels, preprocessing)
        check_int8(given, int8)
        expected, lacking = check_model(given, allow_float)
        in_float = {layer.layer for layer in lacking}
        prepared = prepare(given, in_float)
        rows = rewritten(given)
        written = [row for row in rows if given_name(row["layer"]) not in in_float]
    except UnreadableError as error:
        if int8 or one_padding:
            raise
        check_float32(model, error)
        given, prepared, written = model, model, []
        names = check_card(model, labels, preprocessing)
        trace, reason = Trace(model, io_spec(model, batch_size)), str(error)
        expected, merged, lacking = check_trace(model, trace, allow_float)
    io = io_spec(model, batch_size)
    examples, source = verification_examples(data, model, given)
    if not verify:
        examples = [array[:_FEW] for array in examples]

    with (
        replacing_card(path, names, preprocessing) as write_card,
        replacing(path) as temporary,
    ):
        if int8:
            prepared = round_kernels(prepared)
        if trace is None:
            function, variables = inference(prepared), prepared.variables
        else:
            function, variables = trace.function(), []
        flatbuffer = to_flatbuffer(function, variables, io, int8)
        graphs = read(flatbuffer, os.fspath(path), output_layers(prepared))
        if trace is None:
            for name in merged_convolutions(graphs[0], prepared, io, expected):
                expected.remove(name)
                merged.append(given_name(name))
        check_file(graphs[0], prepared, expected)
        found = audit_graphs(graphs, len(flatbuffer), os.fspath(path))
        runner = Runner(flatbuffer)
        runner.outputs(io.zeros())
        if int8:
            same = verify_without_rounding(given, examples)
        elif trace is not None:
            same = verify_trace(model, trace, io, examples)
        else:
            same = verify_prepared(reference, given, prepared, examples)
        if int8:
            numbers = verify_int8(prepared, runner, io, examples)
        elif trace is not None:
            numbers = verify_traced_file(trace, runner, io, examples, tolerance)
        else:
            numbers = verify_file(prepared, flatbuffer, runner, examples, tolerance)
        verified = {**numbers, "data": source, "prepared": same}
        temporary.write_bytes(flatbuffer)
        write_card(flatbuffer, runner)
    form = "prepared" if trace is None else "traced"
    warnings = [] if int8 else tie_warnings(form, same, verified)
    for warning in warnings:
        _log.warning(warning)
    return ConversionReport(
        path=os.fspath(path),
        size_bytes=found.size_bytes,
        binary_layers=len(expected),
        lce_bconv2d=found.lce_bconv2d,
        float_ops=found.float_ops,
        binary_macs=found.binary_macs // batch_size,
        float_macs=found.float_macs // batch_size,
        int8_ops=found.int8_ops,
        int8_macs=found.int8_macs // batch_size,
        verify=verified if verify else None,
        in_float=[layer.to_dict() for layer in lacking],
        not_prepared=reason,
        warnings=warnings,
        repadded=repadded,
        rewritten=written,
        merged=merged,
    )
