"""Random networks, and what is expected of their conversion, folding and removal.

`tables` and `networks` draw them, `oracle` computes what they are without the package,
and `judge` compares.
"""

# What may come of a network; of several parts, the last of them.
OUTCOMES = (
    "untried",  # it could not be drawn, or computed by Keras
    "converted",
    "refused",
    "unverified",  # rejected because file and model differ
    "undecided",  # converted, and no example that rounding leaves alone
    "silent float",
    "wrong",
    "leftover",
    "crash",
)
# These must not happen.
FAULTS = OUTCOMES[5:]
