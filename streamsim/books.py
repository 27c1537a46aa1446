"""Where a run writes down what happens."""

from typing import NamedTuple

from streamsim.journal import Journal
from streamsim.record import Recorder
from streamsim.tally import Tally


class Books(NamedTuple):
    """What is owed, what was answered, and how much of everything."""

    journal: Journal
    recorder: Recorder
    tally: Tally
