"""The commands as a person types them, each in its own process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from calsvc.model.bundle import load_bundle
from calsvc.settings import Settings
from calsvc.training.current import bundle_is_current
from tests.handouts import write_handout
from tests.making import Trained, replace_in
from tests.needs import mounted, needs

Run = subprocess.CompletedProcess[str]


def run(command: str, *arguments: object, cwd: Path, handout: object = "hand out") -> Run:
    """Run `python -m calsvc.training.<command>` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", f"calsvc.training.{command}", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"CALSVC_HANDOUT_DIR": str(handout)},
        capture_output=True,
        text=True,
        check=False,
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file by name."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a handout in which `just train` ran; both have a space in their path."""
    folder = tmp_path_factory.mktemp("my work shop")
    before = files_of(write_handout(folder / "hand out"))
    trained = run("train", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    assert files_of(folder / "hand out") == before
    (folder / "told.txt").write_text(trained.stdout)
    return folder


def test_training_tells_what_it_published(workshop: Path) -> None:
    """Version, engine, trees, both errors, parity, place; run, registered version and alias."""
    told = (workshop / "told.txt").read_text()
    manifest = load_bundle(workshop / "data" / "bundle").manifest
    for part in (manifest.model_version, f"onnx, {manifest.trees} trees", "valid RMSLE", "holdout RMSLE", "parity"):
        assert part in told
    assert f"run            {manifest.mlflow_run_id}" in told
    assert "registered     calories version 1, alias challenger" in told
    assert (workshop / "mlruns" / "mlflow.db").is_file()
    for stage in ("track", "split", "train", "export (onnx)", "publish", "judge", "register"):
        assert f"{stage} ..." in told


@pytest.mark.slow
def test_what_containers_mount_can_be_read_by_their_users(tmp_path: Path) -> None:
    """Bundle, held-out rows and the folders made for them, under a umask of 077, too; other files are as it says."""
    write_handout(tmp_path / "hand out")
    before = os.umask(0o077)
    try:
        assert run("train", "--no-track", cwd=tmp_path).returncode == 0
        assert run("predict", "--out", "own.csv", cwd=tmp_path).returncode == 0
    finally:
        os.umask(before)
    for folder in ((tmp_path / "data" / "bundle").resolve(), tmp_path / "data" / "holdout"):
        assert folder.stat().st_mode & 0o777 == 0o755
        files = list(folder.iterdir())
        assert len(files) >= 4
        assert {each.stat().st_mode & 0o777 for each in files} == {0o644}
    for above in ("data", "data/bundles"):
        assert (tmp_path / above).stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "own.csv").stat().st_mode & 0o777 == 0o600


def test_nothing_is_trained_twice_without_need(workshop: Path) -> None:
    """--if-needed looks at the bundle and at the handout."""
    before = (workshop / "data" / "bundle").readlink()
    again = run("train", "--if-needed", cwd=workshop)
    assert (again.returncode, again.stdout) == (0, "data/bundle was made from this handout: nothing to do\n")
    assert (workshop / "data" / "bundle").readlink() == before


def test_a_changed_handout_is_not_current(trained: Trained, tmp_path: Path) -> None:
    """Nor is a missing bundle."""
    assert bundle_is_current(trained.settings)
    assert not bundle_is_current(Settings(handout_dir=trained.handout, model=tmp_path / "none"))
    other = write_handout(tmp_path / "other", seed=9)
    assert not bundle_is_current(Settings(handout_dir=other, model=trained.bundle.folder))


@pytest.mark.slow
def test_prediction_writes_the_ids_in_order_and_tells_the_error(workshop: Path) -> None:
    """The file's own Calories are compared with, never looked at."""
    told = run("predict", "--data", "data/holdout/stream.csv", "--out", "out put/p.csv", cwd=workshop)
    assert told.returncode == 0, told.stderr
    rows = pl.read_csv(workshop / "data" / "holdout" / "stream.csv")
    answers = pl.read_csv(workshop / "out put" / "p.csv")
    assert answers.columns == ["id", "Calories"]
    assert answers["id"].to_list() == rows["id"].to_list()
    logs = np.log1p(answers["Calories"].to_numpy()) - np.log1p(rows["Calories"].to_numpy())
    assert f"RMSLE {np.sqrt((logs**2).mean()):.5f}, MAE " in told.stdout


