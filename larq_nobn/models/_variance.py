"""The β of every residual block: one over the expected deviation of its input."""

from __future__ import annotations

from collections.abc import Sequence

VARIANCE_RULES = ("vita", "nf")


def expected_variances(
    blocks: Sequence[int], alpha: float, rule: str
) -> list[list[float]]:
    """Variance of every block's input, stage by stage, if each branch has variance 1.

    A block adds alpha² to the variance of the stream; the first block of every stage
    but the first replaces the stream, which resets it. The rule `"nf"` counts every
    block; `"vita"`, the published code of BNN-BN, never counts the first of a stage.

    Arguments:
        blocks: Number of blocks in each stage.
        alpha: Factor on the residual branch.
        rule: `"vita"` or `"nf"`.
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
