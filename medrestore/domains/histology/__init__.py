"""Histopathology: slides of low resolution to slides of high resolution."""
