"""The service: answers calorie predictions, joins them with truth that arrives late, and shows how well they did."""

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__`, looked up only where it is asked for: it takes longer than a health check may."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415

    return version("calsvc")
