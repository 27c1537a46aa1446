"""`just up`, `just down`, `just logs`: what they say to compose, and what they refuse."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.compose import stack
from deploy.compose.stack import (
    Machine,
    Refused,
    chosen,
    command,
    demand_docker,
    open_mounts,
    pages,
    read_defaults,
    variables,
)
from tests.deploy.composed import ENV, FILES, FOLDER
from tests.deploy.composed import variables as lines_of
from tests.service_process import ROOT

MACHINE = Machine(8, "1.2.3", "abc")
DEFAULTS = lines_of(ENV)


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as `just` does."""
    return subprocess.run(
        [sys.executable, FOLDER / "stack.py", *words],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_layers_are_the_files():
    """Each by its name."""
    assert {f"compose.{layer}.yaml" for layer in stack.LAYERS} | {"compose.yaml"} == {file.name for file in FILES}


def test_layers_lie_in_one_order():
    """However they are named, and how often."""
    assert chosen(["replicas", "simulator", "replicas"]) == ("simulator", "replicas")
    words = command(("simulator",), "up")
    assert [Path(word).name for word in words] == [
        *("docker", "compose"),
        *("--file", "compose.yaml", "--file", "compose.simulator.yaml"),
        "up",
    ]


@pytest.mark.parametrize("words", [("up", "observabilty"), ("down", "everything"), ("restart",), ()])
def test_other_words_are_refused_with_those_that_there_are(words: tuple[str, ...]):
    """Exit code 2 and one line, before anything is asked of an engine."""
    refused = run(*words, PATH="/nowhere")
    if words[:1] == ("down",):
        assert refused.returncode in (1, 2)
    else:
        assert refused.returncode == 2
        assert "just up [simulator|observability|mlflow|replicas ...]" in refused.stderr
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1


def test_what_is_mounted_can_be_read_by_the_containers_users(tmp_path: Path):
    """Also where the checkout was cloned and the model trained under a umask of 077; the handout is left as it is."""
    ours, handout = tmp_path / "ours", tmp_path / "hand out"
    for folder in (ours / "rules", handout):
        folder.mkdir(parents=True, mode=0o700)
        (folder / "file").touch(0o600)
        (folder / "script").touch(0o700)
    (ours / "rules" / "link").symlink_to(handout / "file")
    (warning,) = open_mounts([ours], [handout, tmp_path / "nothing"])
    assert warning == f"the containers may be unable to read {handout}: chmod -R a+rX '{handout}'"
    modes = {name: (ours / "rules" / name).stat(follow_symlinks=False).st_mode & 0o777 for name in ("file", "script")}
    assert modes == {"file": 0o644, "script": 0o755}
    assert (ours / "rules").stat().st_mode & 0o005 == 0o005
    assert (handout / "file").stat().st_mode & 0o777 == 0o600
    subprocess.run(["chmod", "-R", "a+rX", handout], check=True)
    assert open_mounts([ours], [handout]) == []


def test_every_folder_of_the_checkout_that_is_mounted_is_opened():
    """As the layers name them."""
    sources = re.findall(r"source: (\S*[./]\S*)", "".join(file.read_text() for file in FILES))
    mounted = [(FOLDER / each).resolve() for each in sources if not each.startswith("$")]
    assert len(mounted) >= 7
    for each in mounted:
        assert any(each.is_relative_to(ROOT / folder) for folder in stack.MOUNTED), each


def test_a_machine_without_docker_is_told_so():
    """Exit code 1 and one line that says what to install, and what works without."""
    refused = run("up", PATH="/nowhere")
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: docker is missing: install Docker Engine and its compose plugin, or run without: just serve\n"
    )


def test_an_engine_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    """With what docker says of it."""
    answers = iter(["", "Cannot connect to the Docker daemon"])
    monkeypatch.setattr(stack, "_fails", lambda *_words: next(answers))
    with pytest.raises(Refused, match=r"no engine answers docker: .* \(Cannot connect to the Docker daemon\)"):
        demand_docker(lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("threads", "layers", "given", "cpus"),
    [
        (8, (), {}, "4.00"),
        (1, (), {}, "0.50"),
        (8, ("replicas",), {}, "1.33"),
        (8, ("replicas",), {"CALSVC_REPLICAS": "2"}, "2.00"),
        (8, (), {"CALSVC_CPUS": "3"}, "3"),
    ],
)
def test_half_of_the_threads_is_shared_by_the_replicas(
    threads: int, layers: tuple[str, ...], given: dict[str, str], cpus: str
):
    """Unless somebody has said otherwise."""
    told = variables(layers, MACHINE._replace(threads=threads), given, DEFAULTS)
    assert told["CALSVC_CPUS"] == cpus


@pytest.mark.parametrize("number", ["many", "0", "-1", "2.5", "17"])
def test_replicas_are_a_number_for_which_the_proxy_has_places(number: str):
    """Else the key is named, with what it may be."""
    with pytest.raises(Refused, match=f"^CALSVC_REPLICAS is {number}: .* 1 to 16"):
        variables(("replicas",), MACHINE, {"CALSVC_REPLICAS": number}, DEFAULTS)


def test_the_proxy_has_as_many_places_as_replicas_may_be_asked_for():
    """In the second file of its configuration."""
    assert f" calsvc 1-{stack.PLACES} " in (FOLDER / "replicas.cfg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("layers", "collector"), [((), ""), (("simulator", "observability"), "http://collector:4318"), (("simulator",), "")]
)
def test_the_simulator_is_told_what_is_on_with_it(layers: tuple[str, ...], collector: str):
    """The collector; of what was built, version and commit."""
    told = variables(layers, MACHINE, {}, DEFAULTS)
    assert told["STREAM_COLLECTOR"] == collector
    assert (told["CALSVC_VERSION"], told["CALSVC_GIT_SHA"]) == ("1.2.3", "abc")


def test_a_handout_of_the_user_is_mounted_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """CALSVC_HANDOUT_DIR means the same as for every other command."""
    monkeypatch.chdir(tmp_path)
    told = variables((), MACHINE, {"CALSVC_HANDOUT_DIR": "hand out"}, DEFAULTS)
    assert told["HANDOUT_DIR"] == str(tmp_path / "hand out")


def test_pages_are_those_of_the_layers_that_are_on():
    """With the ports that are published."""
    assert pages(("mlflow",), DEFAULTS | {"MLFLOW_PUBLISHED": "5001"}) == [
        "http://127.0.0.1:8000  calsvc",
        "http://127.0.0.1:5001  MLflow",
    ]


def test_defaults_are_read_as_compose_reads_them():
    """Lines with a value, values with blanks, no comments."""
    assert read_defaults("# a comment\n\nA=1\nB=hand out\nC=\n") == {"A": "1", "B": "hand out", "C": ""}


def test_every_verb_has_its_recipe():
    """In the justfile."""
    text = (ROOT / "justfile").read_text(encoding="utf-8")
    for verb in ("up", "down", "logs"):
        assert f'stack.py {verb} "$@"' in text
