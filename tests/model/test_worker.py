"""The worker process that answers with the handout's own code."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio
import pytest
from msgspec.structs import replace

from calsvc.handout.form import fingerprint
from calsvc.http.errors import BundleError, HandoutError, ScoringError
from calsvc.http.schema import Workout
from calsvc.model.bundle import ARTEFACT, Bundle
from calsvc.model.scorer import open_scorer, prove
from calsvc.model.worker import Patience, ReferenceScorer
from calsvc.training.export import Draft
from calsvc.training.publish import publish
from tests.handouts import write_handout
from tests.making import Trained

pytestmark = pytest.mark.anyio
PERSISTENT = Patience(start=60, row=60, attempts=2, pause=0, rest=60)  # a busy machine must not look like a dead worker
HASTY = PERSISTENT._replace(row=0.3)
ROW = Workout(id=1, Sex="F", Age=41.0, Height=174.0, Weight=75.0, Duration=15.0, Heart_Rate=95.0, Body_Temp=40.0)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the service."""
    return "asyncio"


@pytest.fixture
def bundle(reference_draft: Draft, tmp_path: Path) -> Bundle:
    """A bundle of the engine reference, in a folder with a space."""
    return publish(reference_draft.manifest, reference_draft.files, tmp_path / "my models" / "bundle")


@asynccontextmanager
async def worker(bundle: Bundle, handout: Path, patience: Patience = Patience()) -> AsyncIterator[ReferenceScorer]:  # noqa: B008 - immutable
    """Yield an open worker and close it."""
    scorer = await ReferenceScorer.open(bundle, handout, patience)
    try:
        yield scorer
    finally:
        await scorer.aclose()


class MakeBundle(Protocol):
    """Make a handout whose predict is the given Python, and a bundle that names it."""

    def __call__(self, body: str, imports: str = "os, signal, time") -> tuple[Bundle, Path]:
        """Return the bundle and the handout; the artefact is pickled before `imports` become what they are."""


@pytest.fixture
def make_bundle(tmp_path: Path, reference_draft: Draft) -> MakeBundle:
    """Build handouts that do one thing."""
    artefact = tmp_path / "made.joblib"
    pickle = (
        "import joblib, sys; sys.path.insert(0, sys.argv[1]); import model; joblib.dump(model.Model(), sys.argv[2])"
    )

    def make(body: str, imports: str = "os, signal, time") -> tuple[Bundle, Path]:
        handout = write_handout(tmp_path / "hand out")
        code = f"\nclass Model:\n    def predict(self, frame):\n        {body}\n"
        (handout / "model.py").write_text(code)
        subprocess.run([sys.executable, "-B", "-c", pickle, handout, artefact], check=True)
        (handout / "model.py").write_text(f"import {imports}\n{code}")
        manifest = replace(reference_draft.manifest, handout_sha256=fingerprint(handout))
        files = reference_draft.files | {ARTEFACT: artefact.read_bytes()}
        return publish(manifest, files, tmp_path / "bundle"), handout

    return make


async def test_it_says_exactly_what_the_handout_says(bundle: Bundle, trained: Trained) -> None:
    """The parity sample holds without any difference, and the handout stays as it was."""
    before = sorted(trained.handout.rglob("*"))
    scorer = await open_scorer(bundle, trained.settings)
    try:
        outcome = await prove(scorer, bundle.parity_sample())
        assert (scorer.engine, outcome.max_relative_difference) == ("reference", 0.0)
    finally:
        await scorer.aclose()
    assert sorted(trained.handout.rglob("*")) == before


@pytest.mark.slow
async def test_concurrent_records_get_their_own_answers(bundle: Bundle, trained: Trained) -> None:
    """Records take turns; none gets another's number."""
    sample = bundle.parity_sample()
    answers = [0.0] * len(sample.rows)
    async with worker(bundle, trained.handout) as scorer, anyio.create_task_group() as tasks:

        async def ask(position: int) -> None:
            answers[position] = await scorer.score(sample.rows[position])

        for position in range(len(sample.rows)):
            tasks.start_soon(ask, position)
    assert answers == sample.predictions


@pytest.mark.slow
async def test_a_killed_worker_is_restarted(bundle: Bundle, trained: Trained) -> None:
    """The record that finds it dead is answered by the next one."""
    sample = bundle.parity_sample()
    async with worker(bundle, trained.handout) as scorer:
        first = scorer.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert await scorer.score(sample.rows[0]) == sample.predictions[0]
        assert scorer.pid not in (None, first)


