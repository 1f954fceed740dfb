"""Medical-image restoration that keeps the diagnosis."""

import os
import sys

__version__ = "0.1.0"

# Nothing leaves the machine unasked. MLflow reads the variable when it is imported, as MONAI does by itself;
# where that has happened, its telemetry client has sent nothing yet and is dropped before its first event.
if "MLFLOW_DISABLE_TELEMETRY" not in os.environ:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    if hasattr(sys.modules.get("mlflow"), "telemetry"):
        sys.modules["mlflow"].telemetry.set_telemetry_client()

# MONAI's command line runs our bundles too.
if getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "") == "monai.bundle.__main__":
    from medrestore.endings import end_as_our_own

    end_as_our_own()
