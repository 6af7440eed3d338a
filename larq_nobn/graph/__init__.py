"""The layer graph of a functional model: read, copied, and built again."""

from ._batch_norm import is_batch_norm
from ._calls import (
    TRAINING_ONLY,
    Call,
    calls,
    inputs_of,
)
from ._errors import UNWRAP, ModelError
from ._examples import made_up
from ._flat import as_own_input, flat, flat_copy, from_keras, refuse_opaque
from ._graph import Graph, Value
from ._inside import layers_inside
from ._kernels import (
    as_quantizer,
    bits_of,
    has_binary_kernel,
    is_binary,
    kernel_value,
    kind_of,
    split_kernel,
)
from ._kinds import (
    DEPTHWISE,
    PLAIN,
    SEPARABLE,
    SUMS,
    TRANSPOSED,
    Kernels,
    Passage,
    constants_of,
    is_channels_last,
    kernels_of,
    passage,
    symbol_of,
    weights_of_sum,
)
from ._linear import Linear, linear_of
from ._operation import Operation, latent, operation_of
from ._rebuild import float32_config, is_function, rebuild
from ._replace import replace_calls, replace_layers, to_keras
from ._same import FEW, check_same_function
from ._segments import (
    MARGIN,
    Found,
    Segments,
    Sign,
    compare,
    compare_sign,
    compare_values,
    record,
    sign_in,
)
from ._signs import (
    has_sign_input,
    is_binary_convolution,
    is_identity,
    is_mask,
    sign_at,
    sign_before,
    sign_behind,
    sign_of,
)
from ._steps import (
    Steps,
    finest_at_signs,
    sign_steps,
    steps_behind,
    steps_behind_activation,
    steps_behind_kernel,
    steps_of,
)
from ._thresholds import Threshold, threshold_of_affine
from ._training import check_inference

__all__ = [
    "UNWRAP",
    "DEPTHWISE",
    "FEW",
    "MARGIN",
    "PLAIN",
    "SEPARABLE",
    "SUMS",
    "TRAINING_ONLY",
    "TRANSPOSED",
    "Value",
    "Call",
    "Found",
    "Graph",
    "Kernels",
    "Linear",
    "ModelError",
    "Operation",
    "Passage",
    "Segments",
    "Sign",
    "Steps",
    "Threshold",
    "as_own_input",
    "as_quantizer",
    "bits_of",
    "calls",
    "compare",
    "compare_sign",
    "compare_values",
    "check_inference",
    "check_same_function",
    "constants_of",
    "finest_at_signs",
    "flat",
    "flat_copy",
    "from_keras",
    "float32_config",
    "has_binary_kernel",
    "has_sign_input",
    "inputs_of",
    "is_batch_norm",
    "is_binary",
    "is_binary_convolution",
    "is_channels_last",
    "is_function",
    "is_identity",
    "is_mask",
    "kernel_value",
    "kernels_of",
    "kind_of",
    "latent",
    "layers_inside",
    "linear_of",
    "made_up",
    "operation_of",
    "passage",
    "rebuild",
    "record",
    "refuse_opaque",
    "replace_calls",
    "replace_layers",
    "sign_at",
    "sign_before",
    "sign_behind",
    "sign_in",
    "sign_of",
    "sign_steps",
    "split_kernel",
    "steps_behind",
    "steps_behind_activation",
    "steps_behind_kernel",
    "steps_of",
    "symbol_of",
    "threshold_of_affine",
    "to_keras",
    "weights_of_sum",
]
