"""A registry without a champion gets one; one that has one is left alone."""

from pathlib import Path

import pytest

from calsvc.training.store import aliases, open_store
from tests.conftest import Workshop, run_module

pytestmark = pytest.mark.slow


def test_the_first_champion_is_trained_and_the_second_start_does_nothing(workshop: Workshop, tmp_path: Path):
    """On the split that is there; what was challenger meanwhile stays challenger."""
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    environ = {"CALSVC_HANDOUT_DIR": str(workshop.handout), "MLFLOW_TRACKING_URI": uri}
    environ["CALSVC_MODEL"] = "models:/calories@champion"
    held_out = str(workshop.stream.parent)
    first = run_module(tmp_path, "calsvc.training.first", "--holdout", held_out, **environ)
    assert first.returncode == 0, first.stderr
    assert "version 1 of calories is champion now" in first.stdout
    run_module(tmp_path, "calsvc.training.train", "--holdout", held_out, **environ)
    again = run_module(tmp_path, "calsvc.training.first", "--holdout", held_out, **environ)
    assert (again.returncode, again.stdout) == (0, "champion of calories is version 1: nothing to do\n")
    assert aliases(open_store(uri), "calories") == {"champion": "1", "challenger": "2"}


def test_a_challenger_that_has_nobody_to_beat_becomes_champion(workshop: Workshop, tmp_path: Path):
    """Without another training: somebody has registered it, and never promoted."""
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    environ = {"CALSVC_HANDOUT_DIR": str(workshop.handout), "MLFLOW_TRACKING_URI": uri}
    held_out = str(workshop.stream.parent)
    run_module(tmp_path, "calsvc.training.train", "--holdout", held_out, **environ)
    first = run_module(tmp_path, "calsvc.training.first", "--holdout", held_out, **environ)
    assert first.returncode == 0, first.stderr
    assert aliases(open_store(uri), "calories") == {"champion": "1"}
