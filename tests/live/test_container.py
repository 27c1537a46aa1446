"""The image, really built and run, behind its proxy: what it may do, how much it takes, how it leaves."""

import http.client
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Workshop
from tests.http.test_schema import WORKOUT, workout
from tests.live.containers import Stack, call, demand_images, mounted, running_stack, wait_for
from tests.live.images import DEFAULTS, ours
from tests.needs import needs
from tests.service_process import ROOT

pytestmark = needs("docker")
CAP = 0.25
"""CPUs; far less than one thread would take."""
PROGRAMS = ("pip", "pip3", "uv", "gcc", "cc", "curl", "git")
LIBRARIES = ("pip", "setuptools", "pandas", "sklearn", "xgboost", "polars", "sqlalchemy", "aiohttp")


@pytest.fixture(scope="module")
def image() -> str:
    """The image `serve`, built now where anything has changed."""
    demand_images("python:3.11-slim-bookworm", DEFAULTS["HAPROXY_IMAGE"])
    return ours("serve")


@pytest.fixture(scope="module")
def alone(image: str, workshop: Workshop) -> Iterator[Stack]:
    """Calsvc and its proxy, with a small share of a CPU."""
    assert image
    with running_stack("alone", (), mounted(workshop) | {"CALSVC_CPUS": str(CAP)}) as stack:
        yield stack


def test_it_is_well_and_answers(alone: Stack):
    """The engine says healthy; a prediction comes through the published port; it says what it is made of."""
    (container,) = alone.inspect("calsvc")
    assert container["State"]["Health"]["Status"] == "healthy"
    status, answer = call(f"{alone.url()}/predict", WORKOUT)
    assert (status, answer["id"]) == (200, WORKOUT["id"])
    assert call(f"{alone.url()}/info")[1]["service"]["git_sha"] == "0" * 40
    labels = container["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == "0" * 40
    assert labels["org.opencontainers.image.version"] == "0.1.0"


def test_its_proxy_is_published_on_loopback_alone(alone: Stack):
    """Whatever the machine's other addresses are; the service itself is not."""

    def published(service: str) -> set[str]:
        (container,) = alone.inspect(service)
        ports = container["NetworkSettings"]["Ports"].values()
        return {each["HostIp"] for bound in ports for each in bound or []}

    assert (published("proxy"), published("calsvc")) == ({"127.0.0.1"}, set())


def test_its_process_may_do_nothing_but_serve(alone: Stack):
    """PID 1 is ours, a number without a name that matters, without capabilities and any way to get some."""
    code = "import json; print(json.dumps(dict(l.split(':\\t') for l in open('/proc/1/status').read().splitlines())))"
    status = alone.python("calsvc", code)
    assert status["Name"] == "python"
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"10001"}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_it_writes_where_it_may_and_nowhere_else(alone: Stack):
    """Its volume and /tmp; not its own code, not the model, not the system."""
    code = """
import json, os
found = {}
for folder in ("/var/lib/calsvc", "/tmp", "/", "/etc", "/opt/calsvc", "/opt/ours", "/srv/calsvc", "/srv/calsvc/bundle"):
    try:
        with open(f"{folder}/probe", "w"):
            pass
        os.unlink(f"{folder}/probe")
        found[folder] = True
    except OSError:
        found[folder] = False
print(json.dumps(found))
"""
    found = alone.python("calsvc", code)
    assert {folder for folder, writable in found.items() if writable} == {"/var/lib/calsvc", "/tmp"}  # noqa: S108


def test_it_holds_the_serving_core_and_nothing_else(alone: Stack):
    """Nothing that installs, compiles, trains or simulates; its own libraries are compiled."""
    code = f"""
import importlib.util, json, pathlib, shutil
programs = [name for name in {PROGRAMS!r} if shutil.which(name)]
libraries = [name for name in {LIBRARIES!r} if importlib.util.find_spec(name)]
sources = [each for each in pathlib.Path("/opt").rglob("*.py") if "site-packages" in each.parts or "ours" in each.parts]
missing = [each for each in sources if not pathlib.Path(importlib.util.cache_from_source(str(each))).exists()]
print(json.dumps([programs, libraries, len(sources), len(missing)]))
"""
    programs, libraries, sources, missing = alone.python("calsvc", code)
    assert (programs, libraries) == ([], [])
    assert sources > 500
    assert missing <= sources / 100  # some are templates, or of another Python


