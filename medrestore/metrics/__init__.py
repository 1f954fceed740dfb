"""Image, quantification and task metrics: arrays in, numbers out."""
