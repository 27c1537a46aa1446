"""The Dockerfile: what a linter would ask of it, and what no linter knows."""

import re
import tomllib

import pytest

from calsvc import SILENT
from tests.deploy.composed import ENV, FOLDER, variables
from tests.service_process import ROOT

TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
LOGICAL = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [line for line in LOGICAL if line.strip()]
STAGES = {
    name: body.splitlines()
    for name, body in re.findall(
        r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", "\n".join(INSTRUCTIONS), re.MULTILINE | re.DOTALL
    )
}
IMAGES = ("serve", "streamsim", "training")
BASES = dict(re.findall(r"^FROM (\S+) AS (\S+)$", TEXT, re.MULTILINE))


def ancestry(stage: str) -> list[str]:
    """The instructions of a stage and of those that it stands on."""
    base = next((base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", TEXT, re.MULTILINE) if name == stage), "")
    return (ancestry(base) if base in STAGES else []) + STAGES[stage]


def test_the_base_is_an_argument_with_the_default_of_env():
    """And no stage comes from anywhere else."""
    assert f"ARG BASE={variables(ENV)['BASE_IMAGE']}" in INSTRUCTIONS
    assert {base for base in BASES if base not in STAGES} == {"${BASE}"}


def test_old_builders_understand_it():
    """No syntax line, no heredoc, no cache mount, no digest: what Docker 20.10 cannot, or would have to pull."""
    assert not re.search(r"^# *syntax=|<<|type=cache|@sha256:", TEXT, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_number(image: str):
    """The last USER of each, so that a cluster can see that it is not root."""
    users = [line.split()[1] for line in ancestry(image) if line.startswith("USER ")]
    assert users[-1:] == ["10001:10001"]


@pytest.mark.parametrize("image", IMAGES)
def test_no_library_in_an_image_sends_usage_data(image: str):
    """Even for Python code that does not import calsvc."""
    set_there = {word for line in ancestry(image) if line.startswith("ENV ") for word in line.split()}
    assert {f"{name}={value}" for name, value in SILENT.items()} <= set_there


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_begins_its_program_without_a_shell(image: str):
    """So that the program is PID 1, and gets the signals."""
    entries = [line for line in ancestry(image) if line.startswith(("ENTRYPOINT", "CMD"))]
    assert entries
    assert all(re.fullmatch(r'(ENTRYPOINT|CMD) \[".*"\]', line) for line in entries)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is(image: str):
    """Version and commit among its labels, as the last thing: another commit leaves the libraries' layer as it is."""
    told = " ".join(line for line in ancestry(image) if line.startswith("LABEL"))
    for name in ("title", "description", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{name}=" in told
    assert STAGES[image][-1].startswith("LABEL org.opencontainers.image.version=")


def test_libraries_are_installed_by_hash():
    """Every installation from an index asks for hashes and builds nothing; ours is the only one without."""
    installs = [line for line in INSTRUCTIONS if re.search(r"pip install", line)]
    assert len(installs) == 5
    for line in installs:
        assert "--require-hashes --only-binary :all:" in line or "--no-deps --no-index /wheel/" in line


def test_what_builds_is_pinned_with_hashes_and_is_that_of_the_checkout():
    """The uv of ./justw, and the build backend that pyproject.toml asks for."""
    text = (FOLDER / "tools.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert all(re.match(r"\S+==\S+ ", block) and "--hash=sha256:" in block for block in blocks)
    uv = re.search(r"uv==([\d.]+)", (ROOT / "justw").read_text(encoding="utf-8"))
    assert uv is not None
    assert f"uv=={uv[1]} " in text
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    assert all(f"{re.split('[>=<]', name)[0]}==" in text for name in build["requires"])


def test_secrets_are_in_no_layer():
    """Passwords of an index come as a file that only the step sees."""
    assert not re.search(r"(password|token)=", TEXT, re.IGNORECASE)
    steps = [line for line in INSTRUCTIONS if "--require-hashes" in line]
    assert all("--mount=type=secret,id=netrc," in line for line in steps)


def test_what_is_baked_in_can_be_read_by_the_images_user():
    """A checkout under a umask of 077 has files that only their owner can read: their modes are changed in between."""
    for image in (*IMAGES, "serve-baked", "runtime"):
        assert all("--from=" in line for line in STAGES[image] if line.startswith("COPY"))
    assert "RUN chmod -R a+rX /baked" in STAGES["baked"]


@pytest.mark.parametrize("line", [line for line in INSTRUCTIONS if line.startswith(("COPY", "ADD"))])
def test_what_is_copied_from_here_goes_to_the_builder(line: str):
    """Every source is let through by .dockerignore, which lets nothing else through; nothing is fetched."""
    assert not line.startswith("ADD")
    if "--from=" in line:
        return
    listed = re.fullmatch(r"COPY \[(.*)\]", line)
    words = re.findall(r'"([^"]*)"', listed[1]) if listed else line.split()[1:]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert allowed[1] == "*"
    for source in words[:-1]:
        assert f"!{source.rstrip('/')}" in allowed
        assert source.startswith("data/") or (ROOT / source).exists()
