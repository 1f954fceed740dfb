"""What was acquired: channels, their order, sidecars and files."""
