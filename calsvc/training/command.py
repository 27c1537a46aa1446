"""What the commands on models share: settings, thread caps, and errors as one line."""

import argparse
import os
import signal
import sys
from collections.abc import Callable

from calsvc.http.errors import CalsvcError, SettingsError
from calsvc.model.threads import available_cpus, thread_caps
from calsvc.settings import Settings
from observability.http_clients import ProxyError, share_variables


def run_command(parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace, Settings], None]) -> int:
    """Parse the command line, run `action`, and return the exit code: 0, 1 for an error, 2 for a wrong setting."""
    arguments = parser.parse_args()
    for how in (signal.SIGTERM, signal.SIGHUP):  # a handout's train.py, in a session of its own, must not go on alone
        if signal.getsignal(how) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(how, signal.default_int_handler)
    try:
        settings = Settings.from_env(os.environ)
        share_variables(os.environ)
        # The numeric libraries read these when they load: the action imports them, no module of a command does.
        os.environ.update(thread_caps(settings.cpu_fraction, os.environ, available_cpus()))
        action(arguments, settings)
        print(end="", flush=True)  # what is closed is noticed here, and not when the interpreter ends
    except (CalsvcError, ProxyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError | ProxyError) else 1
    except ModuleNotFoundError as error:
        print(f"error: this command needs the module {error.name}: uv sync --extra train", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as the documentation of SIGPIPE in Python has it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("error: stdout was closed", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, most likely
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; what was there before is unchanged", file=sys.stderr)
        return 130
    return 0
