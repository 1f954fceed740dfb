"""Simulated cohorts from real anatomy."""
