"""The `.tflite` file: made by LCE, run, and read operation by operation."""

from ._flatbuffer import compute_engine, quiet, to_flatbuffer
from ._operations import Operation, Subgraph, Tensor, damaged, is_lite, read
from ._ports import Ports, batch_of, inference, ports_of, run
from ._runner import Runner
from ._tensor_info import TensorInfo

__all__ = [
    "Operation",
    "Ports",
    "Runner",
    "Subgraph",
    "Tensor",
    "TensorInfo",
    "batch_of",
    "compute_engine",
    "damaged",
    "inference",
    "is_lite",
    "ports_of",
    "quiet",
    "read",
    "run",
    "to_flatbuffer",
]
