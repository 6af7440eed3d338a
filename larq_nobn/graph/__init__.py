"""The layer graph of a functional model: read, copied, and built again."""

from ._calls import (
    TRAINING_ONLY,
    Call,
    calls,
    has_sign_input,
    inputs_of,
    is_binary_convolution,
    sign_of,
)
from ._errors import ModelError
from ._flat import flat_copy, refuse_opaque
from ._graph import Graph
from ._kernels import is_binary, kernel_value, split_kernel
from ._rebuild import float32_config, rebuild
from ._replace import replace_layers

__all__ = [
    "TRAINING_ONLY",
    "Call",
    "Graph",
    "ModelError",
    "calls",
    "flat_copy",
    "float32_config",
    "has_sign_input",
    "inputs_of",
    "is_binary",
    "is_binary_convolution",
    "kernel_value",
    "rebuild",
    "refuse_opaque",
    "replace_layers",
    "sign_of",
    "split_kernel",
]
