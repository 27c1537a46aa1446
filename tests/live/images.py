"""Images for the tests that run containers.

`python -m tests.live.images` builds ours, which takes a minute or two the first time, and pulls third-party ones. If
they cannot be pulled, and in CI, it builds stand-ins under the tag that deploy/compose/.env names: the programs of
Debian's packages and of `tests.go_programs` on the base of our own images, labelled `calsvc.stand-in`. It replaces no
existing image. Debian's Prometheus serves for compose, not for a cluster: it is built without discovery of pods.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from deploy.compose.stack import HERE, ROOT, read_defaults
from tests.go_programs import COLLECTOR, PYROSCOPE

DEFAULTS: Final = read_defaults((HERE / ".env").read_text(encoding="utf-8"))
OTHERS: Final = ("PROMETHEUS_IMAGE", "VALKEY_IMAGE", "HAPROXY_IMAGE", "COLLECTOR_IMAGE", "PYROSCOPE_IMAGE")
TARGETS: Final = {"serve": "calsvc", "streamsim": "calsvc-streamsim", "training": "calsvc-training"}
WGET: Final = """#!/usr/local/bin/python3
import sys, urllib.request
urllib.request.urlopen(sys.argv[-1], timeout=3).read()
"""
"""As much of busybox's as the health checks use."""


class StandIn(NamedTuple):
    """What an image of others has that compose relies on.

    programs: where each is in the image, and where it is here. writable: folders, owned by `user`.
    """

    programs: Mapping[str, Path]
    user: str
    entry: Sequence[str] = ()
    writable: Sequence[str] = ()
    stop: str = "SIGTERM"


def stand_ins() -> Iterator[tuple[str, StandIn]]:
    """Those that this machine has the programs for: the variable of .env, and what is in it."""
    if prometheus := shutil.which("prometheus"):
        yield (
            "PROMETHEUS_IMAGE",
            StandIn({"/usr/bin/prometheus": Path(prometheus)}, "65534:65534", ["/usr/bin/prometheus"], ["/prometheus"]),
        )
    if (server := shutil.which("redis-server")) and (client := shutil.which("redis-cli")):
        programs = {"/usr/bin/valkey-server": Path(server), "/usr/bin/valkey-cli": Path(client)}
        yield "VALKEY_IMAGE", StandIn(programs, "999:1000", writable=["/data"])
    if haproxy := shutil.which("haproxy"):
        yield "HAPROXY_IMAGE", StandIn({"/usr/sbin/haproxy": Path(haproxy)}, "99:99", stop="SIGUSR1")
    if COLLECTOR.path.exists():
        yield "COLLECTOR_IMAGE", StandIn({"/otelcol": COLLECTOR.path}, "10001:10001", ["/otelcol"])
    if PYROSCOPE.path.exists():
        programs = {"/usr/bin/pyroscope": PYROSCOPE.path}
        yield "PYROSCOPE_IMAGE", StandIn(programs, "10001:10001", ["/usr/bin/pyroscope"], ["/data"])


def is_there(image: str) -> bool:
    """Whether the engine has an image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def is_pulled(image: str) -> bool:
    """Whether the image is there now. In CI nothing is pulled: the same programs every time."""
    if os.environ.get("CI") == "true":
        return False
    return subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, check=False).returncode == 0


def ours(target: str, *, folder: Path = ROOT, tag: str | None = None) -> str:
    """Build a target of the Dockerfile from the checkout, or from a copy of it, and return the image's name.

    Raises:
        subprocess.CalledProcessError: the build has failed; what it said is on stderr.
    """
    image = tag or f"{TARGETS[target]}:{DEFAULTS['CALSVC_TAG']}"
    said = {"BASE": DEFAULTS["BASE_IMAGE"], "INDEX_URL": index_of_pip(), "VERSION": "0.1.0", "GIT_SHA": "0" * 40}
    arguments = [part for name, value in said.items() for part in ("--build-arg", f"{name}={value}")]
    command = ["docker", "build", "--progress=plain", "--file", str(ROOT / "deploy/compose/Dockerfile")]
    _run([*command, "--target", target, "--tag", image, *arguments, str(folder)])
    return image


def index_of_pip() -> str:
    """Return the index that this machine's pip is told to use, empty where it is its own."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""


def build(image: str, what: StandIn) -> None:
    """Build a stand-in: the programs with the libraries that they are linked with, on the base of our own images."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _lay(folder / "root", what)
        (folder / "Dockerfile").write_text(_dockerfile(what), encoding="utf-8")
        _run(["docker", "build", "--quiet", "--tag", image, str(folder)])


def _lay(root: Path, what: StandIn) -> None:
    for target, program in what.programs.items():
        _copy(program, root / target.removeprefix("/"))
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"=> (/\S+)", linked):
            _copy(Path(library), root / "opt/libraries" / Path(library).name)
    wget = root / "usr/bin/wget"
    wget.parent.mkdir(parents=True, exist_ok=True)
    wget.write_text(WGET, encoding="utf-8")
    wget.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _dockerfile(what: StandIn) -> str:
    folders = " ".join(what.writable) or "/nothing"
    lines = [
        f"FROM {DEFAULTS['BASE_IMAGE']}",
        "LABEL calsvc.stand-in=true",
        "ENV LD_LIBRARY_PATH=/opt/libraries",
        "COPY root/ /",
        f"RUN mkdir -p {folders} && chown {what.user} {folders}",
        f"USER {what.user}",
        f"STOPSIGNAL {what.stop}",
    ]
    entry = ", ".join(f'"{word}"' for word in what.entry)
    return "\n".join([*lines, f"ENTRYPOINT [{entry}]", ""])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def main() -> int:
    """Build our images, and pull or build the third-party ones that are missing; 1 if one is still missing."""
    for target in TARGETS:
        print(ours(target))
    programs = dict(stand_ins())
    missing = []
    for variable in OTHERS:
        image = DEFAULTS[variable]
        if is_there(image) or is_pulled(image):
            continue
        if variable in programs:
            build(image, programs[variable])
            print(f"{image}: a stand-in; docker rmi {image} before just up")
        else:
            missing.append(image)
    print(*(f"{image} can neither be pulled nor built" for image in missing), sep="\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
