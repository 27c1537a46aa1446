"""The demonstration's parts, against the real service on a real port."""

from pathlib import Path

import pytest

from streamsim.errors import DemoFailed
from streamsim.service import fetch, started_service
from tests.conftest import Workshop, run_module
from tests.service_process import service_process


def test_the_service_and_the_record_agree(workshop: Workshop, tmp_path: Path):
    """Two seconds of stream, truth five seconds later: every number of the service is the offline one."""
    environ = {**workshop.environ(), "CALSVC_FEEDBACK_DELAY": "5"}
    with service_process(tmp_path, environ) as service:
        ended = run_module(workshop.folder, "streamsim", "demo", "--url", service.url, "--duration", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "40 = 40 matched" in ended.stdout
    assert "All numbers agree." in ended.stdout


@pytest.mark.slow
def test_a_service_of_its_own_is_stopped_whatever_happens(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is ready inside the block, and gone after an interrupt of it."""
    monkeypatch.chdir(workshop.folder)
    urls = []

    def interrupted() -> None:
        with started_service(tmp_path / "log", workshop.environ()) as url:
            urls.append(url)
            assert fetch(f"{url}/readyz")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(DemoFailed, match="refused"):
        fetch(f"{urls[0]}/readyz")


def test_a_service_that_does_not_start_shows_its_log(tmp_path: Path):
    """The end of the log is in the error."""
    with (
        pytest.raises(DemoFailed, match=r"the service ended with status 2(.|\n)*CALSVC_FEEDBACK_DELAY"),
        started_service(tmp_path / "log", {"CALSVC_FEEDBACK_DELAY": "late"}),
    ):
        pass


def test_a_demo_without_its_service_or_rows_says_so(tmp_path: Path):
    """Exit code 1 and one line."""
    ended = run_module(tmp_path, "streamsim", "demo", "--url", "http://127.0.0.1:1")
    assert (ended.returncode, ended.stderr.splitlines()[-1:]) == (
        1,
        ["streamsim: data/holdout/stream.csv: no such file; run: just holdout"],
    )
