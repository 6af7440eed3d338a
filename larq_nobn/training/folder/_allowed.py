"""The classes and functions that a model file may name without being trusted.

The names are written out, not taken from Keras: what a later version adds is not
allowed until somebody has looked at it. Left out on purpose are Lambdas and wrappers of
recurrent cells, which contain bytecode; layers of feature columns, which read files;
and `TensorFlowOpLayer`, which contains any operation of TensorFlow.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import tensorflow as tf

from ..._keras import keras
from ._operators import names_of

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
