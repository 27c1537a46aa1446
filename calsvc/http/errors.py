"""Everything that can go wrong in the domain, on one page. `problems.py` alone decides which HTTP status it becomes."""


class CalsvcError(Exception):
    """Base of all errors that carry a message meant for the person who has to act on it."""


# --- starting ---------------------------------------------------------------------------------------------------------


class SettingsError(CalsvcError):
    """An environment variable holds a value that cannot be used."""

    def __init__(self, key: str, value: str, expected: str) -> None:
        super().__init__(f"{key}={value!r}: expected {expected}")


class UnknownSetting(SettingsError):
    """An environment variable has the prefix of the settings, and none has its name."""

    def __init__(self, key: str, advice: str) -> None:
        CalsvcError.__init__(self, f"{key} is no setting; {advice}")


class HandoutError(CalsvcError):
    """The handout cannot be trained: a file, a column or a value is not as its form demands."""


class ExportError(CalsvcError):
    """The trained artefact cannot become a bundle that scores without the handout."""


class UnknownFeatures(ExportError):
    """The booster wants features that `model/features.py` has no formula for."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"features unknown to calsvc/model/features.py: {', '.join(names)}; add their formulas there, "
            "or serve the handout's own code, slower, with: just train --engine reference"
        )
        self.names = names


class ParityMissed(ExportError):
    """The fast scorer does not say what the handout's own `predict` says."""


class BundleError(CalsvcError):
    """A bundle is missing, incomplete, altered or of another format."""


class RegistryError(CalsvcError):
    """The model registry is out of reach, does not answer as it should, or has no such version."""


class PromotionRefused(CalsvcError):
    """The gate keeps a version from becoming champion; the message holds the numbers."""


class StoreError(CalsvcError):
    """The store that predictions wait in cannot be used."""


class PartFailed(CalsvcError):
    """Something that works behind the requests has met what nobody foresaw: a process without it must not go on."""

    def __init__(self, cause: BaseException) -> None:
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        super().__init__(f"a part of the service has failed, and the process ends: {cause!r}; the log shows where")


class ScoringError(CalsvcError):
    """The model gave no usable number for a valid record."""


# --- one request ------------------------------------------------------------------------------------------------------


class NotJson(CalsvcError):
    """The body is not a JSON text in UTF-8."""


class BodyTooLarge(CalsvcError):
    """The body is longer than the service reads."""


class Unauthorized(CalsvcError):
    """The request does not carry the token that the service was told to ask for."""


class WrongMediaType(CalsvcError):
    """The body does not claim to be JSON."""


class UpgradeIgnored(CalsvcError):
    """The request asks for another protocol, and the HTTP server gives no body of such a request."""


class InvalidInput(CalsvcError):
    """A field is missing, of the wrong type, or implausible. `field` is its JSON path, `$.Age` for example."""

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class UnknownId(CalsvcError):
    """Feedback for a record that was never predicted, or was forgotten after the retention time."""


class TruthConflict(CalsvcError):
    """Another truth already stands for this record; the first one stays."""


class StoreUnavailable(CalsvcError):
    """Nobody can say at the moment whether a prediction waits for this truth; it should be sent again."""


# --- the service itself -----------------------------------------------------------------------------------------------


class NotReady(CalsvcError):
    """The service is starting or has stopped answering."""


class Overloaded(CalsvcError):
    """More requests are in flight than the service accepts."""
