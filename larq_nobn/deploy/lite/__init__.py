"""Files of Larq Compute Engine: written, read operation by operation, and run."""

from ._converter import (
    Function,
    IoSpec,
    Runner,
    TensorInfo,
    batch_of,
    check_memory,
    in_batches,
    inference,
    interpreter_of,
    io_spec,
    run,
    to_flatbuffer,
    to_float_flatbuffer,
    with_outputs,
)
from ._engine import compute_engine, quiet
from ._file import KINDS, Operation, Subgraph, Tensor, damaged, read, read_file
from ._lce_faults import (
    FUSED_LSTM,
    has_lost_bias,
    in_groups,
    missed_reach,
    overwritten,
    with_room,
)
from ._trace import Trace, TracedKernel, TracedSign

__all__ = [
    "FUSED_LSTM",
    "KINDS",
    "Function",
    "IoSpec",
    "Operation",
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
    "has_lost_bias",
    "in_groups",
    "inference",
    "check_memory",
    "interpreter_of",
    "io_spec",
    "missed_reach",
    "overwritten",
    "quiet",
    "read",
    "read_file",
    "run",
    "to_flatbuffer",
    "to_float_flatbuffer",
    "with_outputs",
    "with_room",
]
