"""The route to files that compute in int8 what is not binary."""
