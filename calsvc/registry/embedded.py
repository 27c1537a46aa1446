"""The registry without a server: the SQLite database that MLflow writes, and the folder of artifacts beside it.

    mlruns/mlflow.db     the database, for `sqlite:///mlruns/mlflow.db`
    mlruns/artifacts/    the files of its runs

The database names places as `mlflow-artifacts:/...`, relative to that folder, and never by a path. So the whole can be
moved or mounted elsewhere, and a server over it reads what was written without one. MLflow itself resolves such names
only through a server.
"""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

ARTIFACTS: Final = "artifacts"
QUIET: Final = {
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_PRINT_MODEL_URLS_ON_CREATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""This project prints what matters itself. That MLflow sends no usage data, `calsvc/__init__.py` sees to."""


def database_of(uri: str) -> Path | None:
    """Return the database's file, None where the tracking URI names a server."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else Path(path.partition("?")[0])


def local_folder(uri: str, location: str) -> Path | None:
    """Return the folder that a database means by `mlflow-artifacts:/...`; None for other locations, and for servers."""
    database, parts = database_of(uri), urlsplit(location)
    if database is None or parts.scheme != "mlflow-artifacts":
        return None
    return database.parent.resolve() / ARTIFACTS / parts.path.lstrip("/")
