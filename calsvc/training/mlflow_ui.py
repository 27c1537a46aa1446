"""Look at runs and versions: `python -m calsvc.training.mlflow_ui [--port 5000]` becomes the MLflow server itself.

It serves the embedded database and its folder of artifacts on 127.0.0.1, to a browser and to other processes; in a
container on `--host 0.0.0.0`, to whoever the container's network lets in.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

from calsvc.http.errors import RegistryError
from calsvc.registry.embedded import ARTIFACTS, QUIET, database_of
from calsvc.registry.mlflow_import import link_to_mlflow
from calsvc.settings import Settings
from calsvc.training.command import run_command

_LOOPBACK = "127.0.0.1"


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    # Whoever has named a server for the other commands, this one for example, means the default database here.
    uri = settings.tracking_uri.get_secret_value()
    if database_of(uri) is None:
        uri = Settings().tracking_uri.get_secret_value()
    folder = (database_of(uri) or Path()).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        socket.create_server((arguments.host, arguments.port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise RegistryError(f"cannot serve {uri} on {arguments.host}:{arguments.port}: {reason}; try --port") from None
    url = f"http://{arguments.host}:{arguments.port}"
    print(f"MLflow over {uri} at {url} (in a few seconds; for the other commands: MLFLOW_TRACKING_URI={url})")
    sys.stdout.flush()
    # No processes for evaluation jobs, which nothing here starts; and the server has no server of its own.
    environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environ |= QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if folder_of_link := link_to_mlflow():
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder_of_link, environ.get("PYTHONPATH")]))
    # exec, so that a signal reaches the server and its exit code is this command's
    os.execve(sys.executable, [sys.executable, *server_command(uri, folder, arguments.host, arguments.port)], environ)  # noqa: S606


def server_command(uri: str, folder: Path, host: str, port: int) -> list[str]:
    """Return the arguments of the interpreter that start MLflow's server over an embedded database."""
    options = {
        "--backend-store-uri": uri,
        "--artifacts-destination": (folder.resolve() / ARTIFACTS).as_uri(),
        "--host": host,
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
    parser.add_argument("--port", type=_port, default=5000, help="port (%(default)s)")
    parser.add_argument("--host", default=_LOOPBACK, help="address to listen on (%(default)s)")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())
