"""Amyloid PET: low dose against standard dose."""
