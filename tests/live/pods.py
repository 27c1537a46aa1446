"""Pods of the cluster's manifests as containers of a Docker engine: their images, commands, users, files and bounds.

No kubelet: of a pod there is one container here, found by the names of its Services in one network, where everybody
reaches everybody. What only a cluster can show is not shown: policies, claims, restarts, replicas.
"""

import json
import math
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.deploy.cluster import Object, Pods, data_of, environment_of, of_kind, pods_of, probes
from tests.live.containers import LONG, wait_for

Container = Mapping[str, Any]


def docker(*words: str) -> str:
    """Say something to docker, and return what it says; AssertionError with its complaint where it fails."""
    said = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert said.returncode == 0, f"{words}: {said.stderr[-2000:]}"
    return said.stdout.strip()


class Ended(NamedTuple):
    """A container that has run to its end."""

    code: int
    said: str


class Yard:
    """A network with containers of some manifests. `images`: what stands in for an image of theirs."""

    def __init__(self, name: str, objects: Sequence[Object], folder: Path, images: Mapping[str, str]) -> None:
        self.name = name
        self._objects = objects
        self._folder = folder
        self._images = images
        self._made: list[str] = []
        docker("network", "create", name)

    def start(self, owner: str, *more: str, **environ: str) -> None:
        """Start the pod of an owner, and wait until its readiness probe is content; `more`: names it is found by."""
        pods = pods_of(self._objects)[owner]
        container = pods.spec["containers"][0]
        ports = [f"--publish=127.0.0.1::{port}" for port in pods.ports.values()]
        names = [*self._services(pods), *more]
        aliases = [f"--network-alias={name}" for name in names]
        self._run(pods, container, "--detach", *ports, *aliases, **environ)
        kind, probe = next(each for each in probes(container) if each[0] == "readinessProbe")
        wait_for(f"{owner}'s {kind}", lambda: self._running(owner) and self._content(pods, probe), LONG)

    def complete(self, owner: str, number: int) -> Ended:
        """Run one of an owner's containers to its end; what it writes is there for the next one."""
        pods = pods_of(self._objects)[owner]
        said = self._run(pods, pods.containers[number])
        return Ended(said.returncode, said.stdout + said.stderr)

    def url(self, owner: str, port: int) -> str:
        """Where a port of a pod is, for this machine."""
        return f"http://{docker('port', self._full(owner), str(port)).splitlines()[0]}"

    def stop(self, owner: str) -> Ended:
        """Tell a pod to go, with the time that it has in the cluster; return how it went."""
        grace = pods_of(self._objects)[owner].spec["terminationGracePeriodSeconds"]
        docker("stop", f"--time={grace}", self._full(owner))
        return Ended(int(docker("inspect", "--format={{.State.ExitCode}}", self._full(owner))), self.said(owner))

    def said(self, owner: str) -> str:
        """What a pod has printed."""
        printed = subprocess.run(["docker", "logs", self._full(owner)], capture_output=True, text=True, check=False)
        return printed.stdout + printed.stderr

    def remove(self) -> None:
        """Remove all that was made."""
        for name in self._made:
            subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
        volumes = docker("volume", "ls", "--quiet", f"--filter=name={self.name}-").split()
        subprocess.run(["docker", "volume", "rm", "--force", self.name, *volumes], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", self.name], capture_output=True, check=False)

    def _full(self, owner: str) -> str:
        return f"{self.name}-{owner}"

    def _run(self, pods: Pods, container: Container, *words: str, **told: str) -> subprocess.CompletedProcess[str]:
        self._made.append(self._full(container["name"] if pods.kind == "CronJob" else pods.owner))
        environ = {**self._environment(container), **told}
        command = [
            *("docker", "run", f"--name={self._made[-1]}", f"--network={self.name}", *words, *_context(pods)),
            *_bounds(container),
            *(f"--env={key}={value}" for key, value in environ.items()),
            *self._volumes(pods, container),
            *([f"--entrypoint={container['command'][0]}"] if "command" in container else []),
            self._images.get(container["image"], container["image"]),
            *container.get("command", [""])[1:],
            *container.get("args", []),
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG * 2)
        assert said.returncode == 0 or "--detach" not in words, said.stderr
        return said

    def _environment(self, container: Container) -> dict[str, str]:
        cpus = str(math.ceil(_cores(container["resources"]["limits"]["cpu"])))
        known = environment_of(self._objects, container)
        for entry in container.get("env", []):
            if secret := entry.get("valueFrom", {}).get("secretKeyRef"):
                known[entry["name"]] = data_of(self._objects, secret["name"])[secret["key"]]
            elif "valueFrom" in entry:
                known[entry["name"]] = cpus
        return {key: value or "" for key, value in known.items()}

    def _volumes(self, pods: Pods, container: Container) -> Iterator[str]:
        """Files of ConfigMaps; memory that all may write, as a cluster's volumes; what containers share, on disk."""
        there = {volume["name"]: volume for volume in pods.spec.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            volume, path = there.get(mount["name"], {}), mount["mountPath"]
            if "configMap" in volume:
                folder = self._folder / pods.owner / mount["name"]
                folder.mkdir(parents=True, exist_ok=True)
                for file, text in data_of(self._objects, volume["configMap"]["name"]).items():
                    (folder / file).write_text(text, encoding="utf-8")
                yield f"--volume={folder}:{path}:ro"
            elif len(pods.containers) > 1 and path != "/tmp":  # noqa: S108 - in a container
                yield f"--volume={self._full(pods.owner)}:{path}"
            else:
                kind = "volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=mode=1777"
                name = f"{self._full(pods.owner)}-{mount['name']}"
                yield f"--mount=type=volume,source={name},target={path},volume-nocopy,{kind}"

    def _services(self, pods: Pods) -> Iterator[str]:
        """The names of the Services that lead to some pods at the same ports: no engine knows of others."""
        for name, service in of_kind(self._objects, "Service").items():
            ports = {port["port"]: pods.ports.get(port["targetPort"]) for port in service["spec"]["ports"]}
            same = all(port == target for port, target in ports.items())
            if same and service["spec"]["selector"].items() <= pods.labels.items():
                yield from (name, f"{name}.{service['metadata']['namespace']}.svc.cluster.local")

    def _running(self, owner: str) -> bool:
        state = json.loads(docker("inspect", "--format={{json .State}}", self._full(owner)))
        assert state["Running"], f"{owner} has ended with {state['ExitCode']}: {self.said(owner)[-3000:]}"
        return True

    def _content(self, pods: Pods, probe: Mapping[str, Any]) -> bool:
        if "exec" in probe:
            words = ["docker", "exec", self._full(pods.owner), *probe["exec"]["command"]]
            return subprocess.run(words, capture_output=True, check=False).returncode == 0
        if "httpGet" not in probe:
            return True  # a port that the engine has published takes every connection
        asked = probe["httpGet"]
        try:
            with urllib.request.urlopen(f"{self.url(pods.owner, pods.ports[asked['port']])}{asked['path']}", timeout=5):  # noqa: S310
                return True
        except OSError:
            return False


def _context(pods: Pods) -> list[str]:
    context = pods.spec["securityContext"]
    init = ["--init"] if pods.spec.get("shareProcessNamespace") else []
    return [f"--user={context['runAsUser']}:{context['runAsGroup']}", "--security-opt=no-new-privileges", *init]


def _bounds(container: Container) -> list[str]:
    limits, context = container["resources"]["limits"], container["securityContext"]
    memory = limits["memory"].replace("Mi", "m").replace("Gi", "g")
    bounds = [f"--cpus={_cores(limits['cpu'])}", f"--memory={memory}", f"--memory-swap={memory}"]
    dropped = [f"--cap-drop={each}" for each in context["capabilities"]["drop"]]
    return [*bounds, *dropped, *(["--read-only"] if context["readOnlyRootFilesystem"] else [])]


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)
