"""The classes and functions that a model file may name without being trusted.

The names are written out, not taken from Keras: what a later version adds is not
allowed until somebody has looked at it. Left out on purpose are Lambdas and wrappers of
recurrent cells, which contain bytecode; layers of feature columns, which read files;
and `TensorFlowOpLayer`, which contains any operation of TensorFlow.

Tensor operations that a layer may consist of are arithmetic, comparison, reductions,
shapes, slicing, concatenation, images in memory and the functions of `nn`. Left out is
what takes functions, reads or writes, runs Python, decodes formats of files, prints or
keeps a state.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import tensorflow as tf

from ..._keras import keras


def names_of(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_CLASSES = {
    "keras": "Model Sequential",
    "keras.models": "Model Sequential",
    "keras.layers": """
        Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention
        Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D
        AvgPool3D BatchNormalization Bidirectional CategoryEncoding CenterCrop
        Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
        Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D
        Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D
        Convolution3DTranspose Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D
        DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Flatten
        GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
        GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
        GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D
        GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
        HashedCrossing Hashing Identity InputLayer IntegerLookup LSTM LSTMCell Layer
        LayerNormalization LeakyReLU LocallyConnected1D LocallyConnected2D Masking
        MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum
        Minimum MultiHeadAttention Multiply Normalization PReLU Permute RNN
        RandomBrightness RandomContrast RandomCrop RandomFlip RandomHeight
        RandomRotation RandomTranslation RandomWidth RandomZoom ReLU RepeatVector
        Rescaling Reshape Resizing SeparableConv1D SeparableConv2D
        SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax
        SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization
        StackedRNNCells StringLookup Subtract TextVectorization ThresholdedReLU
        TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
        Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D""",
    "keras.layers.experimental": """
        EinsumDense RandomFourierFeatures SyncBatchNormalization""",
    "keras.layers.experimental.preprocessing": """
        CategoryEncoding CenterCrop Discretization HashedCrossing Hashing IntegerLookup
        Normalization RandomContrast RandomCrop RandomFlip RandomHeight RandomRotation
        RandomTranslation RandomWidth RandomZoom Rescaling Resizing StringLookup
        TextVectorization""",
    "keras.initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal
        LecunUniform Ones Orthogonal RandomNormal RandomUniform TruncatedNormal
        VarianceScaling Zeros constant glorot_normal glorot_uniform he_normal
        he_uniform identity lecun_normal lecun_uniform ones orthogonal random_normal
        random_uniform truncated_normal variance_scaling zeros""",
    "keras.regularizers": "L1 L1L2 L2 OrthogonalRegularizer l1 l2",
    "keras.constraints": """
        MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm max_norm min_max_norm
        non_neg radial_constraint unit_norm""",
    "keras.losses": """
        BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy
        CategoricalFocalCrossentropy CategoricalHinge CosineSimilarity Hinge Huber
        KLDivergence LogCosh MeanAbsoluteError MeanAbsolutePercentageError
        MeanSquaredError MeanSquaredLogarithmicError Poisson
        SparseCategoricalCrossentropy SquaredHinge""",
    "keras.metrics": """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy
        CategoricalCrossentropy CategoricalHinge CosineSimilarity F1Score FBetaScore
        FalseNegatives FalsePositives Hinge IoU KLDivergence LogCoshError Mean
        MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper
        MeanRelativeError MeanSquaredError MeanSquaredLogarithmicError MeanTensor
        OneHotIoU OneHotMeanIoU Poisson Precision PrecisionAtRecall R2Score Recall
        RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity
        SparseCategoricalAccuracy SparseCategoricalCrossentropy
        SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum
        TopKCategoricalAccuracy TrueNegatives TruePositives""",
    "keras.optimizers": """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lion Nadam RMSprop SGD""",
    "keras.optimizers.experimental": """
        Adadelta Adagrad Adam AdamW Adamax Ftrl Nadam RMSprop SGD""",
    "keras.optimizers.legacy": "Adadelta Adagrad Adam Adamax Ftrl Nadam RMSprop SGD",
    "keras.optimizers.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay
        PiecewiseConstantDecay PolynomialDecay""",
    "keras.experimental": "CosineDecay CosineDecayRestarts",
    "keras.mixed_precision": "LossScaleOptimizer Policy",
}
# Known to files by the module of Keras that defines them.
_UNEXPORTED = names_of(
    """
    AddLoss AddMetric BatchNormalizationV1 BatchNormalizationV2 ClassMethod CuDNNGRU
    CuDNNLSTM Functional GRUCellV1 GRUCellV2 GRUV1 GRUV2 InstanceMethod
    InstanceProperty LSTMCellV1 LSTMCellV2 LSTMV1 LSTMV2 LossFunctionWrapper
    LossScaleOptimizerV3 PolicyV1 SlicingOpLambda SumOverBatchSizeMetricWrapper
    SyncBatchNormalization TFOpLambda
    """
)
_NAMES = {name for names in _CLASSES.values() for name in names_of(names)} | _UNEXPORTED

_FUNCTIONS = {
    "keras.activations": """
        elu exponential gelu hard_sigmoid leaky_relu linear log_softmax mish relu relu6
        selu sigmoid silu softmax softmax_v2 softplus softsign swish tanh""",
    "keras.regularizers": "l1_l2",
    "keras.losses": """
        KLD MAE MAPE MSE MSLE binary_crossentropy binary_focal_crossentropy
        categorical_crossentropy categorical_focal_crossentropy categorical_hinge
        cosine_similarity hinge huber kl_divergence kld kullback_leibler_divergence
        log_cosh logcosh mae mape mean_absolute_error mean_absolute_percentage_error
        mean_squared_error mean_squared_logarithmic_error mse msle poisson
        sparse_categorical_crossentropy squared_hinge""",
    "keras.metrics": """
        KLD MAE MAPE MSE MSLE binary_accuracy binary_crossentropy
        binary_focal_crossentropy categorical_accuracy categorical_crossentropy
        categorical_focal_crossentropy hinge kl_divergence kld
        kullback_leibler_divergence log_cosh logcosh mae mape mean_absolute_error
        mean_absolute_percentage_error mean_squared_error
        mean_squared_logarithmic_error mse msle poisson sparse_categorical_accuracy
        sparse_categorical_crossentropy sparse_top_k_categorical_accuracy squared_hinge
        top_k_categorical_accuracy""",
}
_FUNCTION_NAMES = {name for names in _FUNCTIONS.values() for name in names_of(names)}
# Short for others, or known to one layer alone.
_WORDS = names_of(
    """
    ACC BCE acc accuracy bce ce cosine_proximity crossentropy gaussian huber_loss
    laplacian maxnorm minmaxnorm nonneg normal one uniform unitnorm zero
    """
) | {name.lower() for name in names_of(_CLASSES["keras.optimizers"])}
_OWN = ("tf_keras", "larq", "larq_nobn")

# Pure functions of tensors, by the names under which TensorFlow exports them.
_OPERATORS = {
    "__operators__": "add eq getitem ne ragged_getitem",
    "": """
        abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh
        batch_to_space bitcast boolean_mask broadcast_dynamic_shape broadcast_to cast
        clip_by_global_norm clip_by_norm clip_by_value complex concat constant
        convert_to_tensor cos cosh cumsum divide dynamic_partition dynamic_stitch
        einsum ensure_shape equal exp expand_dims extract_volume_patches eye fill floor
        gather gather_nd greater greater_equal guarantee_const histogram_fixed_width
        identity identity_n less less_equal linspace logical_and logical_not logical_or
        matmul maximum meshgrid minimum multiply negative norm not_equal one_hot ones
        ones_like pad pow range rank realdiv reduce_all reduce_any reduce_logsumexp
        reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse
        reverse_sequence roll round saturate_cast scalar_mul scatter_nd searchsorted
        sequence_mask shape shape_n sigmoid sign sin sinh size slice sort
        space_to_batch space_to_batch_nd split sqrt square squeeze stack stop_gradient
        strided_slice subtract tan tanh tensor_scatter_nd_add tensor_scatter_nd_max
        tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update tensordot
        tile transpose truediv truncatediv truncatemod unique unique_with_counts
        unravel_index unstack where zeros zeros_like""",
    "math": """
        abs accumulate_n acos acosh add add_n angle argmax argmin asin asinh atan atan2
        atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e betainc bincount ceil
        confusion_matrix conj cos cosh count_nonzero cumprod cumsum
        cumulative_logsumexp digamma divide divide_no_nan equal erf erfc erfcinv erfinv
        exp expm1 floor floordiv floormod greater greater_equal igamma igammac imag
        in_top_k invert_permutation is_finite is_inf is_nan is_non_decreasing
        is_strictly_increasing l2_normalize lbeta less less_equal lgamma log log1p
        log_sigmoid log_softmax logical_and logical_not logical_or logical_xor maximum
        minimum mod multiply multiply_no_nan ndtri negative nextafter not_equal
        polygamma polyval pow real reciprocal reciprocal_no_nan reduce_all reduce_any
        reduce_euclidean_norm reduce_logsumexp reduce_max reduce_mean reduce_min
        reduce_prod reduce_std reduce_sum reduce_variance rint round rsqrt scalar_mul
        segment_max segment_mean segment_min segment_prod segment_sum sigmoid sign sin
        sinh softmax softplus softsign sqrt square squared_difference subtract tan tanh
        top_k truediv unsorted_segment_max unsorted_segment_mean unsorted_segment_min
        unsorted_segment_prod unsorted_segment_sqrt_n unsorted_segment_sum xdivy
        xlog1py xlogy zero_fraction zeta""",
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
    "linalg": """
        adjoint band_part cholesky cross det diag diag_part eig eigh eigvals eigvalsh
        einsum expm eye global_norm inv l2_normalize logdet lu matmul matrix_transpose
        matvec norm normalize pinv qr set_diag slogdet solve sqrtm svd tensor_diag
        tensor_diag_part tensordot trace triangular_solve""",
    "image": """
        adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation
        central_crop combined_non_max_suppression convert_image_dtype crop_and_resize
        crop_to_bounding_box extract_patches flip_left_right flip_up_down
        grayscale_to_rgb hsv_to_rgb image_gradients non_max_suppression
        non_max_suppression_padded pad_to_bounding_box per_image_standardization resize
        resize_with_crop_or_pad resize_with_pad rgb_to_grayscale rgb_to_hsv rgb_to_yiq
        rgb_to_yuv rot90 sobel_edges total_variation transpose yiq_to_rgb yuv_to_rgb""",
    "signal": """
        dct fft fft2d fft3d fftshift frame hamming_window hann_window idct ifft ifft2d
        ifft3d ifftshift irfft irfft2d irfft3d overlap_and_add rfft rfft2d rfft3d
        stft""",
    "bitwise": "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift",
    "dtypes": "cast complex saturate_cast",
    "debugging": "check_numerics",
    "quantization": """
        fake_quant_with_min_max_args fake_quant_with_min_max_vars
        fake_quant_with_min_max_vars_per_channel quantize_and_dequantize
        quantize_and_dequantize_v2""",
    "keras.activations": """
        elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softmax softplus
        softsign swish tanh""",
}
_EARLIER = """
    batch_to_space batch_to_space_nd depth_to_space div div_no_nan extract_image_patches
    floor_div floordiv image.resize_area image.resize_bicubic image.resize_bilinear
    image.resize_images image.resize_nearest_neighbor log log_sigmoid matrix_transpose
    mod reciprocal rsqrt space_to_depth to_bfloat16 to_double to_float to_int32 to_int64
    """
OPERATORS = frozenset(
    f"{space}.{name}".lstrip(".")
    for space, names in _OPERATORS.items()
    for name in names_of(names)
)
# The same of TensorFlow 1, which TensorFlow 2 is written in here and there.
OPERATORS |= {f"compat.v1.{name}" for name in {*OPERATORS, *names_of(_EARLIER)}}

# What is read of a ragged or a sparse tensor, and how a ragged one is made.
PROPERTIES = names_of(
    """
    values flat_values row_splits nested_row_splits indices dense_shape
    """
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


def registered(name: object) -> Any:
    """What was registered with Keras in this process under a name, if anything."""
    return keras.saving.get_registered_object(name) if isinstance(name, str) else None


def is_users(name: object) -> bool:
    """Whether something of the user was registered under a name."""
    found = registered(name)
    return found is not None and found.__module__.split(".")[0] not in _OWN


def is_class(name: object) -> bool:
    """Whether it is the name of a class: a listed one, or one that was registered."""
    found = registered(name)
    return isinstance(found, type) or (found is None and name in _NAMES)


def is_function(name: object) -> bool:
    """The same of a function; a class may stand where a function is wanted."""
    found = registered(name)
    if found is not None:
        return callable(found)
    return name in _FUNCTION_NAMES


def is_named(name: str) -> bool:
    """Whether a string may stand where a class or a function is wanted."""
    return is_class(name) or is_function(name) or name in _WORDS


def defines(module: str, name: str) -> bool:
    """Whether it is a module of Keras, in which this name is what the lists mean."""
    public = f"keras{module.removeprefix('tf_keras').removeprefix('keras')}"
    listed = f"{_CLASSES.get(public, '')} {_FUNCTIONS.get(public, '')}".split()
    if name in listed and module in (public, f"tf_{public}"):
        return True
    if not module.startswith(("keras.src.", "tf_keras.src.")):
        return False
    # Only what is imported already: importing is running.
    inside = sys.modules.get(
        f"tf_keras{module.removeprefix('tf_').removeprefix('keras')}"
    )
    found = vars(inside).get(name) if inside is not None else None
    return (
        isinstance(found, type | types.FunctionType)
        and name in _NAMES | _FUNCTION_NAMES
        and found.__module__.startswith("tf_keras.src.")
        and found.__name__ == name
    )


def is_dtype(name: object) -> bool:
    """Whether it names a type of numbers."""
    return isinstance(name, str) and isinstance(
        getattr(tf.dtypes, name, None), tf.DType
    )
