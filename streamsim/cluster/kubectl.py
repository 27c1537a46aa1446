"""Asks a cluster through the user's own `kubectl`, and says in one line what is wrong where it does not answer."""

import subprocess
from collections.abc import Sequence
from typing import Final

from streamsim.errors import ClusterError

PATIENCE: Final = 20.0
"""Seconds that one question may take."""
UNREACHABLE: Final = (
    "did you specify the right host or port",
    "Unable to connect to the server",
    "no configuration has been provided",
    "i/o timeout",
    "connection refused",
    "TLS handshake timeout",
    "error: context",
    "context was not found",
)


class Forbidden(ClusterError):
    """The cluster knows who asks, and does not let them."""


class Kubectl:
    """One cluster and namespace."""

    def __init__(self, program: str, namespace: str, context: str | None) -> None:
        self._command = [program, "--namespace", namespace]
        if context is not None:
            self._command += ["--context", context]

    def ask(self, *words: str, given: str | None = None) -> str:
        """Run `kubectl` with more words, `given` as its input, and return what it prints.

        Raises:
            ClusterError: in one line.
        """
        try:
            run = subprocess.run(
                [*self._command, *words],
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self._said(words)}: no answer within {PATIENCE:g} s; is the cluster up?") from None
        except OSError as error:
            reason = f"{self._command[0]}: {error.strerror}"
            raise ClusterError(f"{reason}; install kubectl, or name it with --kubectl") from None
        if run.returncode != 0:
            raise refusal(self._said(words), run.stderr)
        return run.stdout

    def _said(self, words: Sequence[str]) -> str:
        return "kubectl " + " ".join(words[:2])


def refusal(said: str, errors: str) -> ClusterError:
    """Return the error for what kubectl has printed: the last line, and what to do about it."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()] or ["it failed and said nothing"]
    last = lines[-1]
    if "(Forbidden)" in last or "forbidden:" in last:
        return Forbidden(f"{said}: {last}; your account needs a role for it (docs/stress-on-a-cluster.md)")
    if any(sign in last for sign in UNREACHABLE):
        return ClusterError(f"no cluster answers: {last}; is it up, and is `kubectl config current-context` the one?")
    return ClusterError(f"{said}: {last}")