@pytest.mark.slow
def test_prediction_takes_the_handouts_test_rows_by_default(workshop: Path) -> None:
    """Which have no Calories to compare with."""
    told = run("predict", "--out", "a.csv", cwd=workshop)
    assert told.returncode == 0, told.stderr
    assert "RMSLE" not in told.stdout
    assert len(pl.read_csv(workshop / "a.csv")) == 150


@pytest.mark.slow
def test_an_unusable_row_leaves_the_old_predictions(workshop: Path) -> None:
    """One error, and the file that was there."""
    (workshop / "old.csv").write_text("old")
    (workshop / "bad.csv").write_text("id,Sex,Age,Height,Weight,Duration,Heart_Rate,Body_Temp\n1,m,?,170,70,10,90,40\n")
    told = run("predict", "--data", "bad.csv", "--out", "old.csv", cwd=workshop)
    expected = "error: bad.csv, line 2, column Age: '?' where a number 1..120 is expected; correct or remove the row\n"
    assert (told.returncode, told.stderr) == (1, expected)
    assert (workshop / "old.csv").read_text() == "old"


@pytest.mark.slow
def test_a_split_made_for_this_handout_is_kept(tmp_path: Path) -> None:
    """`just holdout --data` decides what is trained on; a split for another handout is replaced."""
    # Their trainings end at once: what counts here comes before.
    first = write_handout(tmp_path / "hand out", break_="no_artefact")
    second = write_handout(tmp_path / "second", break_="no_artefact", trees="all")
    rows = write_handout(tmp_path / "rows", seed=5) / "data_sample"
    train = tmp_path / "data" / "holdout" / "train.csv"
    assert run("holdout", "--data", rows, "--seed", 4, cwd=tmp_path).returncode == 0
    of_rows = train.read_bytes()
    assert "is there: " in run("train", "--no-track", cwd=tmp_path, handout=first).stdout
    assert train.read_bytes() == of_rows
    assert " held out" in run("train", "--no-track", cwd=tmp_path, handout=second).stdout
    assert train.read_bytes() != of_rows


