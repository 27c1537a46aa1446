"""What the objects of a cluster say, and what a report makes of it: from texts alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsim.cluster.job import job_name, manifest
from streamsim.cluster.kubectl import Forbidden, refusal
from streamsim.cluster.objects import Look, Scaling, by_kind, ending, hindrance, look_at, quantity, usage
from streamsim.cluster.section import Watched, as_html, facts, turns
from streamsim.errors import ClusterError
from streamsim.timeline import Second


@pytest.mark.parametrize(
    ("text", "cores"),
    [("61234567n", 0.061234567), ("1500u", 0.0015), ("250m", 0.25), ("1", 1), ("1.5", 1.5), ("2k", 2000), ("0", 0)],
)
def test_quantities_are_read_in_cores(text: str, cores: float):
    """All suffixes that metrics-server and people use."""
    assert quantity(text) == pytest.approx(cores)


@pytest.mark.parametrize(
    ("simulator", "name"),
    [
        ("streamsim", "streamsim-stress-656f0d80"),
        ("x" * 63, "x" * 47 + "-stress-656f0d80"),
        ("x" * 45 + ".-y" + "z" * 200, "x" * 45 + "-stress-656f0d80"),
    ],
)
def test_the_name_of_a_job_fits_into_a_label(simulator: str, name: str):
    """Kubernetes puts it on the Job's pods, and takes 63 characters, where a Deployment's name may have 253."""
    assert job_name(simulator, 1701776768.9) == name
    assert len(name) <= 63


@given(st.integers(0, 10**12))
def test_a_quantity_in_nanocores_is_exact(nanocores: int):
    """What metrics-server sends comes back."""
    assert round(quantity(f"{nanocores}n") * 1e9) == nanocores


@pytest.mark.parametrize("wrong", ["", "m", "fast", "1 x"])
def test_what_is_no_quantity_is_refused(wrong: str):
    """The caller turns it into one line."""
    with pytest.raises(ValueError, match="could not convert"):
        quantity(wrong)


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"kind": "List"}', '{"kind": "List", "items": [1]}'])
def test_what_is_no_object_is_one_line(text: str):
    """Whatever stands between here and the cluster may answer anything."""
    with pytest.raises(ClusterError, match="no object of Kubernetes"):
        by_kind(text)


@pytest.mark.parametrize("text", ["", "{}", '{"items": [{"containers": [{"usage": {"cpu": "fast"}}]}]}'])
def test_metrics_of_another_form_are_one_line(text: str):
    """A gap in the report says why."""
    with pytest.raises(ClusterError, match="no PodMetricsList"):
        usage(text)


def test_fields_that_the_api_leaves_out_are_zeros():
    """A Deployment without a ready replica has no readyReplicas, an autoscaler that is new has no status."""
    deployment = {"kind": "Deployment", "spec": {"replicas": 2}, "status": {}}
    scaler = {"spec": {"maxReplicas": 4}}
    assert look_at(1.0, deployment, scaler) == Look(1.0, 2, 0, Scaling(1, 4, 0, None, None))
    with pytest.raises(ClusterError, match="unknown form"):
        look_at(1.0, {"spec": {"replicas": "many"}}, None)


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ({}, None),
        ({"active": 1}, None),
        ({"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}, None),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, "Complete"),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}, "DeadlineExceeded"),
        ({"conditions": [{"type": "Failed", "status": "False"}]}, None),
    ],
)
def test_a_job_has_ended_when_it_says_so(status: dict[str, object], ended: str | None):
    """By its conditions alone."""
    assert ending({"status": status}) == ended


def test_a_load_that_falls_behind_is_not_ended_before_its_report():
    """Seen on two cores for everything: 600 records a second for two minutes, of which 110 a second were settled."""
    job = manifest("load", {"spec": {"template": {"spec": {"containers": [{}]}}}}, [], 120 + 5, "1")
    assert job["spec"]["activeDeadlineSeconds"] > 600 * 120 / 110


def test_the_simulators_own_volume_stays_its_own():
    """A claim may be another node's, and its journal has an owner that goes on: the load gets a place of its own."""
    claim = {"name": "journal", "persistentVolumeClaim": {"claimName": "streamsim"}}
    rows = {"name": "rows", "configMap": {"name": "rows"}}
    spec = {"containers": [{}], "volumes": [claim, rows]}
    pod = manifest("load", {"spec": {"template": {"spec": spec}}}, [], 1, "1")["spec"]["template"]["spec"]
    assert pod["volumes"][:2] == [{"name": "journal", "emptyDir": {}}, rows]


def test_a_pod_says_what_it_waits_for():
    """No node has room for it, or its image is not there; a container that is being made is no hindrance."""
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    making = {"state": {"waiting": {"reason": "ContainerCreating"}}}

    def pods(status: object) -> str:
        return json.dumps({"items": [{"status": status}]})

    assert hindrance(pods({"conditions": [full]})) == "Unschedulable: Insufficient cpu"
    assert hindrance(pods({"containerStatuses": [making]})) is None
    assert hindrance('{"items": []}') is None


UP = "is it up, and is `kubectl config current-context` the one?"
NOBODY = "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?"


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (f"E1127 memcache.go:265] no server API group list\n{NOBODY}", f"no cluster answers: {NOBODY}; {UP}"),
        ('error: context "x" does not exist', f'no cluster answers: error: context "x" does not exist; {UP}'),
        ('Error from server (NotFound): namespaces "x" not found\n', "kubectl get x: Error from server (NotFound)"),
        ("", "said nothing"),
    ],
)
def test_kubectls_complaints_become_one_line(errors: str, said: str):
    """The last line is what counts; those before it are kubectl's own attempts."""
    told = str(refusal("kubectl get x", errors))
    assert said in told
    assert "\n" not in told


def test_a_refusal_is_told_apart():
    """Asking again would not help."""
    assert isinstance(refusal("kubectl get x", 'Error from server (Forbidden): pods is forbidden: User "x"'), Forbidden)


def watched(told: list[int], **changes: object) -> Watched:
    """Looks every ten seconds from ten seconds before the load, which lasts for 20 s."""
    looks = [Look(90.0 + 10 * number, replicas, replicas, None) for number, replicas in enumerate(told)]
    seconds = [Second(number, 10, 10, number % 2, 1, 1.0, 2.0, 3.0) for number in range(20)]
    return Watched(looks, 100.0, 120.0, {}, seconds)._replace(**changes)


def test_the_facts_count_from_the_first_record():
    """Out after 10 s, in 20 s after the end, as few as before another 10 s later."""
    seen = watched([1, 1, 4, 4, 4, 2, 1, 1])
    assert [(each.at, each.before, each.after) for each in turns(seen)] == [(10, 1, 4), (40, 4, 2), (50, 2, 1)]
    told = facts(seen)
    assert told["told to grow after"] == "10 s"
    assert told["one more was ready after"] == "10 s"
    assert told["first went, after the load's end"] == "20 s"
    assert told["as few as before, after the load's end"] == "30 s"
    assert told["most CPU of all replicas"] == "not seen"


def test_what_was_not_seen_is_said():
    """No change, and one that never went back."""
    assert set(list(facts(watched([1, 1, 1, 1])).values())[1:6]) == {"not seen"}
    assert facts(watched([1, 1, 4, 4, 4]))["as few as before, after the load's end"] == "not seen"
    assert "did not change" in as_html(watched([1, 1, 1, 1]))


def test_what_the_cluster_says_is_escaped():
    """A message of a cluster is text, whatever it holds."""
    page = as_html(watched([1, 2, 1], failed={"<script>alert(1)</script>": 2}))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
