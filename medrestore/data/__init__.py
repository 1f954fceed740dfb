"""Manifests, volumes, slices and simulated cohorts."""
