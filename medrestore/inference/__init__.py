"""From trained weights and volumes to restored NIfTI files."""
