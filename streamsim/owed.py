"""An owed truth, and the tables in which they stand: how the formats of earlier versions become these."""

from typing import Final, NamedTuple

FORMAT: Final = 3
_OWED: Final = """
CREATE TABLE owed (
    row INTEGER PRIMARY KEY,
    id_json TEXT NOT NULL,
    truth REAL NOT NULL,        -- kcal
    predicted REAL,             -- kcal; NULL until the prediction is acknowledged
    at REAL NOT NULL,           -- epoch seconds: sent, later acknowledged
    due REAL NOT NULL,          -- epoch seconds
    attempts INTEGER NOT NULL DEFAULT 0,
    span TEXT                   -- trace and span id of a traced prediction, in hexadecimal
) STRICT
"""
_CALENDAR: Final = """
CREATE TABLE calendar (         -- one row: what the times of all others are counted by
    boot TEXT NOT NULL,         -- which start of the machine
    ahead REAL NOT NULL         -- epoch seconds less those of its monotonic clock
) STRICT
"""
STEPS: Final = {0: (_OWED, _CALENDAR), 1: ("ALTER TABLE owed ADD COLUMN span TEXT", _CALENDAR), 2: (_CALENDAR,)}
"""What makes a format into this one; 0 is a file without anything."""


class Owed(NamedTuple):
    """One owed truth. Times are epoch seconds by the journal's calendar; `predicted` is None when not acknowledged."""

    row: int
    id_json: str
    truth: float
    predicted: float | None
    at: float
    due: float
    attempts: int
    span: str | None = None
    """The prediction's span, where it was traced; see `streamsim.answers.Identity.reference`."""
