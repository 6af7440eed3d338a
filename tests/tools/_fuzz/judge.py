"""What becomes of one network: converted, folded, and without batch norm."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import larq_nobn as nobn
import larq as lq
import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, VerificationError
from larq_nobn.deploy.lite._file import edited
from larq_nobn.deploy.lite._lce_faults import add_room

from . import OUTCOMES
from .networks import Drawn, draw, latent, packed
from .oracle import COUNT, Expected, distance, evaluate, expected, matrix

_TOLERANCE = 2e-3
_NORMS = (keras.layers.BatchNormalization, nobn.layers.BatchKalmanNormalization)


class Fault(Exception):
    """Something that must not happen: its outcome, and what was found."""

    def __init__(self, outcome: str, actual: str):
        super().__init__(actual)
        self.outcome = outcome


def judge(
    seed: int, say: Callable[[str], None], int8: bool = False, runtime: str = "lce"
) -> dict[str, Any]:
    """Tries a network, and returns what is written down of it.

    Arguments:
        seed: Its number.
        say: Is told what is done next, which names what a crash interrupts.
        int8: Whether an int8 file is made of it, too.
        runtime: Where its files run.
    """
    start = time.monotonic()
    say("draw")
    drawn = draw(seed)
    record: dict[str, Any] = {
        "seed": seed,
        "steps": drawn.steps,
        "options": {k: v for k, v in drawn.options.items() if v != "float32"},
    }
    say("evaluate")
    wanted = _wanted(drawn, seed)
    record["binary"] = wanted.binary
    parts = {"convert": lambda: _converted(drawn, wanted, runtime)}
    if _has_norms(drawn.model) and drawn.options["policy"] == "float32":
        parts["fold"] = lambda: _folded(drawn.model, wanted)
        parts["remove"] = lambda: _removed(drawn.model, wanted)
    if int8 and drawn.options["policy"] == "float32" and not drawn.trains:
        parts["int8"] = lambda: _in_int8(drawn.model, wanted, runtime)
    for name, part in parts.items():
        say(name)
        record[name] = _outcome(part)
        if drawn.trains and record[name]["outcome"] != "refused":
            reason = f"{record[name]['outcome']}, though a call trains at inference"
            record[name] = {"outcome": "wrong", "reason": reason}
    converting = record["convert"]
    if converting["outcome"] in ("refused", "unverified") and not drawn.trains:
        say("plain")
        # What stays float on request was rejected for that.
        offered = "in_float" in converting
        converting["false"] = not offered and _plainly_right(drawn, wanted, runtime)
    actual = [record[name]["outcome"] for name in parts]
    # Surgery may reject what converts, but not do it wrongly.
    worst = [actual[0], *(o for o in actual[1:] if o not in ("refused", "unverified"))]
    record["outcome"] = max(worst, key=OUTCOMES.index)
    record["seconds"] = round(time.monotonic() - start, 2)
    return record


def _wanted(drawn: Drawn, seed: int) -> Expected:
    if drawn.options["policy"] == "float32":
        return expected(drawn.model, seed)
    twin = draw(seed, in_float32=True).model
    latent()  # a layer that could not be drawn leaves Larq's scope open
    twin.set_weights(drawn.model.get_weights())
    return expected(twin, seed)


def _has_norms(model: keras.Model) -> bool:
    return any(isinstance(part, _NORMS) for part in model.submodules)


def _outcome(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part returns, or how it failed."""
    latent()
    try:
        actual = part()
        if lq.context.should_quantize():
            raise Fault("leftover", "Larq's scope is left open")
        return actual
    except Fault as fault:
        return {"outcome": fault.outcome, "reason": str(fault)}
    except VerificationError as error:
        return {"outcome": "unverified", **_said(error)}
    except (ConversionError, nobn.surgery.ModelError) as error:
        return {"outcome": "refused", **_said(error)}
    except Exception as error:  # whatever escapes the package
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        reason = f"{type(error).__name__} at {place}"
        return {"outcome": "crash", "reason": reason, "said": str(error)[:500]}


def _said(error: Exception) -> dict[str, str]:
    said = str(error)
    return {"reason": reason_of(said), "said": said[:500]}


