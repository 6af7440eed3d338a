"""Expected input variances of residual blocks; β is one over their root."""

from __future__ import annotations

from collections.abc import Sequence

from .._checks import check_choice, check_number
from .._names import VARIANCE_RULES


def check_variance(alpha: float, rule: str) -> None:
    """Raises if the rule is unknown, or alpha not positive."""
    check_choice("variance_rule", rule, VARIANCE_RULES)
    check_number("alpha", alpha, "(0, inf)", "Use 0.5.")


def expected_variances(
    blocks: Sequence[int], alpha: float, rule: str
) -> list[list[float]]:
    """Returns the input variances of blocks, by stage, if branches have variance 1.

    A block adds alpha² to the variance. The projection in the first block of every
    stage but the first resets it to 1. The rule `"nf"` counts every block; `"vita"`,
    the published code of BNN-BN, never counts the first block of a stage.
    """
    variance = 1.0
    stages = []
    for stage, count in enumerate(blocks):
        variances = []
        for block in range(count):
            variances.append(variance)
            if stage > 0 and block == 0:
                variance = 1.0
            if block > 0 or rule == "nf":
                variance += alpha**2
        stages.append(variances)
    return stages


def paired_variances(
    blocks: Sequence[int], alpha: float, rule: str
) -> list[list[tuple[float, float]]]:
    """Returns the input variances of both halves of every block of ReActNet-A.

    If branches have variance 1, each half adds alpha² to the variance. The first block
    of every stage but the first averages its scaled input, which resets the variance to
    1. `"nf"` counts this at once, before the second half; `"vita"`, the published code
    of BNN-BN, resets the variance only after the block.
    """
    variance = 1.0
    stages = []
    for stage, count in enumerate(blocks):
        pairs = []
        for block in range(count):
            first, averages = variance, stage > 0 and block == 0
            if averages and rule == "nf":
                variance = 1.0
            second = variance + alpha**2
            pairs.append((first, second))
            variance = 1.0 if averages and rule == "vita" else second + alpha**2
        stages.append(pairs)
    return stages
