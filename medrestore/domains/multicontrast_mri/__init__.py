"""Multi-contrast MRI: several contrasts from one acquisition."""
