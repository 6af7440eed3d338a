"""The classes and functions that an untrusted model file may name.

Accepted are classes that Keras exports, or saves by their own name, if a model can
consist of them (layers, losses, optimizers and so on) and they run no code. Classes of
Larq, of this package and of the user are accepted if they are registered with Keras.

Accepted tensor operations are arithmetic, comparison, reductions, shapes, slicing,
concatenation, images in memory and the functions of `nn`. Rejected are functions that
take functions, read or write files, run Python, decode file formats, print or have a
state.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType, ModuleType
from typing import Any

import tensorflow as tf

from .._keras import keras, layers_in_files


def names_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _functions_in(module: ModuleType) -> set[str]:
    """Returns the names of a module's functions, without those that look up names."""
    return {
        name
        for name, value in vars(module).items()
        if callable(value) and not isinstance(value, type) and name[0] != "_"
    } - {"get", "serialize", "deserialize"}


_BASES = (
    keras.layers.Layer,  # models, metrics and quantizers among them
    keras.losses.Loss,
    keras.optimizers.Optimizer,
    keras.optimizers.legacy.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.mixed_precision.LossScaleOptimizer,
    keras.mixed_precision.Policy,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
)
# Classes that run code in their configuration, or read files that it names: bytecode of
# Lambdas and of wrappers of recurrent cells, any operation of TensorFlow, and feature
# columns with their vocabularies.
RUNNING_CODE = names_of(
    """
    Lambda TensorFlowOpLayer DeviceWrapper DropoutWrapper ResidualWrapper
    _RNNCellWrapper DenseFeatures SequenceFeatures FeatureSpace
    """
)
# Classes in files that Keras neither exports nor lists as layers.
_UNEXPORTED = names_of(
    "LossFunctionWrapper LossScaleOptimizerV3 PolicyV1 SumOverBatchSizeMetricWrapper"
)
# Accepted functions of Keras, some by their names in TensorFlow.
FUNCTIONS = _functions_in(keras.activations).union(
    _functions_in(keras.losses),
    _functions_in(keras.metrics),
    _functions_in(keras.regularizers),
    names_of("leaky_relu log_softmax relu6 silu softmax_v2"),
)
# Abbreviations, and words that only one layer knows.
_WORDS = names_of(
    """
    ACC BCE acc accuracy bce ce cosine_proximity crossentropy gaussian huber_loss
    laplacian maxnorm minmaxnorm nonneg normal one uniform unitnorm zero
    adadelta adafactor adagrad adam adamax adamw ftrl lion nadam rmsprop sgd
    """
)
_OWN = ("tf_keras", "larq", "larq_nobn")

# Pure functions of tensors, by the names under which TensorFlow exports them. In these
# modules all functions are pure.
_CALCULATING = ("bitwise", "linalg", "math", "signal")
_OPERATORS = {
    "__operators__": "add eq getitem ne ragged_getitem",
    "": """
        argsort batch_to_space bitcast boolean_mask broadcast_dynamic_shape broadcast_to
        cast clip_by_global_norm clip_by_norm clip_by_value complex concat constant
        convert_to_tensor dynamic_partition dynamic_stitch einsum ensure_shape
        expand_dims extract_volume_patches eye fill gather gather_nd guarantee_const
        histogram_fixed_width identity identity_n linspace matmul meshgrid norm one_hot
        ones ones_like pad range rank realdiv repeat reshape reverse reverse_sequence
        roll saturate_cast scatter_nd searchsorted sequence_mask shape shape_n size
        slice sort space_to_batch space_to_batch_nd split squeeze stack stop_gradient
        strided_slice tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min
        tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose
        truncatediv truncatemod unique unique_with_counts unravel_index unstack where
        zeros zeros_like""",
    "nn": """
        atrous_conv2d atrous_conv2d_transpose avg_pool avg_pool1d avg_pool2d avg_pool3d
        batch_norm_with_global_normalization batch_normalization bias_add conv1d
        conv1d_transpose conv2d conv2d_transpose conv3d conv3d_transpose conv_transpose
        convolution crelu depth_to_space depthwise_conv2d dilation2d dropout elu
        embedding_lookup erosion2d gelu in_top_k l2_loss l2_normalize leaky_relu
        local_response_normalization log_poisson_loss log_softmax lrn max_pool
        max_pool1d max_pool2d max_pool3d max_pool_with_argmax moments normalize_moments
        pool relu relu6 selu separable_conv2d sigmoid sigmoid_cross_entropy_with_logits
        silu softmax softmax_cross_entropy_with_logits softplus softsign space_to_batch
        space_to_depth sparse_softmax_cross_entropy_with_logits sufficient_statistics
        swish tanh top_k weighted_cross_entropy_with_logits weighted_moments
        zero_fraction""",
    "image": """
        adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation
        central_crop combined_non_max_suppression convert_image_dtype crop_and_resize
        crop_to_bounding_box extract_patches flip_left_right flip_up_down
        grayscale_to_rgb hsv_to_rgb image_gradients non_max_suppression
        non_max_suppression_padded pad_to_bounding_box per_image_standardization resize
        resize_with_crop_or_pad resize_with_pad rgb_to_grayscale rgb_to_hsv rgb_to_yiq
        rgb_to_yuv rot90 sobel_edges total_variation transpose yiq_to_rgb yuv_to_rgb""",
    "dtypes": "cast complex saturate_cast",
    "debugging": "check_numerics",
    "quantization": """
        fake_quant_with_min_max_args fake_quant_with_min_max_vars
        fake_quant_with_min_max_vars_per_channel quantize_and_dequantize
        quantize_and_dequantize_v2""",
}
_EARLIER = """
    batch_to_space batch_to_space_nd depth_to_space div div_no_nan extract_image_patches
    floor_div floordiv image.resize_area image.resize_bicubic image.resize_bilinear
    image.resize_images image.resize_nearest_neighbor log log_sigmoid matrix_transpose
    mod reciprocal rsqrt space_to_depth to_bfloat16 to_double to_float to_int32 to_int64
    """