@pytest.mark.slow
async def test_a_cancelled_record_does_not_shift_the_answers(bundle: Bundle, trained: Trained) -> None:
    """Its answer comes after nobody waits for it any more, and goes to nobody."""
    sample = bundle.parity_sample()
    async with worker(bundle, trained.handout) as scorer:
        first = scorer.pid
        for _ in range(3):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(scorer.score, sample.rows[0])
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
        assert await scorer.score(sample.rows[1]) == sample.predictions[1]
        assert scorer.pid == first


@pytest.mark.slow
async def test_closing_ends_the_process(bundle: Bundle, trained: Trained) -> None:
    """No worker outlives its scorer."""
    async with worker(bundle, trained.handout) as scorer:
        pid = scorer.pid
        assert pid is not None
    assert scorer.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
async def test_it_ends_with_its_parent(bundle: Bundle, trained: Trained) -> None:
    """A service that is killed leaves no worker behind: the closed stdin is enough."""
    command = [sys.executable, "-B", "-m", "calsvc.model.reference"]
    command += ["--handout", str(trained.handout), "--artefact", str(bundle.folder / ARTEFACT)]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.receive() == b'{"ready":true}\n'
        await process.stdin.aclose()
        with anyio.fail_after(20):
            assert await process.wait() == 0


async def test_what_the_handout_prints_does_not_disturb(make_bundle: MakeBundle) -> None:
    """Neither Python's print nor what a C library writes to file descriptor 1."""
    loud = "print('{\"n\": 1, \"kcal\": 5.0}', flush=True); os.write(1, b'noise\\n'); return [len(os.listdir()) + 42.5]"
    bundle, handout = make_bundle(loud)
    async with worker(bundle, handout) as scorer:
        assert await scorer.score(ROW) == 42.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "patience", "told"),
    [
        ("raise KeyError('Steps')", PERSISTENT, r"fails on one row: KeyError: 'Steps'"),
        ("return [float('nan')]", PERSISTENT, "gives nan"),
        ("return [1.0, 2.0]", PERSISTENT, "fails on one row: ValueError"),
        ("time.sleep(60)", HASTY, "took longer than 0.3 s"),
        ("os.kill(os.getpid(), signal.SIGKILL)", PERSISTENT, "died 2 times: it ended without an answer"),
    ],
)
async def test_a_record_without_an_answer_is_one_error(
    make_bundle: MakeBundle, body: str, patience: Patience, told: str
) -> None:
    """Raised, not finite, of the wrong shape, too slow, or deadly."""
    bundle, handout = make_bundle(body)
    async with worker(bundle, handout, patience) as scorer:
        with pytest.raises(ScoringError, match=told):
            await scorer.score(ROW)


async def test_after_giving_up_records_are_refused_at_once(
    make_bundle: MakeBundle,
) -> None:
    """They do not queue for another round of restarts."""
    bundle, handout = make_bundle("os._exit(3)")
    async with worker(bundle, handout, PERSISTENT) as scorer:
        with pytest.raises(ScoringError, match="died 2 times"):
            await scorer.score(ROW)
        with pytest.raises(ScoringError, match="trying again in a few seconds"):
            await scorer.score(ROW)


async def test_a_handout_that_cannot_be_imported_is_one_error(
    make_bundle: MakeBundle,
) -> None:
    """What is missing is named at the start, not at the first record."""
    bundle, handout = make_bundle("pass", imports="a_module_that_nobody_has")
    with pytest.raises(BundleError, match=r"cannot start: .*needs the module a_module_that_nobody_has"):
        await ReferenceScorer.open(bundle, handout)


async def test_another_handout_is_not_asked(bundle: Bundle, tmp_path: Path) -> None:
    """The artefact needs the code that it was made with."""
    with pytest.raises(BundleError, match="made from another handout"):
        await ReferenceScorer.open(bundle, write_handout(tmp_path / "other", seed=2))


async def test_a_missing_handout_is_named(bundle: Bundle, tmp_path: Path) -> None:
    """With the setting that says where it is."""
    with pytest.raises(HandoutError, match="CALSVC_HANDOUT_DIR"):
        await ReferenceScorer.open(bundle, tmp_path / "gone")
