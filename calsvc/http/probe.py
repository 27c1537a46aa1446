"""Is the service of this container well? `python -m calsvc.http.probe [PATH]` asks at CALSVC_HOST and CALSVC_PORT.

For the health check of an image that has no curl. It runs every few seconds within the service's own share of the CPU,
so it loads next to nothing: neither an HTTP client nor pydantic, and of the settings only the defaults of those two.
"""

import os
import re
import socket
import sys
from collections.abc import Mapping
from typing import Final

from calsvc.http import HOST, PORT
from calsvc.http.errors import SettingsError

PATIENCE: Final = 4.0
"""Seconds for the whole answer; less than the health check itself may take."""
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere is asked on loopback


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Return where to ask the service: on its first port, where probes are answered with or without a second one.

    Raises:
        SettingsError: the port is none, or it is left to the system, which nobody else knows.
    """
    host, port = (environ.get(key, "").strip() for key in ("CALSVC_HOST", "CALSVC_PORT"))
    if port and (not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535):
        raise SettingsError("CALSVC_PORT", port, "a port that can be asked: 1..65535")
    return _ANY.get(host or HOST, host or HOST), int(port or PORT)


def ask(host: str, port: int, path: str) -> tuple[int, str]:
    """Return status and body of a GET.

    Raises:
        OSError: nobody answers, or not in time.
        ValueError: what answers speaks no HTTP.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, port), PATIENCE) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as answer:
            head, _, body = answer.read(65536).partition(b"\r\n\r\n")
    protocol, status, *_ = head.split(maxsplit=2)
    if not protocol.startswith(b"HTTP/"):
        raise ValueError(protocol)
    return int(status), body.decode(errors="replace")


def main(arguments: list[str]) -> int:
    """Ask and print what was answered; return 0 where the service is well, 1 where not, 2 for a wrong setting."""
    path = arguments[0] if arguments else "/healthz"
    try:
        host, port = address(os.environ)
        status, body = ask(host, port, path)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"error: no answer from the service: {error}", file=sys.stderr)
        return 1
    print(status, body)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
