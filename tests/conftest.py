import larq_nobn  # noqa: F401  (first of all: it selects legacy Keras)
