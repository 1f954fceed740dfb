"""Multi-contrast MRI: one acquisition of several channels in, images of several contrasts out."""
