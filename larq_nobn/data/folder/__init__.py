"""Image folders as data sets."""
