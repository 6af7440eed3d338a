"""The rows of the contract, one file per family, each oracle beside its rows."""
