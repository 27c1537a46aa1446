"""Everything that can stop a run before it has done its work, on one page. All of them mean exit code 1."""


class SimulatorError(Exception):
    """Base of all errors whose message is meant for the person who has to act on it."""


class SettingError(SimulatorError):
    """An environment variable holds what cannot be used; the message names it and what is accepted."""


class DataError(SimulatorError):
    """The rows to replay are missing or not usable; the message names file, row and column."""


class JournalError(SimulatorError):
    """The journal of owed truths cannot be opened, read or written."""


class JournalLocked(JournalError):
    """Another simulator works on the same journal."""


class OutputError(SimulatorError):
    """A file that was asked for (the record, the report) cannot be written."""


class ReportError(SimulatorError):
    """What should be the report of a load test is none."""


class ClusterError(SimulatorError):
    """The cluster cannot be asked, refuses, or lacks what is needed; the message says what to do."""


class DemoFailed(SimulatorError):
    """A step of the demonstration did not end well."""
