"""Writes a trained network of digits for TensorFlow Lite Micro, and runs it there.

    pip install '.[data]' tflite-micro   # in a clone of the repository
    python examples/microcontroller/export.py network.h

`main.cc` includes the header. What is measured here runs in the interpreter of
`tflite-micro` for Python, which is that of microcontrollers, built for a computer.
"""

import sys
import tempfile
from pathlib import Path

import larq_nobn as nobn
import numpy as np
from larq_nobn.deploy import Runner, audit, convert, fake_quantize
from tflite_micro.python.tflite_micro import runtime

header = Path(sys.argv[1] if len(sys.argv) > 1 else "network.h")
model = nobn.models.ReActNet18(weights="reactnet18-w32-digits")
train = nobn.data.load("digits", "train", batch_size=64, augment=False)
test = nobn.data.load("digits", "test", batch_size=64)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "network.tflite"
    quantized = fake_quantize(model, train)
    print(convert(quantized, path, data=test, runtime="litert", int8=True))
    content, operations = path.read_bytes(), audit(path).ops
given, made = Runner(content).input_tensors[0], Runner(content).output_tensors[0]


def runs(arena):
    try:
        return runtime.Interpreter.from_bytes(content, arena_size=arena)
    except RuntimeError:
        return None


# The least memory in which it runs, to a kilobyte.
low, high = 0, 2048
while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if runs(1024 * middle) else (middle, high)
interpreter = runs(1024 * high)

hits = []
for images, labels in test:
    for image, label in zip(given.encode(images.numpy()), labels.numpy(), strict=True):
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        hits.append(np.argmax(interpreter.get_output(0)) == label)

names = {name: "".join(part.title() for part in name.split("_")) for name in operations}
names |= {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}
numbers = [f"0x{byte:02x}" for byte in content]
rows = [",".join(numbers[i : i + 16]) for i in range(0, len(numbers), 16)]
lines = [
    "// Written by export.py.",
    "#pragma once",
    "#include <cstddef>",
    '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"',
    f"constexpr size_t kArenaBytes = {high} * 1024;",
    f"constexpr float kInputScale = {given.scale!r}f;",
    f"constexpr int kInputZeroPoint = {given.zero_point};",
    f"constexpr float kOutputScale = {made.scale!r}f;",
    f"constexpr int kOutputZeroPoint = {made.zero_point};",
    f"using Resolver = tflite::MicroMutableOpResolver<{len(names)}>;",
    "inline void AddOperations(Resolver& resolver) {",
    *(f"  resolver.Add{names[name]}();" for name in operations),
    "}",
    "alignas(16) constexpr unsigned char kNetwork[] = {",
    *(f"  {row}," for row in rows),
    "};",
]
header.write_text("\n".join([*lines, ""]))
print(f"{header}: {len(content):,} bytes of network, {high} kB of arena")
print(f"accuracy in TensorFlow Lite Micro: {np.mean(hits):.1%} of {len(hits)} images")
