"""Restoring tiles and whole slides."""

from medrestore.domains.histology.restoration.super_resolution import ImageFileRestorer

__all__ = ["ImageFileRestorer"]
