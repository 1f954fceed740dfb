"""What serves the reading page, and decides who may see and answer what."""
