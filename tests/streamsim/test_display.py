"""What a person sees fits 80 columns, adds up, and needs no terminal."""

import io

from rich.console import Console

from streamsim.answers import Cause
from streamsim.display import LineScreen, LiveScreen, progress_line, progress_rows, screen_for, sent_rate, show_summary
from streamsim.summary import Progress, Summary
from streamsim.tally import Tally


def busy_tally() -> Tally:
    """Large numbers of everything."""
    tally = Tally(planned=1_000_000, in_flight=0, interrupted=3, resumed=144_000)
    tally.causes.update({Cause.OK: 999_000, Cause.TIMEOUT: 400, Cause.HTTP_503: 500, Cause.NOT_SENT: 97})
    tally.delivered.update({"matched": 1_100_000, "duplicate": 1, "unknown": 2})
    tally.prediction_retries.update({Cause.REFUSED: 200_000, Cause.TIMEOUT: 30_000, Cause.HTTP_503: 4_000})
    tally.retries.update({Cause.REFUSED: 12_345})
    tally.given_up.update({Cause.REFUSED: 2_000, Cause.HTTP_503: 1_000})
    for lateness in (0.001, 1.234, 59.9):
        tally.from_planned.record(lateness)
    return tally


def printed(*, terminal: bool, **options: bool) -> str:
    """The summary of a busy run, 80 columns wide."""
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, **options)
    tally = busy_tally()
    show_summary(console, Summary(0.0, 7200.0, True, 5, 40_000, tally.totals(resent=7), tally.timings()))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_lets_the_reader_add_up():
    """Sent is acknowledged plus errors; truths taken on are delivered plus owed plus given up."""
    text = printed(terminal=False)
    assert "999903 = 999000 acknowledged + 400 timeout + 500 http_503 + 3 cut off" in text
    assert "1143003 = 999000 acknowledged + 144000 resumed + 3 cut off" in text
    assert "= 1100003 delivered + 40000 owed + 3000 given up" in text
    assert "2000 refused, 1000 http_503" in text
    assert "1000000 = 999903 sent + 97 not sent" in text
    assert "200000 refused, 30000 timeout, 4000 http_503" in text


def test_the_summary_fits_80_columns_with_and_without_a_terminal():
    """Boxed on a terminal, plain ASCII elsewhere."""
    plain, boxed = printed(terminal=False), printed(terminal=True, no_color=True)
    assert plain.isascii()
    assert "─" in boxed
    assert all(len(line) <= 80 for line in boxed.splitlines() if "\x1b" not in line)


def test_progress_is_one_line_or_one_block():
    """Both name the rates, the latency, what is owed and the errors."""
    tally = busy_tally()
    before = Progress(10.0, 20.0, 0.0, Tally().totals(0), tally.timings())
    now = Progress(12.0, 0.0, 17.6, tally.totals(0), tally.timings())
    line = progress_line(now, sent_rate(before, now))
    assert line.startswith("12s planned=0/s sent=499951.5/s in_flight=0 p50=1234.")
    assert line.endswith("acknowledged=999000 retried=234000 owed=40000 delivered=1100003 given_up=3000 errors=997")
    rows = dict(progress_rows(now, 20.0))
    assert rows["elapsed"] == "12 s, next burst in 18 s"
    assert rows["predictions tried again"] == "200000 refused, 30000 timeout, 4000 http_503"
    assert rows["truths"] == "40000 owed, 1100003 delivered, 3000 given up"
    assert rows["errors"] == "400 timeout, 500 http_503, 97 not_sent"


def test_the_output_decides_the_display():
    """A terminal gets the live block, a file gets lines."""
    assert isinstance(screen_for(Console(force_terminal=True)), LiveScreen)
    assert isinstance(screen_for(Console(file=io.StringIO())), LineScreen)
