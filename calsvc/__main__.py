"""`python -m calsvc`: settings, a model where none exists yet, telemetry, then serve until told to go."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec

from calsvc.http.errors import BundleError, CalsvcError, HandoutError, SettingsError
from calsvc.model.threads import available_cpus, thread_caps
from calsvc.registry.address import RegisteredModel
from calsvc.settings import Settings
from observability import otel_environment
from observability.http_clients import ProxyError, share_variables

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def main() -> int:
    """Serve; return the exit code: 0 after a signal, 1 when it could not serve, 2 for a wrong setting."""
    _when_told_to_go(sys.exit)  # until the server has handlers of its own
    try:
        settings = Settings.from_env(os.environ)
        share_variables(os.environ)
        warnings = [*otel_warnings(os.environ), *_exposed(settings)]
        os.environ.update(thread_caps(settings.cpu_fraction, os.environ, available_cpus()))
        _ensure_bundle(settings)
        with ExitStack() as stack:
            listeners = [stack.enter_context(each) for each in _listeners(settings)]
            _when_told_to_go(os._exit)  # an exception within the import of a compiled module may become another one
            # Only now: the numeric libraries read their thread caps when they load.
            from calsvc.server import serve  # noqa: PLC0415

            serve(settings, listeners, warnings)
    except (CalsvcError, ProxyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError | ProxyError) else 1
    return 0


def otel_warnings(environ: MutableMapping[str, str]) -> list[str]:
    """Check the OTEL_* variables, and fill in the defaults of those that are unset; return what to warn of.

    Under opentelemetry-instrument they are its own.

    Raises:
        SettingsError: a value would be misunderstood.
    """
    try:
        return [] if otel_environment.is_instrumented() else otel_environment.prepare(environ)
    except otel_environment.WrongVariable as wrong:
        raise SettingsError(wrong.key, wrong.shown, wrong.accepts) from None


def _exposed(settings: Settings) -> Iterator[str]:
    if settings.host not in LOOPBACK and settings.bearer is None:
        yield f"CALSVC_HOST={settings.host} is open to other machines, and the calls ask for no token: see CALSVC_TOKEN"


def _when_told_to_go(leave: Callable[[int], object]) -> None:
    for how in (signal.SIGTERM, signal.SIGINT):
        signal.signal(how, lambda *_: leave(0))


def _ensure_bundle(settings: Settings) -> None:
    """Train first, in a process of its own, where there is nothing to serve, or only another handout's model."""
    if isinstance(settings.model, RegisteredModel):
        return  # what the registry's alias points at is somebody's decision, not this process's
    if settings.model.exists() and not _is_outdated(settings):
        return
    if not settings.model.exists() and find_spec("xgboost") is None:  # an image that only serves, for example
        raise BundleError(
            f"CALSVC_MODEL={settings.model}: there is no bundle, and nothing is installed here that could train one: "
            "put or mount one there (just train makes it), or name a registry's, such as models:/calories@champion"
        )
    out = settings.model.absolute()
    command = [sys.executable, "-m", "calsvc.training.train", "--engine", "auto", "--out", str(out)]
    if _run(command) != 0:
        raise HandoutError("there is no model to serve, and training one has failed: see above")


def _run(command: Sequence[str]) -> int:
    """Run a program to its end; whoever tells this one to go tells that one, too."""
    with subprocess.Popen(command) as child:
        try:
            return child.wait()
        except SystemExit:
            child.terminate()
            raise


def _is_outdated(settings: Settings) -> bool:
    """Tell whether the handout has changed. A bundle that was named on purpose, or came alone, is served as it is."""
    if settings.model != Settings().model or not settings.handout_dir.exists():
        return False
    from calsvc.training.current import bundle_is_current  # noqa: PLC0415 - loads NumPy

    return not bundle_is_current(settings)


def _listeners(settings: Settings) -> Iterator[socket.socket]:
    """Open the port, and the second one where there is to be one."""
    yield _listen(settings.host, settings.port, "CALSVC_PORT")
    if settings.admin_port is not None:
        yield _listen(settings.admin_host or settings.host, settings.admin_port, "CALSVC_ADMIN_PORT")


def _listen(host: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(key, str(port), f"a port that is free on {host} ({error.strerror})") from None


if __name__ == "__main__":
    sys.exit(main())
