"""Medical-image restoration that keeps the diagnosis."""

import os

# Nothing leaves the machine unasked. MLflow reads this when it is imported, which MONAI does on its own.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.1.0"
