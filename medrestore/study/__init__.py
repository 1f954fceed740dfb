"""Reader studies: design, blinded package, reading page, record of reads, statistics and report."""