@contextmanager
def load(url: str, clients: int = 4) -> Iterator[list[int]]:
    """Clients that ask as fast as they get answers; yields the statuses."""
    statuses: list[int] = []
    ended = threading.Event()
    body = workout()

    def ask() -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        while not ended.is_set():
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for each in threads:
        each.start()
    try:
        yield statuses
    finally:
        ended.set()
        for each in threads:
            each.join()


CPU = """
import json, pathlib
stat = pathlib.Path("/sys/fs/cgroup/cpu.stat")
one = stat if stat.exists() else pathlib.Path("/sys/fs/cgroup/cpu/cpu.stat")
found = dict(line.split() for line in one.read_text().splitlines())
used = pathlib.Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")
seconds = int(found["usage_usec"]) / 1e6 if "usage_usec" in found else int(used.read_text()) / 1e9
print(json.dumps([seconds, int(found["nr_throttled"])]))
"""


@pytest.mark.alone
def test_its_cap_holds_under_load(alone: Stack):
    """More is asked of it than it may take: the kernel stops it, it stays at its share, and still answers."""
    before, began = alone.python("calsvc", CPU), time.monotonic()
    with load(alone.url()) as statuses:
        time.sleep(6)
    after, ended = alone.python("calsvc", CPU), time.monotonic()
    share = (after[0] - before[0]) / (ended - began)
    print(f"{share:.3f} CPUs of {CAP}, stopped {after[1] - before[1]} times, {len(statuses)} answers")
    assert after[1] > before[1]
    assert share < 1.1 * CAP
    assert set(statuses) == {200}


def test_it_leaves_in_order_and_forgets_nothing(alone: Stack):
    """`docker compose stop`: exit code 0, before its grace is over; what waited for its truth is there afterwards."""
    for each in range(50):
        assert call(f"{alone.url()}/predict", WORKOUT | {"id": f"before {each}"})[0] == 200
    began = time.monotonic()
    alone.compose("stop", "calsvc")
    took = time.monotonic() - began
    (container,) = alone.inspect("calsvc")
    assert (container["State"]["ExitCode"], container["State"]["OOMKilled"]) == (0, False)
    assert took < float(container["Config"]["StopTimeout"])
    logs = subprocess.run(["docker", "logs", container["Id"]], capture_output=True, text=True, check=True)
    assert json.loads(logs.stdout.splitlines()[-1])["event"] == "calsvc.service.stopped"
    alone.up()
    wait_for("the proxy's way to it", lambda: call(f"{alone.url()}/readyz")[0] == 200)
    truths = [call(f"{alone.url()}/feedback", {"id": f"before {each}", "Calories": 100}) for each in range(50)]
    assert {(status, answer["status"]) for status, answer in truths} == {(200, "matched")}


def run(image: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a container to its end."""
    hard = ["--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--env-file", ROOT / "deploy/settings/calsvc.env"]
    return subprocess.run(["docker", "run", *hard, *words, image], capture_output=True, text=True, check=False)


def test_without_handout_and_bundle_it_says_what_to_mount(image: str, workshop: Workshop):
    """One line and exit code 1; the same where there is a handout, which this image cannot train."""
    nothing = run(image)
    handout = run(image, "--volume", f"{workshop.handout}:/srv/calsvc/handout:ro")
    for ended in (nothing, handout):
        assert ended.returncode == 1
        assert ended.stderr.startswith("error: CALSVC_MODEL=/srv/calsvc/bundle: there is no bundle")
        assert ended.stderr.count("\n") == 1


def test_a_model_may_be_inside(image: str, workshop: Workshop, tmp_path: Path):
    """The target serve-baked has bundle and handout: nothing needs to be mounted."""
    assert image
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("calsvc", "streamsim", "observability", "sqlitefile"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "deploy/compose").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/compose/tools.txt", tmp_path / "deploy/compose")
    shutil.copytree(workshop.bundle.resolve(), tmp_path / "data/bundles/one")
    (tmp_path / "data/bundle").symlink_to("bundles/one")
    shutil.copytree(workshop.handout, tmp_path / "handout_from DS_agent")
    baked = ours("serve-baked", folder=tmp_path, tag="calsvc-baked:test")
    try:
        asked = [
            "--entrypoint=python",
            baked,
            "-c",
            "import os; print(sorted(os.listdir('bundle')), os.listdir('handout'))",
        ]
        listed = subprocess.run(["docker", "run", "--rm", *asked], capture_output=True, text=True, check=True).stdout
        assert "'bundle.json'" in listed
        assert "'train.py'" in listed
    finally:
        subprocess.run(["docker", "image", "rm", "--force", baked], capture_output=True, check=True)
