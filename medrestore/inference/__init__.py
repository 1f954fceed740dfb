"""From trained weights and files to restored files: through networks, slices and files of volumes."""
