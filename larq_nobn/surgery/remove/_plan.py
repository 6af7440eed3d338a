"""What is planned for the layers of a network that loses its batch norm."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class KernelPlan:
    """What a standardized kernel is given.

    Arguments:
        name: Of the kernel, within its layer.
        binary: Whether it is.
        scale: One over the expected standard deviation of its input; 1 after a sign.
        alpha: Of the branch that it ends.
        norm: The batch norm whose factors are its gain.
        gain: (C,), or None to start at 1.
        bias: (C,), or None for the bias that the layer has.
    """

    name: str
    binary: bool
    scale: float = 1.0
    alpha: float = 1.0
    norm: str = ""
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass
class SignPlan:
    """What an `RSign` takes over from a sign.

    Arguments:
        scale: What the estimator multiplies its input by, 1 over its window.
        estimator: Its gradient estimator.
        shift: (C,), or None for none.
        power: Of `"reste"`.
    """

    scale: float
    estimator: str
    shift: np.ndarray | None = None
    power: float = 1.0

    @property
    def text(self) -> str:
        scale = "" if self.scale == 1 else f", scale {self.scale:.4g}"
        return f"rsign{scale}{'' if self.shift is None else ', shift'}"


@dataclass
class NormPlan:
    """How one batch norm is replaced.

    Arguments:
        kind: `"kernel"` (its factors are the gain of one), `"shift"` (of signs),
            `"identity"` (there is nothing to do) or `"affine"`.
        targets: Names of the layers that do its work.
        beta: (C,); None without.
        gain, bias: (C,) each, of an affine layer.
        alpha: Of the branch that an affine layer ends.
        reason: Why it is an affine layer.
    """

    kind: str
    targets: tuple[str, ...] = ()
    beta: np.ndarray | None = None
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None
    alpha: float = 1.0
    reason: str = ""


@dataclass
class Plan:
    """How the layers of a network are replaced, by name.

    Arguments:
        kernels, signs, norms: Those that change.
        flips: Of layers that read signs, -1 for every input channel that now has the
            opposite sign, else 1.
        pools: Factor before a pool.
        activations: What is added to the first shift of an `RPReLU`.
        unresolved: Sums whose branches keep their scale, and why.
    """

    kernels: dict[str, KernelPlan] = field(default_factory=dict)
    signs: dict[str, SignPlan] = field(default_factory=dict)
    norms: dict[str, NormPlan] = field(default_factory=dict)
    flips: dict[str, np.ndarray] = field(default_factory=dict)
    pools: dict[str, float] = field(default_factory=dict)
    activations: dict[str, np.ndarray] = field(default_factory=dict)
    unresolved: dict[str, str] = field(default_factory=dict)
