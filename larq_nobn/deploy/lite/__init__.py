"""The `.tflite` file: made by LCE, run, and read operation by operation."""

from ._flatbuffer import compute_engine, quiet, read_file, to_flatbuffer
from ._operations import Operation, Subgraph, Tensor, damaged, is_lite, read
from ._outputs import with_outputs
from ._ports import Function, Ports, batch_of, in_batches, inference, ports_of, run
from ._room import with_room
from ._runner import Runner
from ._tensor_info import TensorInfo
from ._trace import Trace, TracedKernel, TracedSign

__all__ = [
    "Function",
    "Operation",
    "Ports",
    "Runner",
    "Subgraph",
    "Tensor",
    "TensorInfo",
    "Trace",
    "TracedKernel",
    "TracedSign",
    "batch_of",
    "compute_engine",
    "damaged",
    "in_batches",
    "inference",
    "is_lite",
    "ports_of",
    "quiet",
    "read",
    "read_file",
    "run",
    "to_flatbuffer",
    "with_outputs",
    "with_room",
]
