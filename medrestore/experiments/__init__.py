"""Studies that train many runs and compare them: each from a cohort to a table and a figure."""
