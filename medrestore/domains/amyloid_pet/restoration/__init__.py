"""Restoring volumes of amyloid PET."""
