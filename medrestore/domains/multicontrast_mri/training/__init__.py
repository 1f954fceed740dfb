"""Stacks of slices, data sets and validation of trainings."""
