"""The record of reads: append-only, chained, checked, exchanged as tables."""
