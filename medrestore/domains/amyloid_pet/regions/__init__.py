"""Region maps of scans that have none, from the average head."""