def reason_of(said: str) -> str:
    """The first sentence of a message, without its names and numbers."""
    actual = re.sub(r"'[^']*'( \(\w+\))?(, '[^']*')*( and '[^']*')?", "…", said)
    actual = re.sub(r"\([^()]*\d[^()]*\)", "(…)", actual)
    actual = re.sub(r"\d+x\d+", "#x#", actual)
    actual = re.sub(r"-?\d[\d.,]*(e[-+]?\d+)?\b", "#", actual)
    return re.split(r"[.:](?= |$)", actual)[0][:160]


def _converted(drawn: Drawn, wanted: Expected, runtime: str) -> dict[str, Any]:
    options = {k: v for k, v in drawn.options.items() if k not in ("policy", "form")}
    shape = getattr(drawn.model, "output_shape", None)
    if options.pop("labels", False) and type(shape) is tuple and len(shape) == 2:
        options["labels"] = [f"class {i}" for i in range(shape[-1])]
    if any(x.dtype == np.int32 for x in wanted.inputs):
        # Which ids there are, a model without a graph does not say.
        options["data"] = packed(drawn.model, wanted.inputs)
    refusal: ConversionError | None = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("model.c" if runtime == "c" else "model.tflite")
        for allow_float in (False, True):
            try:
                report = nobn.convert(
                    drawn.model,
                    path,
                    runtime=runtime,
                    allow_float=allow_float,
                    **options,
                )
                break
            except Exception as error:
                left = sorted(x.name for x in Path(folder).iterdir())
                if left:
                    raise Fault("leftover", f"{', '.join(left)}: {error}") from error
                if allow_float or "allow_float=True" not in str(error):
                    raise
                refusal = error
        names = [path.name, *[f"{path.name}.json"] * ("labels" in options)]
        names += ["model.h"] * (runtime == "c")
        left = sorted(x.name for x in Path(folder).iterdir())
        if left != names:
            raise Fault("leftover", ", ".join(left))
        content = path.read_bytes()
    actual: dict[str, Any] = {"outcome": "converted"}
    if refusal is not None:
        actual.update(outcome="refused", in_float="converted", **_said(refusal))
    # Without LCE, binary layers are what the report says of ordinary ones.
    count = {"litert": report.binary_layers, "c": report.lce_bconv2d}.get(runtime)
    count = binary_convolutions(content) if count is None else count
    # What is named in the report is not silent.
    named = len(report.in_float)
    least = (wanted.binary if refusal is None else wanted.plain) - named
    if count < least:
        raise Fault("silent float", f"{count} of {least} binary convolutions")
    actual |= {"bconv": count, "prepared": report.not_prepared is None}
    verified = report.verify
    for key in ("exact_share", "explained", "unexplained", "top1_agreement"):
        actual[key] = verified[key]
    outputs = run(content, wanted.inputs, runtime)
    try:
        actual |= _compared(wanted, outputs)
    except Fault:
        left = wanted._replace(sure=wanted.sure & wanted.steady())
        actual |= _compared(left, outputs)
    if actual["outcome"] == "converted" and not actual["sure"]:
        actual["outcome"] = "undecided"
    return actual


