"""A load test in a cluster that a stand-in for kubectl makes up; service, simulator and report are real."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamsim.cluster.__main__ import main
from streamsim.cluster.watch import Clock
from tests.conftest import Workshop
from tests.service_process import ServiceProcess, service_process
from tests.streamsim.cluster.standin import Standin
from tests.streamsim.test_stress_report import Page

pytestmark = pytest.mark.slow

OUT = [[0, 1, 1, 3], [1, 3, 1, 140], [2, 3, 3, 58]]
"""One replica; a second into the load three are wanted, another second later they are there."""
REFUSED = 'Error from server (Forbidden): deployments.apps "calsvc" is forbidden: User "dev" cannot get resource'
ABSENT = "The connection to the server localhost:8080 was refused - did you specify the right host or port?"


@pytest.fixture
def cluster(tmp_path: Path) -> Standin:
    """A cluster with one replica and an idle autoscaler."""
    folder = tmp_path / "a cluster"
    folder.mkdir()
    return Standin(folder).make()


def asked(cluster: Standin, report: Path, *more: str) -> list[str]:
    """Arguments of a run that does not wait long."""
    return ["--kubectl", str(cluster.program), "--every", "0.2", "--report", str(report), *more]


@pytest.fixture
def service(workshop: Workshop, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A real service."""
    with service_process(tmp_path, workshop.environ()) as running:
        yield running


def test_one_report_has_the_load_and_what_the_cluster_did(
    cluster: Standin, service: ServiceProcess, workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Scale-out under load, stabilisation and scale-in after it, CPU, p95 and p99 on one time axis; nothing is left."""
    cluster.change(script=[*OUT, [8, 1, 1, 3]])
    load = ["40", "--duration", "3", "--feedback-delay", "0.2", "--data", str(workshop.stream), "--p99", "20s"]
    code = main(asked(cluster, tmp_path / "out", "--url", service.url, "--watch", "7", *load))
    said = capsys.readouterr()
    assert code == 0, said
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["planned"] == document["acknowledged"] > 0
    assert [(each["before"], each["after"]) for each in document["cluster"]["turns"]] == [(1, 3), (3, 1)]
    assert document["cluster"]["facts"]["replicas before, at most"] == "1, 3"
    looks = document["cluster"]["looks"]
    assert sorted({each["cores"] for each in looks}) == pytest.approx([0.015, 0.7, 0.87], rel=1e-3)
    assert {each["scaling"]["percent"] for each in looks} == {3, 140, 58}
    assert looks[0]["at"] < 0 < document["cluster"]["load_s"][1] < looks[-1]["at"]
    assert document["cluster"]["not_seen"] == {}
    page = Page()
    page.feed((tmp_path / "out" / "report.html").read_text())
    assert page.open == page.references == []
    assert page.tags.count("svg") == 5 + 6
    for words in ("The cluster meanwhile", "1 to 3", "3 to 1", "seen by the autoscaler", "p95"):
        assert words in page.text
    assert (cluster.folder / "deleted").exists()


def test_the_job_is_the_simulators_pod_with_another_command(
    cluster: Standin, service: ServiceProcess, workshop: Workshop, tmp_path: Path
):
    """Image, labels and environment stay; probes go, it may use a core, has a /tmp, and is never begun anew."""
    load = ["20", "--duration", "1", "--feedback-delay", "0.1", "--data", str(workshop.stream), "--p99", "20s"]
    assert main(asked(cluster, tmp_path / "out", "--url", service.url, "--watch", "1", *load)) == 0
    spec = cluster.job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == "streamsim:dev"
    assert container["command"] == ["python", "-m", "streamsim"]
    assert container["args"] == ["stress", *load, "--url", service.url, "--report", "-"]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "256Mi"}
    assert "livenessProbe" not in container
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/tmp"]  # noqa: S108
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimit"] == 0
    labels = {"app.kubernetes.io/name": "streamsim", "app.kubernetes.io/component": "stress"}
    assert spec["template"]["metadata"]["labels"] == cluster.job["metadata"]["labels"] == labels


def test_a_missed_threshold_is_the_exit_code_here_too(
    cluster: Standin, service: ServiceProcess, workshop: Workshop, tmp_path: Path
):
    """The Job has failed, as Kubernetes calls it, and its report is there all the same."""
    load = ["20", "--duration", "1", "--feedback-delay", "0.1", "--data", str(workshop.stream), "--p99", "0.001ms"]
    assert main(asked(cluster, tmp_path / "out", "--url", service.url, "--watch", "1", *load)) == 99
    assert "Threshold missed" in (tmp_path / "out" / "report.html").read_text()


def test_a_generator_that_was_too_slow_says_so(
    cluster: Standin, service: ServiceProcess, workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Beside the latencies that it has spoilt, as `stress` does."""
    load = ["8000", "--duration", "0.5", "--feedback-delay", "0.1", "--data", str(workshop.stream), "--p99", "1ms"]
    assert main(asked(cluster, tmp_path / "out", "--url", service.url, "--watch", "1", *load)) == 99
    assert "the generator itself was the bottleneck" in capsys.readouterr().err


def test_without_metrics_and_through_failing_looks_it_goes_on(
    cluster: Standin, service: ServiceProcess, workshop: Workshop, tmp_path: Path
):
    """No metrics-server: CPU is left out, and the report says why."""
    cluster.change(says={"get --raw": "Error from server (NotFound): the server could not find the requested resource"})
    cluster.change(script=[[0, 1, 0, -1]])
    load = ["20", "--duration", "1", "--feedback-delay", "0.1", "--data", str(workshop.stream), "--p99", "20s"]
    assert main(asked(cluster, tmp_path / "out", "--url", service.url, "--watch", "1", *load)) == 0
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {each["cores"] for each in document["cluster"]["looks"]} == {None}
    assert {each["scaling"]["percent"] for each in document["cluster"]["looks"]} == {None}
    (reason,) = document["cluster"]["not_seen"]
    assert "could not find the requested resource" in reason
    assert reason in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"says": {"get": ABSENT}}, "no cluster answers: The connection to the server localhost:8080"),
        ({"says": {"get": REFUSED}}, "your account needs a role for it"),
        ({"lacks": ["streamsim"]}, "no Deployment streamsim whose pod could send the load"),
        ({"says": {"create": "error: exceeded quota: jobs"}}, "exceeded quota"),
    ],
)
def test_what_is_wrong_with_the_cluster_is_one_line(
    cluster: Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], said: str
):
    """Exit code 1, the reason and what to do, no traceback, and no report."""
    cluster.change(**changes)
    assert main(asked(cluster, tmp_path / "out", "500")) == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors.splitlines()) == 1, errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lacking", "said"), [("calsvc", "no Deployment calsvc"), ("hpa", "no HorizontalPodAutoscaler hpa")]
)
def test_what_is_to_be_watched_has_to_be_there(
    cluster: Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: str, said: str
):
    """Before any load is sent; without an autoscaler only where that is said."""
    cluster.change(lacks=[lacking])
    assert main(asked(cluster, tmp_path / "out", "--autoscaler", "hpa", "500")) == 1
    assert said in capsys.readouterr().err
    assert not (cluster.folder / "job.json").exists()


