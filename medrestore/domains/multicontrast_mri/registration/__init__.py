"""Each contrast moved onto the acquisition."""
