"""Blinded images: one header, one slope, one window, and no face if wanted."""
