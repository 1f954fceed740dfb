"""Restoring tiles and whole slides."""
