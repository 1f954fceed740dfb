"""The report of a study: one page that stands alone, its tables and figures."""
