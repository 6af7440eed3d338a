"""The table of the contract: one row per public quantizer and layer.

`test_contract.py` runs every check on every row, so a new class costs one row in
`rows/` and one NumPy oracle, and no new test code.
"""

from contract_case import Case
from rows import (
    elementwise,
    estimators,
    filter_response,
    heads,
    kalman,
    kernels,
    nobn,
    normalization,
    preconditioning,
    spiking,
)

CASES: tuple[Case, ...] = (
    *nobn.ROWS,
    *filter_response.ROWS,
    *kernels.ROWS,
    *estimators.ROWS,
    *kalman.ROWS,
    *normalization.ROWS,
    *preconditioning.ROWS,
    *spiking.ROWS,
    *elementwise.ROWS,
    *heads.ROWS,
)
