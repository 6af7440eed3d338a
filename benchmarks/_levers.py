"""Changes of a training that the package has no option for, until one of them gains.

`Levers.applied` is a context in which a `Trainer` builds with them. What drops and
decays acts in training alone, so the trained network is that of the package, but for
projections and factors.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import tensorflow as tf
from larq_nobn.calibration import calibrate
from larq_nobn.graph import _graph, _models, _operation, _signs
from larq_nobn.models._parts import Parts
from larq_nobn.optimizers._wrapper import parts_of
from larq_nobn.quantizers import ScaledStdSign
from larq_nobn.training import _network

keras = tf.keras
PROJECTION = "_shortcut_conv"
# The numbers of strong augmentation that do nothing: of three colors, angle and size.
NEUTRAL = (0.5, 0.5, 0.5, 0.5, 1.0)


@dataclass(frozen=True)
class Levers:
    r"""What changes in a ReActNet-18 and its training; the defaults change nothing.

    Arguments:
        dropped_branches: Fraction p of the examples for which the last of L branches is
            left out in training; of branch l it is p l / L, with no other factor on
            those that stay.
        head_dropout: Fraction of the features that training sets to 0 before the head,
            the others divided by what is left.
        latent_decay: Decoupled decay λ of latent kernels: each step of learning rate η
            multiplies them by 1 - η λ.
        real_projections: Whether the 1x1 kernels of shortcuts are real-valued.
        sigmas: Standard deviations σ of the inputs of the blocks, in order, which
            `measured_sigmas` finds; β is 1/σ and α is σ times what it was. For
            `"nobn"`; empty for the rule of the settings.
        strength: Of strong augmentation, from 0 (crops and mirror images) to 1.

    References:
        G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, "Deep Networks with
        Stochastic Depth", ECCV 2016, arXiv:1603.09382.
        A. Brock, S. De, S. Smith, K. Simonyan, "High-Performance Large-Scale Image
        Recognition Without Normalization", ICML 2021, arXiv:2102.06171.
        I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
        arXiv:1711.05101.
    """

    dropped_branches: float = 0.0
    head_dropout: float = 0.0
    latent_decay: float = 0.0
    real_projections: bool = False
    sigmas: tuple[float, ...] = ()
    strength: float = 1.0

    @property
    def at_inference(self):
        """Those that the trained network shows."""
        return replace(self, dropped_branches=0.0, head_dropout=0.0)

    @contextmanager
    def applied(self):
        """Builds networks and optimizers of trainings with these changes."""
        build, optimize = _network.build_network, _network.optimizer_for

        def build_network(settings, info, trust=False):
            return self.changed(build(settings, info, trust), settings.normalization)

        def optimizer_for(settings, schedule, network):
            return self.decaying(optimize(settings, schedule, network), network)

        with ExitStack() as stack:
            for made in (build_network, optimizer_for):
                patch = mock.patch.object(_network, made.__name__, made)
                stack.enter_context(patch)
            yield

    def changed(self, network, normalization):
        """The network built again with what is dropped, projected and scaled."""
        if replace(self, latent_decay=0.0, strength=1.0) == Levers():
            return network
        blocks = [x.name[: -len("_add")] for x in network.layers if is_sum(x)]
        if self.sigmas and (normalization, len(blocks)) != (
            "nobn",
            len(self.sigmas),
        ):
            raise ValueError(
                f"{len(self.sigmas)} sigmas do not fit {len(blocks)} blocks of "
                f"{normalization}. Measure them for these settings of nobn."
            )
        sigmas = dict(zip(blocks, self.sigmas, strict=False))

        def layers_for(call):
            layer, name = call.layer, call.layer.name
            if self.dropped_branches and is_sum(layer):
                block = name[: -len("_add")]
                number = blocks.index(block) + 1
                rate = self.dropped_branches * number / len(blocks)
                made = _operation.rebuild(layer)
                dropped = DroppedBranch(rate, number, name=f"{block}_dropped")
                return lambda both: made([dropped(both[0]), both[1]])
            if self.head_dropout and name == "pool":
                made = _operation.rebuild(layer)
                dropped = DroppedFeatures(self.head_dropout, name="head_dropped")
                return lambda x: dropped(made(x))
            changes = {}
            block = name.removesuffix(PROJECTION).removesuffix("_conv")
            if block in sigmas:
                changes |= scaled_by(layer, sigmas[block])
            if self.real_projections and name.endswith(PROJECTION):
                quantizer = changes.get("kernel_quantizer", layer.kernel_quantizer)
                changes |= real_kernel(quantizer, normalization, name)
            return _operation.rebuild(layer, **changes)

        return _models.replace_layers(network, layers_for)

    def decaying(self, optimizer, network):
        """The optimizer with decay of the latent kernels alone."""
        if self.latent_decay:
            *_, innermost = parts_of(optimizer)
            innermost.weight_decay = self.latent_decay
            latent = {id(each) for each in latent_kernels(network)}
            others = [v for v in network.trainable_variables if id(v) not in latent]
            innermost.exclude_from_weight_decay(var_list=others)
        return optimizer


def is_sum(layer):
    return isinstance(layer, keras.layers.Add) and layer.name.endswith("_add")


def latent_kernels(network):
    for layer in network.layers:
        if _signs.is_binary(getattr(layer, "kernel_quantizer", None)):
            yield layer.kernel


def real_kernel(quantizer, normalization, name):
    """Arguments of a convolution whose kernel was binary."""
    parts = Parts(normalization, binary_weights=False, estimator="approx_sign")
    scale = quantizer.scale if normalization == "nobn" else 1.0
    plain = {"kernel_quantizer": None, "kernel_constraint": None}
    start = {"kernel_initializer": "glorot_uniform"}
    return {**plain, **start, **parts.real_kernel(name.removesuffix("_conv"), scale)}


def scaled_by(layer, sigma):
    """Arguments of a convolution of a block whose input has a standard deviation σ."""
    kernel = layer.kernel_quantizer
    if layer.name.endswith(PROJECTION):
        return {"kernel_quantizer": _operation.rebuild(kernel, scale=1 / sigma)}
    sign = layer.input_quantizer
    return {
        "input_quantizer": _operation.rebuild(sign, scale=1 / sigma),
        "kernel_quantizer": _operation.rebuild(kernel, scale=sigma * kernel.scale),
    }


class Dropping(keras.layers.Layer):
    """Drops in training by draws of (number, step) alone; counts the steps itself."""

    def __init__(self, rate, number, **options):
        super().__init__(**options)
        self.rate, self.number = rate, number

    def build(self, shape):
        self.steps = self.add_weight(
            "steps", (), tf.int32, "zeros", trainable=False, experimental_autocast=False
        )

    def kept(self, shape):
        """1 with probability 1 - rate, else 0."""
        seed = tf.stack([self.number, self.steps])
        draws = tf.random.stateless_uniform(shape, seed, alg="philox")
        with tf.control_dependencies([draws]):
            self.steps.assign_add(1)
        return tf.cast(draws >= self.rate, tf.float32)


class DroppedBranch(Dropping):
    """Leaves a branch out for some examples."""

    def call(self, x, training=False):
        if not training:
            return x
        return x * tf.cast(self.kept([tf.shape(x)[0], 1, 1, 1]), x.dtype)


class DroppedFeatures(Dropping):
    """Dropout, whose draws an exported step can repeat."""

    def __init__(self, rate, number=0, **options):
        super().__init__(rate, number, **options)

    def call(self, x, training=False):
        if not training:
            return x
        return x * tf.cast(self.kept(tf.shape(x)) / (1 - self.rate), x.dtype)


def weakened(numbers, strength):
    """Numbers of strong augmentation with `strength` times their effect.

    Arguments:
        numbers: (N, 9), uniform in [0, 1): those of `jittered`, `affine_maps` and
            `cutout`, one after the other.
        strength: From 0 to 1.

    Returns:
        Numbers of the same shape, and (N,) which images lose a square: this fraction.
    """
    moved, others = numbers[:, : len(NEUTRAL)], numbers[:, len(NEUTRAL) :]
    moved = NEUTRAL + strength * (moved - NEUTRAL)
    # Modulo 1 the sum of all is uniform too, and does not depend on any one of them.
    chosen = tf.math.floormod(tf.reduce_sum(numbers, 1), 1.0) < strength
    return tf.concat([moved, others], 1), chosen


def measured_sigmas(network, images, rounds):
    """Standard deviations of the inputs of the blocks of a `nobn` network, by images.

    Those of a channel around its mean, as root mean square over channels. Each round
    `calibrate`s, measures, and gives the blocks the factors of what was measured; after
    as many rounds as a stage has blocks nothing changes any more.
    """
    alphas = {x.name: x.kernel_quantizer.scale for x in branches(network)}
    found = []
    for _ in range(rounds):
        calibrate(network, images)
        ends = [_graph.inputs_of(x.inbound_nodes[0])[0] for x in branches(network)]
        values = keras.Model(network.inputs, ends)(images, training=False)
        found = [float(np.sqrt(np.mean(np.var(x, (0, 1, 2))))) for x in values]
        for layer, sigma in zip(branches(network), found, strict=True):
            layer.input_quantizer.scale = 1 / sigma
            layer.kernel_quantizer.scale = alphas[layer.name] * sigma
    return found


def branches(network):
    """The binary convolutions of the blocks."""
    return [
        layer
        for layer in network.layers
        if isinstance(getattr(layer, "kernel_quantizer", None), ScaledStdSign)
        and not layer.name.endswith(PROJECTION)
    ]
