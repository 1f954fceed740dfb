"""MLflow: runs and their comparison."""
