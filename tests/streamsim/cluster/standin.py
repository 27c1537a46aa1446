"""A `kubectl` that knows one made-up cluster: it answers as the real one does, and really runs the Job's container.

`python standin.py FOLDER ARGUMENTS...`; the folder holds the cluster: `cluster.json` (see `Standin`), and what comes of
the Job. The forms are those of kubectl 1.30 with autoscaling/v2, batch/v1 and metrics.k8s.io/v1beta1.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

LABELS = {"app.kubernetes.io/name": "calsvc"}
Answer = dict[str, Any]


class Standin(NamedTuple):
    """The folder of a cluster, as a test sees it."""

    folder: Path

    @property
    def program(self) -> Path:
        """The executable that stands for kubectl."""
        return self.folder / "kubectl"

    def make(self, **cluster: Any) -> "Standin":
        """Write the program and the cluster.

        `script`: [seconds since the Job was made, replicas told, ready, percent of CPU] in order, the first from ever.
        `says`: by the beginning of a question, what is printed to stderr instead of an answer.
        `lacks`: names that do not exist. `waiting`: why the Job's pod does not start.
        """
        words = map(shlex.quote, (sys.executable, __file__, str(self.folder)))
        self.program.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        self.program.chmod(0o755)
        self.change(**{"script": [[0, 1, 1, 3]], "says": {}, "lacks": [], "waiting": None, **cluster})
        return self

    def change(self, **cluster: Any) -> None:
        """Let the cluster be another from now on."""
        file = self.folder / "cluster.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(before | cluster))

    @property
    def asked(self) -> list[list[str]]:
        """Every question so far."""
        file = self.folder / "asked"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def job(self) -> Any:
        """The Job that was made, as it was given."""
        return json.loads((self.folder / "job.json").read_text())


def main(folder: Path, arguments: Sequence[str]) -> int:
    """Answer one question."""
    cluster = json.loads((folder / "cluster.json").read_text())
    with (folder / "asked").open("a") as file:
        file.write(json.dumps(list(arguments)) + "\n")
    words = list(arguments)
    while words[0] in {"--context", "--namespace"}:
        del words[:2]
    said = " ".join(words)
    for beginning, complaint in cluster["says"].items():
        if said.startswith(beginning):
            print(complaint, file=sys.stderr)
            return 1
    verbs: Mapping[str, Callable[[], str]] = {
        "get": lambda: _get(folder, cluster, words[1:]),
        "create": lambda: _create(folder),
        "logs": (folder / "job.log").read_text,
        "delete": lambda: _delete(folder),
    }
    sys.stdout.write(verbs[words[0]]())
    return 0


def _get(folder: Path, cluster: Answer, words: Sequence[str]) -> str:
    now = _now(folder, cluster)
    if words[0] == "--raw":
        assert words[1].startswith("/apis/metrics.k8s.io/v1beta1/namespaces/made-up/pods?labelSelector=")
        return json.dumps(_metrics(now))
    if words[0] == "pods":
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": [_pod(cluster["waiting"])]})
    names = [each for each in words if "/" in each and each.partition("/")[2] not in cluster["lacks"]]
    kinds = {"deployment": _deployment, "horizontalpodautoscaler": _scaler, "job": lambda *_: _job(folder)}
    items = [kinds[kind](name, now) for kind, _, name in (each.partition("/") for each in names)]
    if not items:
        return ""
    single = len([each for each in words if "/" in each]) == 1
    return json.dumps(items[0] if single else {"apiVersion": "v1", "kind": "List", "items": items})


def _now(folder: Path, cluster: Answer) -> Sequence[int]:
    made = folder / "job.json"
    since = time.time() - made.stat().st_mtime if made.exists() else 0.0
    current: Sequence[int] = next(line for line in reversed(cluster["script"]) if line[0] <= since)
    return current


def _deployment(name: str, now: Sequence[int]) -> Answer:
    _, told, ready, _ = now
    container = {
        "name": name,
        "image": f"{name}:dev",
        "env": [{"name": "OTEL_EXPORTER_PROMETHEUS_PORT", "value": "0"}],
        "livenessProbe": {"tcpSocket": {"port": 9464}},
        "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}},
    }
    labels = LABELS if name == "calsvc" else {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "stream"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "made-up", "generation": 3},
        "spec": {
            "replicas": told,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
        "status": {"observedGeneration": 3, "replicas": told, **({"readyReplicas": ready} if ready else {})},
    }


def _scaler(name: str, now: Sequence[int]) -> Answer:
    _, told, ready, percent = now
    cpu = {"name": "cpu", "current": {"averageUtilization": percent, "averageValue": f"{percent * 5}m"}}
    target = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "made-up"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "calsvc"},
            "minReplicas": 1,
            "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": target}],
        },
        "status": {
            "currentReplicas": ready,
            "desiredReplicas": told,
            "currentMetrics": [{"type": "Resource", "resource": cpu}] if percent >= 0 else None,
        },
    }


def _metrics(now: Sequence[int]) -> Answer:
    _, _, ready, percent = now
    used = {"cpu": f"{percent * 5_000_123}n", "memory": "104856Ki"}
    items = [
        {
            "metadata": {"name": f"calsvc-{number}", "namespace": "made-up", "labels": LABELS},
            "timestamp": "2026-01-01T00:00:00Z",
            "window": "15.045s",
            "containers": [{"name": "calsvc", "usage": used}],
        }
        for number in range(ready)
    ]
    return {"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items}


def _pod(waiting: Answer | None) -> Answer:
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if waiting is None else {"waiting": waiting}
    return {"kind": "Pod", "metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "c", "state": state}]}}


def _create(folder: Path) -> str:
    """Run the first container of a Job in a process group of its own."""
    job = json.load(sys.stdin)
    (folder / "job.json").write_text(json.dumps(job))
    if json.loads((folder / "cluster.json").read_text())["waiting"] is None:
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert container["command"][0] == "python"
        words = [sys.executable, *container["command"][1:], *container["args"]]
        log, code = (shlex.quote(str(folder / name)) for name in ("job.log", "job.code"))
        supervised = f"{shlex.join(words)} >{log} 2>&1; echo $? >{code}.new; mv {code}.new {code}"
        process = subprocess.Popen(
            ["/bin/sh", "-c", supervised],
            env=os.environ | {each["name"]: each["value"] for each in container.get("env", [])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        (folder / "job.pid").write_text(str(process.pid))
    return f"job.batch/{job['metadata']['name']} created\n"


def _job(folder: Path) -> Answer:
    job: Answer = json.loads((folder / "job.json").read_text())
    code = folder / "job.code"
    status: Answer = {"active": 1, "startTime": "2026-01-01T00:00:00Z"}
    if code.exists():
        met = code.read_text().strip() == "0"
        failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
        status = {"conditions": [{"type": "Complete", "status": "True"} if met else failed]}
    return {**job, "status": status}


def _delete(folder: Path) -> str:
    file = folder / "job.pid"
    if file.exists() and not (folder / "job.code").exists():
        with suppress(ProcessLookupError):
            os.killpg(int(file.read_text()), signal.SIGKILL)
    (folder / "deleted").touch()
    return "job.batch deleted\n"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
