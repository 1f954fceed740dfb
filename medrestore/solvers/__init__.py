"""Restoration without a trained generator: restore(y, ...) -> x."""
