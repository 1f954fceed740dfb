"""From trained weights and files to restored files: NIfTI volumes, histology tiles and slides."""
