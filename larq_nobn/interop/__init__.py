"""Opens networks that were trained with published PyTorch code."""

from ._bnn_nobn import import_checkpoint
from ._bnn_nobn import load_bnn_nobn as load_bnn_nobn  # its earlier name

__all__ = ["import_checkpoint"]
