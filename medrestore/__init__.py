"""Medical-image restoration that keeps the diagnosis."""

__version__ = "0.1.0"
