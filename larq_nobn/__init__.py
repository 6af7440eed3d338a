"""Binary neural networks in Keras without batch normalization."""

from . import _process
from ._version import __version__ as __version__

if not _process.late:
    from . import _keras as _keras  # first, since it selects legacy Keras
    from . import (
        callbacks,
        data,
        deploy,
        diagnostics,
        initializers,
        interop,
        layers,
        models,
        optimizers,
        quantizers,
        regularizers,
        training,
    )
    from .calibration import calibrate
    from .deploy import audit, benchmark, convert
    from .surgery import (
        fold_batch_norm,
        freeze_statistics,
        reestimate_batch_norm,
        remove_batch_norm,
    )

__all__ = [
    "audit",
    "benchmark",
    "calibrate",
    "callbacks",
    "convert",
    "data",
    "deploy",
    "diagnostics",
    "fold_batch_norm",
    "freeze_statistics",
    "initializers",
    "interop",
    "layers",
    "models",
    "optimizers",
    "quantizers",
    "reestimate_batch_norm",
    "regularizers",
    "remove_batch_norm",
    "training",
]