def _in_int8(model: keras.Model, wanted: Expected, runtime: str) -> dict[str, Any]:
    """What the package itself says of an int8 file: no other library makes one."""
    data = packed(model, wanted.inputs)
    quantized = nobn.deploy.fake_quantize(model, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        try:
            report = nobn.convert(
                quantized, path, data=data, int8=True, runtime=runtime
            )
        finally:
            left = sorted(x.name for x in Path(folder).iterdir())
            if left not in ([], ["model.tflite"]):
                raise Fault("leftover", ", ".join(left))
    steps = report.verify["int8"]["worst_steps"]
    return {"outcome": "converted", "bconv": report.lce_bconv2d, "worst_steps": steps}


def _plainly_right(drawn: Drawn, wanted: Expected, runtime: str) -> bool:
    """Whether LCE, or TensorFlow's converter, does a network right on its own."""
    import larq_compute_engine as lce

    functional = getattr(drawn.model, "_is_graph_network", False)
    plain = functional and drawn.options["policy"] == "float32"
    if not plain or not wanted.binary or not wanted.sure.any():
        return False
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            if runtime == "litert":
                converter = tf.lite.TFLiteConverter.from_keras_model(drawn.model)
                content = converter.convert()
            else:
                content = lce.convert_keras_model(drawn.model)
                if binary_convolutions(content) < wanted.binary:
                    return False
        _compared(wanted, run(content, wanted.inputs, runtime))
    except Exception:  # whatever LCE says to it
        return False
    return True


def _compared(wanted: Expected, outputs: list[np.ndarray]) -> dict[str, Any]:
    """Compares the examples that no rounding moves.

    Raises:
        Fault: If any of them differs.
    """
    off = np.zeros(COUNT)
    for was, now in zip(wanted.outputs, outputs, strict=True):
        off = np.maximum(off, distance(was, matrix(now, COUNT)))
    worst = float(off[wanted.sure].max(initial=0.0))
    if not worst <= _TOLERANCE:
        many = int((~(off[wanted.sure] <= _TOLERANCE)).sum())
        raise Fault("wrong", f"{many} of {wanted.sure.sum()} examples, by {worst:.2g}")
    return {"sure": int(wanted.sure.sum()), "worst": round(worst, 7)}


def run(
    content: bytes, inputs: list[np.ndarray], runtime: str = "lce"
) -> list[np.ndarray]:
    """The outputs of a file in its interpreter, for any number of examples."""
    if runtime == "c":
        outputs = nobn.deploy.Runner(content).outputs(inputs)
        return [np.reshape(y, (COUNT, -1)).astype(np.float32) for y in outputs]
    interpreter = _Lite(content) if runtime == "litert" else _lce(content)
    size = interpreter.input_shapes[0][0]
    actual = []
    for first in range(0, COUNT, size):
        # In whole batches: the last starts from scratch.
        rows = [(first + i) % COUNT for i in range(size)]
        outputs = interpreter.predict([x[rows] for x in inputs])
        left = min(size, COUNT - first)
        actual.append(
            [np.reshape(y, (size, -1))[:left].astype(np.float32) for y in outputs]
        )
    return [np.concatenate(rows) for rows in zip(*actual, strict=True)]


def _lce(content: bytes) -> Any:
    import larq_compute_engine as lce

    # Without room for what it makes itself, it may read where nothing is any more.
    return lce.testing.Interpreter(edited(content, add_room), num_threads=1).interpreter


class _Lite:
    """TensorFlow's interpreter, called as LCE's is."""

    def __init__(self, content: bytes):
        self.inner = tf.lite.Interpreter(model_content=content, num_threads=1)
        self.inner.allocate_tensors()
        self.input_shapes = [x["shape"] for x in self.inner.get_input_details()]

    def predict(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        for given, x in zip(self.inner.get_input_details(), inputs, strict=True):
            self.inner.set_tensor(given["index"], x)
        self.inner.invoke()
        outputs = self.inner.get_output_details()
        return [self.inner.get_tensor(y["index"]) for y in outputs]


def binary_convolutions(content: bytes) -> int:
    """Counts the binary convolutions of a file."""
    from larq_compute_engine.mlir.python import tflite_schema as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    codes = [code.customCode for code in model.operatorCodes]
    return sum(
        codes[op.opcodeIndex] == b"LceBconv2d"
        for graph in model.subgraphs
        for op in graph.operators
    )


def _folded(model: keras.Model, wanted: Expected) -> dict[str, Any]:
    folded = nobn.fold_batch_norm(model)
    if _has_norms(folded):
        raise Fault("wrong", "a batch norm is left")
    if not wanted.finite:
        return {"outcome": "converted"}
    actual = evaluate(folded, wanted.inputs)
    return {"outcome": "converted", **_compared(wanted, actual)}


def _removed(model: keras.Model, wanted: Expected) -> dict[str, Any]:
    removed = nobn.remove_batch_norm(model)
    if _has_norms(removed):
        raise Fault("wrong", "a batch norm is left")
    actual = evaluate(removed, wanted.inputs)
    for was, now in zip(wanted.outputs, actual, strict=True):
        if was.shape != now.shape:
            raise Fault("wrong", f"{now.shape} in place of {was.shape}")
        if wanted.finite and not np.isfinite(now).all():
            raise Fault("wrong", "outputs that are not numbers")
    return {"outcome": "converted"}
