"""The service: answers calorie predictions, joins them with truth that arrives late, and shows how well they did."""

import os

# ONNX Runtime's builds send usage data to their maker and write an id of the device below ~/.cache, unless this is set
# before it is imported. Here, so that it holds for every process of this project and for the children that inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__`, looked up only where it is asked for: it takes longer than a health check may."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415

    return version("calsvc")
