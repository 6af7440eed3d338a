"""Networks as C files, which need no runtime."""
