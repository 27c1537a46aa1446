"""MLflow in a checkout whose path has a `%`, as the workspaces of build servers do."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from calsvc.registry.mlflow_import import link_to_mlflow

OPEN = """
import sys
from calsvc.training.store import open_store, experiment
store = open_store("sqlite:///mlruns/mlflow.db")
print(sys.modules["mlflow"].__file__, experiment(store, "calories"))
"""


def libraries_in(folder: Path) -> str:
    """Make a folder from which MLflow is imported by a path with a `%`; return it."""
    found = find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    folder.mkdir(parents=True)
    (folder / "mlflow").symlink_to(Path(found.origin).parent)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["job%2Fmain", "%(here)s", "100%", "a%%b"])
def test_the_embedded_store_opens_where_the_path_has_a_per_cent_sign(tmp_path: Path, name: str) -> None:
    """Twice: to make the tables, and to find them; the link that this takes is made once."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environ = os.environ | {"PYTHONPATH": libraries_in(tmp_path / name / "lib"), "TMPDIR": str(temporary)}
    for _ in range(2):
        told = subprocess.run(
            [sys.executable, "-c", OPEN], cwd=tmp_path / name, env=environ, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr
        file, experiment = told.stdout.split()
        assert "%" not in file
        assert experiment == "1"
    assert len(list(temporary.glob("calsvc-mlflow-*"))) == 1


def test_elsewhere_mlflow_is_imported_from_where_it_is() -> None:
    """No link is made."""
    assert link_to_mlflow() is None


def test_a_link_of_another_user_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a temporary folder that all write to, somebody may be there first; another place is taken."""
    monkeypatch.syspath_prepend(libraries_in(tmp_path / "50%"))
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "other").mkdir()
    monkeypatch.setattr("calsvc.registry.mlflow_import._PLACES", (str(tmp_path / "other"),))
    first = link_to_mlflow()
    assert first is not None
    assert Path(first).parent == tmp_path
    Path(first).chmod(0o777)
    assert Path(link_to_mlflow() or "").parent == tmp_path / "other"
    Path(first).chmod(0o700)
    (Path(first) / "mlflow").unlink()
    (Path(first) / "mlflow").symlink_to(tmp_path)
    assert Path(link_to_mlflow() or "").parent == tmp_path / "other"
