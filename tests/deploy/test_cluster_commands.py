"""`just k8s-up`, `just k8s-down`: what they say to docker, minikube and kubectl, here stand-ins that write it down."""

import os
import re
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.deploy.cluster import KUSTOMIZE, data_of, pods_of
from tests.deploy.kustomize import rendered
from tests.deploy.machine import PROGRAMS, Machine, machine_in
from tests.needs import needed, needs
from tests.service_process import ROOT


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with everything, and a checkout with a model."""
    return machine_in(tmp_path)


def in_order(calls: Sequence[str], *patterns: str) -> bool:
    """Whether there are calls that match, one after the other."""
    rest = iter(calls)
    return all(any(re.match(pattern, call) for call in rest) for pattern in patterns)


def test_everything_is_done_in_order(machine: Machine):
    """A model, the images, a cluster of its own, what is loaded into it, then what is applied and waited for."""
    ended = machine.up()
    assert ended.returncode == 0, ended.stderr
    assert in_order(
        machine.called(),
        "docker info",
        "trainer -m calsvc.training.train --if-needed",
        *(
            call
            for image, target in (
                ("calsvc", "serve"),
                ("calsvc-streamsim", "streamsim"),
                ("calsvc-training", "training"),
            )
            for call in (
                rf"docker build --file deploy/compose/Dockerfile --target {target} --tag {image}:dev ",
                rf"docker build --file deploy/kustomize/Dockerfile --target {image} .* data/kubernetes/context$",
                rf"docker tag [0-9a-f]+ {image}:dev",
                rf"docker tag [0-9a-f]+ {image}:[0-9a-f]{{12}}$",
            )
        ),
        r"minikube start --profile calsvc --cpus \d+ --memory \d+m --cni calico --addons metrics-server",
        "kubectl --context calsvc replace --filename -",
        "- --metric-resolution=15s",
        r"minikube image load --profile calsvc calsvc:[0-9a-f]{12}",
        r"minikube image tag --profile calsvc calsvc:[0-9a-f]{12} calsvc:dev",
        r"minikube image load --profile calsvc calsvc-training:[0-9a-f]{12}",
        "kubectl --context calsvc apply --kustomize data/kubernetes",
        "kubectl --context calsvc --namespace calsvc rollout status deployment.apps/calsvc --timeout 10m",
        "kubectl --context calsvc --namespace calsvc rollout status statefulset.apps/valkey --timeout 10m",
    )


def test_only_its_own_cluster_is_touched(machine: Machine):
    """Every call of minikube names its profile, every one of kubectl its context."""
    machine.up()
    machine.run("down.sh")
    for call in machine.called():
        if call.startswith("minikube"):
            assert " --profile calsvc" in call
        if call.startswith("kubectl"):
            assert " --context calsvc " in call


@needs("kustomize")
def test_at_the_end_it_says_how_to_get_in(machine: Machine):
    """A port-forward for each page, on a Service that there is, on 127.0.0.1."""
    said = machine.up().stdout
    forwards = re.findall(r"port-forward service/(\w+) +(\d+) +# http://127\.0\.0\.1:(\d+)", said)
    objects = tuple(yaml.safe_load_all(rendered(machine.own)))
    services = {each["metadata"]["name"]: each["spec"]["ports"] for each in objects if each["kind"] == "Service"}
    assert {name for name, *_ in forwards} == {"calsvc", "grafana", "prometheus", "jaeger", "pyroscope", "mlflow"}
    for name, port, shown in forwards:
        assert port == shown
        assert int(port) in {each["port"] for each in services[name]}
    assert "just k8s-down" in said


@needs("kustomize")
def test_what_is_applied_has_the_images_and_secrets_of_this_machine(machine: Machine):
    """The images by a tag that is made of their content; a token, and a password for Grafana, that nobody else has."""
    machine.up()
    objects = tuple(yaml.safe_load_all(rendered(machine.own)))
    loaded = {call.split()[-1] for call in machine.called() if " image load " in call}
    ours = {
        each["image"] for owner in pods_of(objects).values() for each in owner.containers if "calsvc" in each["image"]
    }
    assert ours == loaded
    token = data_of(objects, "calsvc-secrets")["CALSVC_TOKEN"]
    grafana = data_of(objects, "grafana-admin")
    assert token != grafana["GF_SECURITY_ADMIN_PASSWORD"]
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"]
    for file in (machine.own / "calsvc.env", machine.own / "grafana.env"):
        assert re.search(r"=[0-9a-f]{64}\n", file.read_text())
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not re.search(r"[0-9a-f]{64}", machine.up().stdout)


def test_a_second_time_secrets_stay_and_images_are_not_loaded_again(machine: Machine):
    """What is there already is kept."""
    machine.up()
    secrets = [(machine.own / name).read_text() for name in ("calsvc.env", "grafana.env")]
    loads = [call for call in machine.called() if " image load " in call]
    machine.calls.unlink()
    there = " ".join(f"docker.io/library/{call.split()[-1]}" for call in loads)
    assert machine.up(LOADED=there).returncode == 0
    assert [(machine.own / name).read_text() for name in ("calsvc.env", "grafana.env")] == secrets
    assert [call for call in machine.called() if " image load " in call] == []
    assert len([call for call in machine.called() if " image tag " in call]) == 3


def test_the_images_get_what_a_cluster_cannot_mount(machine: Machine):
    """The version that is served, not a link to it; held-out rows; the handout; readable for whoever runs there."""
    assert machine.run("images.sh").returncode == 0
    context = machine.own / "context"
    assert sorted(str(file.relative_to(context)) for file in context.rglob("*") if file.is_file()) == [
        "bundle/bundle.json",
        "handout/train.py",
        "stream.csv",
    ]
    assert not (context / "bundle").is_symlink()
    dockerfile = (KUSTOMIZE / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE) == ["bundle", "stream.csv", "handout"]
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o004 for file in context.rglob("*"))


@pytest.mark.parametrize("lacking", [("minikube",), ("docker", "kubectl"), PROGRAMS])
def test_programs_that_are_missing_are_named_before_anything_is_done(machine: Machine, lacking: tuple[str, ...]):
    """In one line, with where to get them."""
    for program in lacking:
        (machine.programs / program).unlink()
    ended = machine.up()
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: not found on the PATH: {' '.join(lacking)}. How to install them: https://")
    assert ended.stderr.count("\n") == 1
    assert machine.called() == []


def test_an_engine_that_does_not_answer_is_said(machine: Machine):
    """Before a model is trained for nothing."""
    ended = machine.up(FAILS="docker info")
    assert ended.returncode == 1
    assert ended.stderr == "error: docker is there, but its engine does not answer: start it; docker info says more\n"
    assert machine.called() == ["docker info"]


@pytest.mark.parametrize(
    "file", ["data/bundle/bundle.json", "data/holdout/stream.csv", "handout_from DS_agent/train.py"]
)
def test_without_a_model_there_are_no_images(machine: Machine, file: str):
    """And one line says what makes it."""
    (machine.checkout / file).unlink()
    ended = machine.run("images.sh")
    assert ended.returncode == 1
    assert ended.stderr == f"error: {file} is missing: just train makes model and held-out rows of CALSVC_HANDOUT_DIR\n"
    assert machine.called() == []


@pytest.mark.parametrize("step", ["trainer", "--target calsvc-streamsim", "minikube start", "image load", "apply"])
def test_a_step_that_fails_ends_it(machine: Machine, step: str):
    """Nothing is done after it, and the exit code says so."""
    ended = machine.up(FAILS=step)
    assert ended.returncode != 0
    assert "stand-in: refused" in ended.stderr
    assert step in machine.called()[-1]


def test_pods_that_do_not_become_ready_are_named(machine: Machine):
    """With what there is to see of them, and the command that says why."""
    ended = machine.up(FAILS="rollout status deployment.apps/calsvc")
    assert ended.returncode == 1
    assert machine.called()[-1].endswith("get pods")
    assert "error: deployment.apps/calsvc does not become ready; why: kubectl --context calsvc" in ended.stderr


def test_down_removes_the_cluster_and_nothing_else(machine: Machine):
    """The profile of its own; without minikube one line says so."""
    assert machine.run("down.sh").returncode == 0
    assert machine.called() == ["minikube delete --profile calsvc"]
    (machine.programs / "minikube").unlink()
    ended = machine.run("down.sh")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("error: not found on the PATH: minikube")


def test_the_recipes_run_these_scripts():
    """With the Python that has the training's libraries."""
    text = (ROOT / "justfile").read_text(encoding="utf-8")
    assert "\nk8s-up:\n    @deploy/kustomize/up.sh {{ python }}\n" in text
    assert "\nk8s-down:\n    @deploy/kustomize/down.sh\n" in text
    assert all(os.access(KUSTOMIZE / name, os.X_OK) for name in ("up.sh", "down.sh", "images.sh"))


@needs("shellcheck")
def test_shellcheck_finds_nothing():
    """In any script of the deployment."""
    scripts = sorted((ROOT / "deploy").rglob("*.sh"))
    assert scripts
    checked = subprocess.run([needed("shellcheck"), *scripts], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
