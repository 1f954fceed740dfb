"""Restored amyloid PET against standard dose: measures, judges, table, figure."""