def test_without_kubectl_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One line that says what to install, or to name."""
    assert main(["--kubectl", str(tmp_path / "none"), "500"]) == 1
    assert "install kubectl, or name it with --kubectl" in capsys.readouterr().err


def test_a_pod_that_cannot_start_is_told_and_removed(
    cluster: Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """An image that is not there: its reason after a minute, and the Job goes."""
    cluster.change(waiting={"reason": "ErrImageNeverPull", "message": "Container image is not present"})
    later = iter(range(10**9, 10**9 + 10_000, 50))
    clock = Clock(wall=lambda: float(next(later)), sleep=lambda _: None)
    assert main(asked(cluster, tmp_path / "out", "500"), clock) == 1
    assert "does not start: ErrImageNeverPull: Container image is not present" in capsys.readouterr().err
    assert (cluster.folder / "deleted").exists()


def test_a_cluster_that_goes_away_ends_the_run(
    cluster: Standin, workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A dozen looks in a row have failed; each reason is told once, and the load is stopped."""

    def gone(_seconds: float) -> None:
        cluster.change(says={"get": ABSENT})

    load = ["20", "--duration", "60", "--data", str(workshop.stream)]
    assert main(asked(cluster, tmp_path / "out", "--url", "http://127.0.0.1:9", *load), Clock(sleep=gone)) == 1
    errors = capsys.readouterr().err
    assert "12 looks at the cluster have failed in a row" in errors
    assert len(errors.splitlines()) == 2, errors
    assert (cluster.folder / "deleted").exists()


def test_options_that_stress_refuses_are_refused_at_once(cluster: Standin, capsys: pytest.CaptureFixture[str]):
    """Usage is exit code 2, before the cluster is asked for anything."""
    with pytest.raises(SystemExit) as refused:
        main(asked(cluster, Path("out"), "500", "--p99", "fast"))
    assert refused.value.code == 2
    assert "expected a number" in capsys.readouterr().err
    assert cluster.asked == []


def test_ctrl_c_while_looking_on_keeps_the_report(
    cluster: Standin, service: ServiceProcess, workshop: Workshop, tmp_path: Path
):
    """Whoever has seen enough has a report of what was seen."""

    def impatient(seconds: float) -> None:
        if (cluster.folder / "deleted").exists():
            raise KeyboardInterrupt
        time.sleep(seconds)

    load = ["20", "--duration", "1", "--feedback-delay", "0.1", "--data", str(workshop.stream), "--p99", "20s"]
    assert main(asked(cluster, tmp_path / "out", "--url", service.url, *load), Clock(sleep=impatient)) == 0
    assert (tmp_path / "out" / "report.html").exists()
