"""Slides on disk: formats, resolution, patients, tissue, tiles, pyramids."""
