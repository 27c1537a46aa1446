"""The form of a handout, and running its train.py."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from calsvc.handout.form import check_handout, fingerprint, snapshot
from calsvc.handout.running import TrainedArtefact, run_training
from calsvc.http.errors import HandoutError
from tests.handouts import write_handout

IDLE = """
import argparse, json, os, sys
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("data-dir", "config", "out", "metrics"):
    parser.add_argument("--" + name, type=Path)
args = parser.parse_args()
here = Path(__file__).parent
DO
"""
"""A train.py that only does what a test is about, without the seconds that a training takes."""
GOOD = 'args.out.write_bytes(b\'model\'); args.metrics.write_text(\'{"valid_rmsle": 0.5, "note": "mine", "ok": true}\')'


@pytest.fixture
def handout(tmp_path: Path) -> Path:
    """A handout whose path is not ASCII and has a space."""
    return write_handout(tmp_path / "von der Kollegin ä")


def trained(handout: Path, does: str, on_line: Callable[[str], None] = lambda _: None) -> TrainedArtefact:
    """Run a train.py that does the given Python."""
    (handout / "train.py").write_text(IDLE.replace("DO", does))
    out = handout.parent / "out put"
    out.mkdir(exist_ok=True)
    return run_training(handout, handout / "data_sample", out, on_line)


def test_training_gives_the_artefact_and_the_numbers(handout: Path) -> None:
    """Of the metrics, what is a number."""
    artefact = trained(handout, GOOD)
    assert artefact.file.read_bytes() == b"model"
    assert artefact.metrics == {"valid_rmsle": 0.5}


def test_paths_are_absolute_and_the_working_directory_is_elsewhere(
    handout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A train.py that writes to a relative path does no harm, and relative settings work."""
    monkeypatch.chdir(handout.parent)
    does = "Path('debris').write_text('x'); assert all(each.is_absolute() for each in vars(args).values())\n" + GOOD
    trained(Path(handout.name), does)
    assert sorted(each.name for each in handout.parent.iterdir()) == ["out put", handout.name]


def test_each_line_is_passed_on_as_it_comes(handout: Path) -> None:
    """The progress display shows the last one."""
    (handout / "train.py").write_text(IDLE.replace("DO", "print('one'); print('zwei ü', flush=True)\n" + GOOD))
    lines: list[str] = []
    (handout.parent / "out").mkdir()
    run_training(handout, handout / "data_sample", handout.parent / "out", lines.append)
    assert lines == ["one", "zwei ü"]


def test_no_bytecode_is_left_even_by_a_child_process(handout: Path) -> None:
    """Which inherits the environment but not the options of the interpreter."""
    trained(handout, "import subprocess; subprocess.run([sys.executable, '-c', 'import predict'], cwd=here)\n" + GOOD)
    assert not list(handout.rglob("__pycache__"))


LEFT = {
    "a child": "start_new_session=False",
    "a child in another process group": "process_group=0",
    "a daemon": "start_new_session=True",
    "a child without environment": "env={}",
    "a child that goes on talking": "start_new_session=True",
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_train_py_leaves_is_not_waited_for_and_ended(handout: Path, kind: str) -> None:
    """A child that keeps stdout open, whichever session it is in; the lines before the end are all there."""
    code = "while True: print('chatter', flush=True)" if "talking" in kind else "import time; time.sleep(250)"
    child = f"subprocess.Popen([sys.executable, '-c', {code!r}], {LEFT[kind]})"
    does = f"import subprocess; child = {child}; (args.out.parent / 'pid').write_text(str(child.pid))"
    lines: list[str] = []
    trained(handout, f"{GOOD}\nprint('x' * 50_000)\n{does}\nprint('last', end='')", lines.append)
    pid = int((handout.parent / "out put" / "pid").read_text())
    assert lines[0] == "x" * 50_000
    assert "last" in "".join(lines)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Tell whether a process is neither gone nor dead."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


def test_what_is_about_to_end_is_not_killed(handout: Path) -> None:
    """Such as the trackers of multiprocessing and joblib, which clean up after the process has ended."""
    code = "import sys, time, pathlib; time.sleep(0.3); pathlib.Path(sys.argv[1]).touch()"
    child = f"subprocess.Popen([sys.executable, '-c', {code!r}, args.out.parent / 'cleaned'])"
    trained(handout, f"import subprocess; child = {child}\n{GOOD}")
    assert (handout.parent / "out put" / "cleaned").exists()


def test_a_display_that_fails_ends_the_training(handout: Path) -> None:
    """As Ctrl-C does, which reaches only this process: train.py is in a session of its own."""

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt) as caught:
        trained(handout, "import time; print(os.getpid(), flush=True); time.sleep(250)", interrupted)
    assert not is_running(int(str(caught.value)))


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("raise SystemExit(3)", r"train\.py failed \(exit code 3\): it wrote nothing to stderr"),
        ("print('a\\nb', file=sys.stderr); sys.exit(1)", r"failed \(exit code 1\): a \| b"),
        ("raise ValueError('no such column')", r"Traceback.*ValueError: no such column"),
        ("os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("pass", "left no artefact at its --out"),
        ("args.out.write_bytes(b'')", "left no artefact at its --out"),
        ("args.out.write_bytes(b'm')", "left no metrics at its --metrics"),
        ("args.out.write_bytes(b'm'); args.metrics.write_text('rmsle=1')", "left metrics that are not JSON"),
        ("args.out.write_bytes(b'm'); args.metrics.write_text('[1]')", "metrics that are not a JSON object"),
        (
            "args.out.write_bytes(b'm'); args.metrics.write_text('{\"a\": NaN}')",
            "reports a = nan: the training has failed",
        ),
        ("(here / 'train.log').write_text('x')\n" + GOOD, "wrote train.log in its own folder"),
        ("(here / 'cache').mkdir(); (here / 'cache' / 'x').write_text('x')\n" + GOOD, "wrote cache/x in its own"),
        ("(here / 'README.md').write_text('x')\n" + GOOD, "changed README.md .* or another program did meanwhile"),
        ("(here / 'README.md').write_text('x')\n" + GOOD, r"changed README\.md in its own folder"),
        ("(here / 'README.md').unlink()\n" + GOOD, r"removed README\.md in its own folder"),
    ],
)
def test_a_training_that_went_wrong_is_one_line(handout: Path, does: str, told: str) -> None:
    """Which file, what, and the last words of train.py."""
    with pytest.raises(HandoutError, match=told) as caught:
        trained(handout, does)
    assert str(handout / "train.py") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["train.py", "model.py", "config.yaml", "data_sample/train.csv"])
