"""Training engines and their handlers on MONAI and Ignite."""
