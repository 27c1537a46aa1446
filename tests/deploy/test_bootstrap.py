"""`./justw` in a fresh clone, with real pip and stand-ins for the two packages that it installs."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JUST = '#!/bin/sh\necho "just got $*"\necho "UV_PYTHON=$UV_PYTHON"\n'
UV = "#!/bin/sh\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ensurepip") is None, reason="Debian's python3-venv is missing"),
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout in a path with a blank, and beside it a folder of wheels."""
    folder = tmp_path / "fresh clone"
    folder.mkdir()
    shutil.copy(ROOT / "justw", folder)
    versions = dict(re.findall(r"'([a-z-]+)==([\d.]+)'", (ROOT / "justw").read_text()))
    (tmp_path / "wheels").mkdir()
    for (package, version), script in zip(sorted(versions.items()), (("just", JUST), ("uv", UV)), strict=True):
        wheel(tmp_path / "wheels", package.replace("-", "_"), version, script)
    return folder


def wheel(folder: Path, package: str, version: str, script: tuple[str, str]) -> None:
    """Write a wheel that installs one script."""
    name, text = script
    info = f"{package}-{version}.dist-info"
    files = {
        f"{package}-{version}.data/scripts/{name}": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{package}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16  # a file that can be executed
            archive.writestr(entry, content)


def bootstrap(clone: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Run `./justw demo` where the PATH has a Python and what a shell script needs, and neither just nor uv."""
    tools = clone.parent / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "env", "sed", "dirname", "rm"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(found)
    (tools / "python3").write_text(f'#!/bin/sh\nexec "{sys.base_prefix}/bin/python3" "$@"\n')
    (tools / "python3").chmod(0o755)
    wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(clone.parent / "wheels")}
    return subprocess.run(
        [clone / "justw", "demo"],
        cwd=clone,
        env={"PATH": str(tools), "HOME": str(clone.parent)} | wheels | given,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIP_USER", "1"),
        ("PIP_TARGET", "elsewhere"),
        ("PIP_PREFIX", "elsewhere"),
        ("PIP_ROOT", "elsewhere"),
        ("PIP_REQUIRE_HASHES", "1"),
        ("PIP_CONSTRAINT", "missing.txt"),
        ("PIP_DRY_RUN", "1"),
        ("PIP_PYTHON", "/nonexistent"),
        ("PIP_NO_BINARY", ":all:"),
        ("PYTHONHOME", "/nonexistent"),
        ("PYTHONPATH", "/nonexistent"),
        ("PYTHONWARNINGS", "error"),
        ("CDPATH", "/"),
    ],
)
def test_settings_for_other_projects_do_no_harm(clone: Path, name: str, value: str) -> None:
    """Whatever a shell's profile exports for pip and Python."""
    told = bootstrap(clone, **{name: value})
    assert told.returncode == 0, told.stderr
    assert "just got --justfile" in told.stdout
    assert sorted(each.name for each in clone.iterdir()) == [".tools", "justw"]


@pytest.mark.parametrize("value", ["3.11", "cpython@3.12", sys.base_prefix + "/bin/python3"])
def test_uv_gets_the_python_that_the_user_has_named(clone: Path, value: str) -> None:
    """In any form that uv knows; the tools are installed with one that is there."""
    told = bootstrap(clone, UV_PYTHON=value)
    assert told.returncode == 0, told.stderr
    assert f"UV_PYTHON={os.path.realpath(value) if '/' in value else value}" in told.stdout


def test_uv_gets_the_python_that_a_shim_stands_for(clone: Path) -> None:
    """Of the shim itself uv would say that .venv is not of it, and make .venv anew at every call."""
    shim = clone.parent / "shim of 3"
    shim.write_text(f'#!/bin/sh\nexec "{sys.base_prefix}/bin/python3" "$@"\n')
    shim.chmod(0o755)
    told = bootstrap(clone, UV_PYTHON=str(shim))
    assert told.returncode == 0, told.stderr
    assert f"UV_PYTHON={os.path.realpath(sys.base_prefix + '/bin/python3')}\n" in told.stdout


@pytest.mark.parametrize("value", ["2.7", "3.9", "3.10.12", "/nonexistent/python3", "/bin/true"])
def test_a_python_that_is_too_old_or_none_is_named(clone: Path, value: str) -> None:
    """And so is the variable."""
    told = bootstrap(clone, UV_PYTHON=value)
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1].startswith(f"error: UV_PYTHON={value} is not Python 3.11 or newer")


def test_pips_own_configuration_is_honoured_but_for_where_it_installs(clone: Path) -> None:
    """`user = true` stands in many a pip.conf, and so does an index."""
    wheels = clone.parent / "wheels"
    (clone.parent / "pip.conf").write_text(f"[install]\nuser = true\n[global]\nfind-links = {wheels}\n")
    told = bootstrap(clone, PIP_CONFIG_FILE=str(clone.parent / "pip.conf"), PIP_FIND_LINKS="")
    assert told.returncode == 0, told.stderr


def test_a_failed_installation_names_pips_reason_and_leaves_nothing(clone: Path) -> None:
    """Not python3-venv, which is there."""
    told = bootstrap(clone, PIP_FIND_LINKS="")
    assert told.returncode == 1
    assert "No matching distribution found" in told.stderr
    assert told.stderr.splitlines()[-1] == "error: just and uv could not be installed into .tools: see above"
    assert "python3-venv" not in told.stderr
    assert [each.name for each in clone.iterdir()] == ["justw"]


def test_recipes_do_not_pass_on_what_would_change_the_project() -> None:
    """As just itself says of the justfile."""
    just = shutil.which("just") or ROOT / ".tools" / "bin" / "just"
    if not Path(just).exists():
        pytest.skip("just is not on the PATH")
    told = subprocess.run(
        [just, "--justfile", ROOT / "justfile", "--command", "env"],
        env=os.environ | {"UV_NO_SYNC": "1", "UV_PROJECT": "/nonexistent", "UV_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    given = {line.partition("=")[0] for line in told.stdout.splitlines()}
    assert given & {"UV_NO_SYNC", "UV_PROJECT", "UV_OFFLINE"} == {"UV_OFFLINE"}
