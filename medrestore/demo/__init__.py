"""Demonstrations: each runs the main job of a bundle on a simulated cohort, from nothing to a table."""
