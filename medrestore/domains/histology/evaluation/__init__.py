"""Restored tiles against the true ones: measures, tables, pictures."""