_named = {space: _functions_in(getattr(tf, space)) for space in _CALCULATING}
_named["keras.activations"] = _functions_in(keras.activations)
# Many functions of `math` are also exported as `tf.NAME`.
_named[""] = {name for name in _named["math"] if hasattr(tf, name)}
OPERATORS = frozenset(
    f"{space}.{name}".lstrip(".")
    for space in {*_OPERATORS, *_named}
    for name in names_of(_OPERATORS.get(space, "")) | _named.get(space, set())
)
# Their counterparts of TensorFlow 1, which TensorFlow 2 uses in places.
OPERATORS |= {f"compat.v1.{name}" for name in {*OPERATORS, *_EARLIER.split()}}

# Members of ragged and sparse tensors, and constructors of ragged ones.
PROPERTIES = names_of(
    "values flat_values row_splits nested_row_splits indices dense_shape"
)
METHODS = names_of(
    """
    value_rowids nested_value_rowids nrows row_starts row_limits row_lengths
    nested_row_lengths bounding_shape with_values with_flat_values
    with_row_splits_dtype merge_dims to_tensor to_sparse
    """
)
CLASS_METHODS = names_of(
    """
    from_value_rowids from_row_splits from_row_lengths from_row_starts from_row_limits
    from_uniform_row_length from_nested_value_rowids from_nested_row_splits
    from_nested_row_lengths from_tensor from_sparse
    """
)


@functools.cache
def _public_modules() -> dict[str, ModuleType]:
    """Returns the modules that Keras exports, by names such as `tf_keras.layers`."""
    modules = {"tf_keras": keras}
    waiting = ["tf_keras"]
    for place in waiting:
        for name, value in vars(modules[place]).items():
            of_keras = isinstance(value, ModuleType) and "keras" in value.__name__
            if of_keras and not name.startswith("_") and name != "src":
                modules[f"{place}.{name}"] = value
                waiting.append(f"{place}.{name}")
    return modules


@functools.cache
def _classes() -> frozenset[str]:
    """Returns the names of the accepted classes of Keras."""
    places = [layers_in_files(), *map(vars, _public_modules().values())]
    accepted = (n for place in places for n, value in place.items() if _is_part(value))
    return _UNEXPORTED.union(accepted)


def _is_part(value: object) -> bool:
    """Tells whether a value is a class that models consist of and that runs no code."""
    return (
        isinstance(value, type) and issubclass(value, _BASES) and not runs_code(value)
    )


def runs_code(cls: type) -> bool:
    """Tells whether a class, or a base of it, is one of the classes that run code."""
    of_keras = (b for b in cls.__mro__ if b.__module__.startswith("tf_keras."))
    return any(base.__name__ in RUNNING_CODE for base in of_keras)


def registered(name: object) -> Any:
    """Returns the object that is registered with Keras under a name, or None."""
    return keras.saving.get_registered_object(name) if isinstance(name, str) else None


def is_users(name: object) -> bool:
    """Tells whether an object of the user is registered under a name."""
    known = registered(name)
    return known is not None and known.__module__.split(".")[0] not in _OWN


def is_class(name: object) -> bool:
    """Tells whether a name is that of a registered or an accepted class."""
    known = registered(name)
    if known is not None:
        return isinstance(known, type) and not runs_code(known)
    return name in _classes()


def is_function(name: object) -> bool:
    """Tells whether a name is that of a registered object or an accepted function."""
    known = registered(name)
    return callable(known) if known is not None else name in FUNCTIONS


def is_named(name: str) -> bool:
    """Tells whether a string may name a class or a function."""
    return is_class(name) or is_function(name) or name in _WORDS


def defines(module: object, name: str) -> bool:
    """Tells whether a module of Keras has an accepted class or function of a name.

    Only imported modules count, since importing a module runs its code.
    """
    if not isinstance(module, str):
        return False
    place = f"tf_keras{module.removeprefix('tf_').removeprefix('keras')}"
    inside = _public_modules().get(place)
    if inside is None and module.startswith(("keras.src.", "tf_keras.src.")):
        inside = sys.modules.get(place)
    value = vars(inside).get(name) if inside is not None else None
    if not getattr(value, "__module__", "").startswith("tf_keras.src."):
        return False
    if isinstance(value, type):
        return _is_part(value) and name in _classes()
    return isinstance(value, FunctionType) and value.__name__ == name in FUNCTIONS


def is_dtype(name: object) -> bool:
    """Tells whether a name is that of a type of numbers."""
    return isinstance(getattr(tf.dtypes, str(name), None), tf.DType)
