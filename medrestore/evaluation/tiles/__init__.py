"""Evaluation of super-resolved histology tiles: image, nuclei and stains."""
