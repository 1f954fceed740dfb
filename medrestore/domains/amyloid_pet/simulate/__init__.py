"""Simulated cohorts of amyloid PET."""
