"""From the record of reads to figures of merit, agreement, times and the verdict."""
