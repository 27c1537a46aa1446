"""Look at runs and versions: `python -m calsvc.training.mlflow_ui [--port 5000]` becomes the MLflow server itself.

It serves the embedded database and its folder of artifacts on 127.0.0.1, to a browser and to other processes.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

from calsvc.errors import RegistryError
from calsvc.settings import Settings
from calsvc.training.command import run_command
from calsvc.training.store import ARTIFACTS, QUIET, embedded_folder

_HOST = "127.0.0.1"


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    # Whoever has named a server for the other commands, this one for example, means the default database here.
    uri = settings.tracking_uri if embedded_folder(settings.tracking_uri) else Settings().tracking_uri
    folder = embedded_folder(uri) or Path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        socket.create_server((_HOST, arguments.port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise RegistryError(f"cannot serve {uri} on {_HOST}:{arguments.port}: {reason}; try --port") from None
    told = f"MLflow over {uri} at http://{_HOST}:{arguments.port}"
    print(f"{told} (in a few seconds; for the other commands: MLFLOW_TRACKING_URI=http://{_HOST}:{arguments.port})")
    sys.stdout.flush()
    # No processes for evaluation jobs, which nothing here starts; and the server has no server of its own.
    environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environ |= QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # exec, so that a signal reaches the server and its exit code is this command's
    os.execve(sys.executable, [sys.executable, *server_command(uri, folder, arguments.port)], environ)  # noqa: S606


def server_command(uri: str, folder: Path, port: int) -> list[str]:
    """Return the arguments of the interpreter that start MLflow's server over an embedded database."""
    options = {
        "--backend-store-uri": uri,
        "--artifacts-destination": (folder.resolve() / ARTIFACTS).as_uri(),
        "--host": _HOST,
        "--port": str(port),
        "--workers": "1",
    }
    return ["-m", "mlflow", "server", *(part for option in options.items() for part in option)]


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError("a port 1..65535 is expected")
    return value


def main() -> int:
    """Run the command; it returns only where the server cannot be started."""
    parser = argparse.ArgumentParser(prog="just mlflow", description="Start the MLflow server to look at the runs.")
    parser.add_argument("--port", type=_port, default=5000, help="port on 127.0.0.1 (%(default)s)")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())
