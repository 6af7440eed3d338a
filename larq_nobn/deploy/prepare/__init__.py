"""The inference form of a model, with as few float operations as possible."""
