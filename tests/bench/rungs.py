"""The rungs of the ladder: what is run for each, and with which variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.asking import predicts
from tests.bench.processes import Program
from tests.bench.sink import TRACES

PARTIAL: Final = "tests.bench.partial"
EVERYTHING: Final = "everything"
STOCK: Final = ("objects", "histograms", "middleware")
RATIO: Final = 0.1
SAMPLED: Final = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": str(RATIO)}
UNSAMPLED: Final = {"OTEL_TRACES_SAMPLER": "always_off"}
SERVICE: Final = {
    "CALSVC_DRAIN_DELAY": "0",
    "CALSVC_HANDOUT_DIR": "no handout: the bundle is served as it is",
    "CALSVC_STORE": "memory://",
}


class Rung(NamedTuple):
    """One server. `traced` and `profiled`: to the collector of the measurement. `journal`: predictions outlive it."""

    name: str
    module: tuple[str, ...]
    environ: Mapping[str, str] = {}
    traced: bool = False
    profiled: bool = False
    journal: bool = False

    @property
    def slug(self) -> str:
        """The name as a piece of a URL."""
        return "".join(each for each in self.name if each.isalnum())

    @property
    def traces_path(self) -> str:
        """Where the collector finds this rung's spans."""
        return f"/{self.slug}{TRACES}"


LADDER: Final = (
    Rung("bare echo", ("tests.bench.echo",)),
    Rung(
        "the standard parts alone",
        ("tests.bench.alone",),
        SAMPLED | {"OTEL_SEMCONV_STABILITY_OPT_IN": "http"},
        traced=True,
    ),
    Rung("routes and schema", (PARTIAL, "scoring", "store", "metrics"), UNSAMPLED),
    Rung("+ scoring", (PARTIAL, "store", "metrics"), UNSAMPLED),
    Rung("+ store", (PARTIAL, "metrics"), UNSAMPLED, journal=True),
    Rung("+ metrics", ("calsvc",), UNSAMPLED, journal=True),
    Rung("+ traces, 10 %", (PARTIAL, "logs"), SAMPLED, traced=True, journal=True),
    Rung(EVERYTHING, ("calsvc",), SAMPLED, traced=True, journal=True),
    Rung("the same, profiled", ("calsvc",), SAMPLED, traced=True, profiled=True, journal=True),
    Rung("Starlette's request and response", (PARTIAL, "objects"), SAMPLED, traced=True, journal=True),
    Rung("OpenTelemetry's histograms", (PARTIAL, "histograms"), SAMPLED, traced=True, journal=True),
    Rung("all three at every request", (PARTIAL, *STOCK), SAMPLED, traced=True, journal=True),
)
"""The echo; the parts without the service; the service with one part more on each rung; with one of the usual parts."""


def program(rung: Rung, collector: int, model: Path | None = None, folder: Path = Path()) -> Program:
    """Return how to run a rung.

    Args:
        rung: what to run.
        collector: the port to which it sends what it has.
        model: the bundle, if another.
        folder: for its journal.
    """
    environ = {**SERVICE, **rung.environ}
    if rung.journal:
        environ["CALSVC_STORE"] = f"sqlite:///{folder / rung.slug}.db"
    if model is not None:
        environ["CALSVC_MODEL"] = str(model.resolve())
    base = f"http://127.0.0.1:{collector}/{rung.slug}"
    if rung.traced:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = base
    if rung.profiled:
        environ["PYROSCOPE_SERVER_ADDRESS"] = base
    return Program(rung.module, environ, predicts)
