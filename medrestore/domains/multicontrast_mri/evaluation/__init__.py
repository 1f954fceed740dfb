"""Restored contrasts against the true ones: measures, judges, lesions, tables, figures."""
