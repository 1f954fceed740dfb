"""Model readers, which rehearse a study before people read it."""
