"""Simulated cohorts of multi-contrast MRI with lesions."""
