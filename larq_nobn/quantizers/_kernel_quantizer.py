from __future__ import annotations

import tensorflow as tf

from ._measured import MeasuredQuantizer


class KernelQuantizer(MeasuredQuantizer):
    """Abstract base: a kernel quantizer that owns weights, those of a single layer."""

    def build(self, input_shape: tf.TensorShape) -> None:
        self._kernel_shape = tf.TensorShape(input_shape)
        super().build(input_shape)

    def _check_filters(self, shape: tf.TensorShape) -> None:
        """Refuses kernels whose filters have no variance."""
        if shape.rank < 2 or shape[:-1].num_elements() < 2:
            raise ValueError(
                f"{type(self).__name__} got a kernel of shape {tuple(shape)}, whose "
                "filters have a single weight; standardization needs at least two. "
                "Leave such a layer without kernel_quantizer."
            )

    def _check_owner(self, kernel: tf.Tensor) -> None:
        """Refuses the kernel of another layer, as far as its shape gives that away."""
        if kernel.shape != self._kernel_shape:
            raise ValueError(
                f"One {type(self).__name__} object got kernels of shape "
                f"{tuple(self._kernel_shape)} and {tuple(kernel.shape)}, but its "
                "weights belong to one layer. Give each layer a quantizer of its own."
            )
