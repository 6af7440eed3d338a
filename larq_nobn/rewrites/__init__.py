"""Exact rewrites of graphs, one rule a file, each with its proof.

What is done with them is a list of rules in order: `surgery.fold` is one.
"""

from ._after_quantized import (
    affine_after_activation,
    affine_after_quantized_kernel,
    affine_stays,
)
from ._at_inference import (
    group_norm_is_plain,
    head_is_dense,
    identity_goes,
    kernel_is_numbers,
    layer_is_affine,
    normalization_is_affine,
    plain_quantizer,
    proxy_norm_in_parts,
    random_crop_resizes,
    rprelu_is_plain,
    shifted_sign,
    sign_is_plain,
)
from ._batch_norm import (
    batch_norm_to_affine,
    is_over_channels,
    scale_and_bias,
    steps_after,
    steps_at,
)
from ._concatenation import affine_before_concatenation
from ._forward import affine_into_layers_after, into_layers_after
from ._into_sign import (
    Equal,
    affine_into_sign,
    as_rsign,
    into_sign,
    starts_with_plain_sign,
)
from ._kernel_after import affine_into_kernel_after
from ._kernel_before import affine_into_kernel_before, before_pools, computed, source_of
from ._merge import merge_affines
from ._pools import affine_through_pool, averages
from ._rule import (
    Affine,
    Edit,
    NotExact,
    Refusal,
    Rule,
    affine_of,
    affine_operation,
    applied,
    everywhere,
    is_affine,
    is_shared,
    once,
    rescaled,
    rule,
)

__all__ = [
    "Affine",
    "Edit",
    "Equal",
    "NotExact",
    "Refusal",
    "Rule",
    "affine_after_activation",
    "affine_after_quantized_kernel",
    "affine_before_concatenation",
    "affine_into_kernel_after",
    "affine_into_kernel_before",
    "affine_into_layers_after",
    "affine_into_sign",
    "affine_of",
    "affine_operation",
    "affine_stays",
    "affine_through_pool",
    "applied",
    "as_rsign",
    "averages",
    "batch_norm_to_affine",
    "before_pools",
    "computed",
    "everywhere",
    "group_norm_is_plain",
    "head_is_dense",
    "identity_goes",
    "into_layers_after",
    "into_sign",
    "is_affine",
    "is_over_channels",
    "is_shared",
    "kernel_is_numbers",
    "layer_is_affine",
    "normalization_is_affine",
    "merge_affines",
    "once",
    "plain_quantizer",
    "proxy_norm_in_parts",
    "random_crop_resizes",
    "rescaled",
    "rprelu_is_plain",
    "rule",
    "scale_and_bias",
    "shifted_sign",
    "sign_is_plain",
    "source_of",
    "starts_with_plain_sign",
    "steps_after",
    "steps_at",
]
