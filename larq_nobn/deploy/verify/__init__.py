"""Whether two forms of a network compute the same."""
