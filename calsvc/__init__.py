"""The service: answers calorie predictions, joins them with truth that arrives late, and shows how well they did."""

import os
from typing import Final

SILENT: Final = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"}
"""Variables that keep libraries from sending usage data to their makers; ONNX Runtime's builds also write an id of the
device below ~/.cache."""
# They are read where a library is imported. Here, so that they hold for every process of this project and for the
# children that inherit them: handouts and MLflow's server, too.
os.environ.update(SILENT)

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__`, looked up only where it is asked for: it takes longer than a health check may."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415

    return version("calsvc")