def test_an_incomplete_handout_names_the_file(handout: Path, name: str) -> None:
    """And what a handout holds."""
    (handout / name).unlink()
    with pytest.raises(HandoutError, match=f"{name} is missing: a handout holds train.py, model.py"):
        check_handout(handout)


LEFT_BY_OTHERS = [
    ".~lock.train.csv#", "~$train.csv", ".#train.csv", "#train.csv#", "train.csv~", ".train.csv.swp", ".DS_Store",
    "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/train-checkpoint.ipynb", "__pycache__/model.cpython-311.pyc",
    "~WRL0001.tmp", ".nfs000001", ".sync/lock", "rows.csv.part",
]  # fmt: skip


@pytest.mark.parametrize("where", [".", "data_sample"])
def test_what_another_program_leaves_is_no_part_of_the_handout(handout: Path, where: str) -> None:
    """Made, changed or removed during the training: the run goes on, and the fingerprint stays."""
    first = fingerprint(handout)
    files = [handout / where / name for name in LEFT_BY_OTHERS]
    for each in files:
        each.parent.mkdir(exist_ok=True)
    for what in ("write_text('x')", "write_text('y')", "unlink()"):
        trained(handout, "\n".join([*(f"Path({str(each)!r}).{what}" for each in files), GOOD]))
    (handout / "train.py").unlink()
    write_handout(handout)
    assert fingerprint(handout) == first


def test_a_link_that_leads_nowhere_is_no_file(handout: Path) -> None:
    """Emacs locks a file by one."""
    first = fingerprint(handout)
    (handout / "data_sample" / "link.csv").symlink_to("nobody@nowhere.1234:5678")
    assert fingerprint(handout) == first


def test_files_that_come_and_go_while_they_are_looked_at_do_no_harm(handout: Path) -> None:
    """Another program renames what it has written."""
    going = threading.Event()

    def come_and_go() -> None:
        while not going.is_set():
            (handout / "coming").write_text("x")
            (handout / "coming").rename(handout / "going")
            (handout / "going").unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert all(set(snapshot(handout)) - {"coming", "going"} for _ in range(300))
    finally:
        going.set()
        thread.join()


def test_the_fingerprint_is_of_names_and_contents(handout: Path) -> None:
    """Any change of a file that counts changes it; caches and dotfiles do not count."""
    first = fingerprint(handout)
    (handout / "__pycache__").mkdir()
    (handout / "__pycache__" / "model.pyc").write_text("x")
    (handout / ".DS_Store").write_text("x")
    assert fingerprint(handout) == first
    (handout / "README.md").rename(handout / "READ.md")
    second = fingerprint(handout)
    (handout / "READ.md").write_text("")
    assert len({first, second, fingerprint(handout)}) == 3


def test_the_fingerprint_does_not_depend_on_the_place(handout: Path, tmp_path: Path) -> None:
    """The same folder elsewhere is the same handout."""
    first = fingerprint(handout)
    assert fingerprint(handout.rename(tmp_path / "elsewhere")) == first