@pytest.mark.slow
def test_a_handout_with_unknown_features_is_served_by_its_own_code(tmp_path: Path) -> None:
    """`auto` falls back with a warning; --engine reference does it at once; predictions then come from the worker."""
    handout = write_handout(tmp_path / "hand out", extra_feature="num__Age_cubed")
    told = run("train", "--no-track", "--engine", "auto", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "warning: features unknown to calsvc/model/features.py: num__Age_cubed" in told.stderr
    assert load_bundle(tmp_path / "data" / "bundle").manifest.engine == "reference"
    rows = (handout / "data_sample" / "test.csv").read_text().splitlines()[:6]
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "test.csv").write_text("\n".join(rows) + "\n")
    told = run("predict", "--data", "few", "--out", "p.csv", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert len(pl.read_csv(tmp_path / "p.csv")) == 5


UNUSABLE = [
    ({"break_": "no_train"}, "hand out/train.py is missing: a handout holds train.py"),
    ({"break_": "no_artefact"}, "hand out/train.py left no artefact at its --out"),
    ({"break_": "nan_data"}, "hand out/data_sample/train.csv, line 302, column Heart_Rate: "),
    ({"break_": "train_crash"}, "hand out/train.py failed (exit code 1): "),
    ({"break_": "train_writes_into_itself"}, "hand out/train.py wrote train.log in its own folder"),
    ({"extra_feature": "num__Odd"}, "features unknown to calsvc/model/features.py: num__Odd; "),
    ({"wrong_formula": True}, "; a feature may be computed differently there: "),
]


@pytest.mark.slow
@pytest.mark.parametrize(("variation", "told"), UNUSABLE, ids=[next(iter(each)) for each, _ in UNUSABLE])
def test_an_unusable_handout_is_one_line_and_the_old_bundle_stays(
    trained: Trained, tmp_path: Path, variation: dict[str, Any], told: str
) -> None:
    """Exit code 1, one error that names what to do, and what was served before is still there."""
    wrong_formula = variation.get("wrong_formula")
    handout = write_handout(tmp_path / "hand out", **({} if wrong_formula else variation))
    if wrong_formula:
        replace_in(handout / "model.py", "temp - 36.8", "temp - 36.5")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bundle").symlink_to(trained.bundle.folder)
    failed = run("train", "--no-track", cwd=tmp_path)
    assert failed.returncode == 1
    lines = failed.stderr.splitlines()
    assert len(lines) == 1, failed.stderr
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert load_bundle(tmp_path / "data" / "bundle").manifest == trained.bundle.manifest


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_training_leaves_no_process(tmp_path: Path, how: signal.Signals) -> None:
    """Killed, Ctrl-C, or a terminal that is closed: train.py does not go on alone."""
    handout = write_handout(tmp_path / "hand out")
    note = "new = here.parent / 'new'; new.write_text(str(os.getpid())); new.rename(here.parent / 'pid')"
    replace_in(handout / "train.py", "\n# A run", f"\n{note}; import time; time.sleep(250)\n# A run")
    with subprocess.Popen(
        [sys.executable, "-m", "calsvc.training.train", "--no-track"],
        cwd=tmp_path,
        env=os.environ | {"CALSVC_HANDOUT_DIR": "hand out"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        while not (tmp_path / "pid").exists() and command.poll() is None:
            time.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        command.send_signal(how)
        assert command.wait() == 130
        assert command.stderr.read() == "error: interrupted; what was there before is unchanged\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system for temporary files with room for a few of them."""
    folder = tmp_path / "a disk"
    folder.mkdir()
    assert mounted(folder, "size=16k")
    try:
        yield folder
    finally:
        subprocess.run([shutil.which("umount") or "umount", "-l", str(folder)], check=True)


@needs("mount")
@pytest.mark.slow
def test_a_full_disk_of_temporary_files_is_told(
    workshop: Path, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What train.py says of it reaches the person, and so does what a copy fails of."""
    monkeypatch.setenv("TMPDIR", str(disk))
    (tmp_path / "hand out").symlink_to(workshop / "hand out")
    told = run("train", "--no-track", cwd=tmp_path)
    assert told.returncode == 1
    assert told.stderr.startswith("error: hand out/train.py failed (exit code 1): ")
    assert "No space left on device" in told.stderr
    told = run("promote", cwd=workshop)
    assert told.returncode == 1
    (line,) = told.stderr.splitlines()
    assert re.fullmatch(rf"error: .* cannot be copied to {disk}/.*: \[Errno 28\] No space left on device", line)


@pytest.mark.slow
def test_a_closed_output_is_one_line(workshop: Path) -> None:
    """What was to be written is there."""
    reader, writer = os.pipe()
    os.close(reader)
    told = subprocess.run(
        [sys.executable, "-m", "calsvc.training.predict", "--out", "unread.csv"],
        cwd=workshop,
        env=os.environ | {"CALSVC_HANDOUT_DIR": "hand out"},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (told.returncode, told.stderr) == (1, "error: stdout was closed\n")
    assert (workshop / "unread.csv").is_file()


@pytest.mark.parametrize("command", ["holdout", "train", "predict"])
def test_a_missing_handout_names_the_setting(tmp_path: Path, command: str) -> None:
    """Whichever command meets it first."""
    told = run(command, cwd=tmp_path, handout="nowhere")
    assert told.returncode == 1
    assert told.stderr.startswith("error: there is no ")


def test_a_wrong_setting_exits_with_2(tmp_path: Path) -> None:
    """As the service does."""
    told = subprocess.run(
        [sys.executable, "-m", "calsvc.training.train"],
        cwd=tmp_path,
        env=os.environ | {"CALSVC_PORT": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.startswith("error: CALSVC_PORT='many'")


@pytest.mark.slow
def test_thread_caps_reach_the_training(tmp_path: Path) -> None:
    """They are set before the numeric libraries load; what the user has said stands."""
    handout = write_handout(tmp_path / "hand out")
    (handout / "train.py").write_text("import os; raise SystemExit(os.environ['OMP_NUM_THREADS'] + ' threads')")
    told = subprocess.run(
        [sys.executable, "-m", "calsvc.training.train", "--no-track"],
        cwd=tmp_path,
        env=os.environ | {"CALSVC_HANDOUT_DIR": "hand out", "OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stderr == "error: hand out/train.py failed (exit code 1): 3 threads\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["holdout", "train", "predict"])
def test_a_missing_extra_is_one_line(tmp_path: Path, trained: Trained, command: str) -> None:
    """An installation that can only serve says what to install."""
    (tmp_path / "polars.py").write_text("raise ModuleNotFoundError('no', name='polars')")
    told = subprocess.run(
        [sys.executable, "-m", f"calsvc.training.{command}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "CALSVC_HANDOUT_DIR": str(trained.handout)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = "error: this command needs the module polars: uv sync --extra train\n"
    assert (told.returncode, told.stderr) == (1, expected)
