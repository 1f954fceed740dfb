"""Stacks of tiles, data sets, augmentation and validation of trainings."""
