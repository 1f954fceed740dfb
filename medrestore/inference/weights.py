"""Weights for inference."""

from medrestore.networks.weights import load_file, load_network
from medrestore.files import sha256_file

__all__ = ["load_file", "load_network", "sha256_file"]
