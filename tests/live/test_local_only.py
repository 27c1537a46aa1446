"""Nothing leaves the machine: libraries send no usage data, and write no id of the device."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.needs import CONFINED, needs
from tests.service_process import ROOT

pytestmark = pytest.mark.slow

HERE = re.compile(r"127\.|0\.0\.0\.0$|::1?$|::ffff:127\.")
"""Addresses of this machine; those of zeros are what the C library compares others with."""
CALL = re.compile(r'sin6?_port=htons\((\d+)\).*?inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')
"""Of strace: port and address."""
DOMAIN = 53


def run_everything(folder: Path, *confined: str) -> dict[str, Any]:
    """Run `tests/live/everything.py`, within these commands."""
    command = [*confined, sys.executable, "-m", "tests.live.everything", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def outside(trace: str) -> set[tuple[str, str]]:
    """Return the addresses and ports of others in what strace has written; a question to a name server is one."""
    called = {(address, port) for port, address in CALL.findall(trace)}
    return {(address, port) for address, port in called if int(port) == DOMAIN or not HERE.match(address)}


def test_all_commands_send_no_request_and_leave_no_file(tmp_path: Path) -> None:
    """A proxy receives nothing, and no id of the device is written."""
    assert run_everything(tmp_path) == {"asked": [], "written": [], "failed": []}


@needs("strace")
def test_all_commands_work_without_a_way_out_and_look_for_none(tmp_path: Path) -> None:
    """In a network namespace that has only loopback: no process calls, or asks for the name of, anything else."""
    trace = tmp_path / "trace"
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    strace = ("strace", "--follow-forks", "--seccomp-bpf", "--quiet=all", "-e", calls, "-e", "signal=none", "-o")
    found = run_everything(tmp_path, *CONFINED, *strace, str(trace))
    assert found == {"asked": [], "written": [], "failed": []}
    text = trace.read_text(errors="replace")
    assert CALL.search(text), "the calls on loopback are there"
    assert outside(text) == set()


@needs("strace")
@pytest.mark.parametrize(
    ("program", "called"),
    [
        ("import socket; socket.socket().connect_ex(('192.0.2.1', 443))", {("192.0.2.1", "443")}),
        ("import socket; socket.socket(socket.AF_INET6).connect_ex(('2001:db8::1', 443))", {("2001:db8::1", "443")}),
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 53))", {("127.0.0.1", "53")}),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 443))", set()),
    ],
)
def test_what_calls_outside_is_seen(tmp_path: Path, program: str, called: set[tuple[str, str]]) -> None:
    """By IPv4 and IPv6, and questions to a name server on this machine."""
    trace = tmp_path / "trace"
    traced: Sequence[str] = (*CONFINED, "strace", "-f", "-o", str(trace), sys.executable, "-c", program)
    subprocess.run(traced, env=os.environ, capture_output=True, check=False)
    assert outside(trace.read_text()) == called


def test_a_handouts_own_libraries_are_told_not_to_send(tmp_path: Path) -> None:
    """Every process of this project hands the variables on to its children, whatever was set before."""
    program = "import calsvc, subprocess; subprocess.run(['env'])"
    given = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "false", "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=given, capture_output=True, text=True, check=True
    )
    variables = dict(line.partition("=")[::2] for line in told.stdout.splitlines())
    expected = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"}
    assert {name: variables.get(name) for name in expected} == expected
