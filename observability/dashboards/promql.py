"""PromQL in small pieces: declared metrics in, expressions out."""

from typing import Final, Literal

from observability.dashboards.boards import Query, Variable
from observability.signals import MODEL_INFO, PREDICTIONS, REQUEST_DURATION, Metric

CALLS: Final = 'http_route=~"/predict|/feedback"'
"""What callers are promised something of; the live page holds connections open for minutes."""
ANSWERED: Final = 'http_response_status_code!~"5.."'
"""Without failures: a refusal takes no time, and thousands of them would make the service look fast."""
Part = Literal["", "_bucket", "_count", "_sum"]
SIMULATORS: Final = 'instance=~"$simulator"'
HERE: Final = ('job=~"$job"', 'instance=~"$instance"')
OF_MODEL: Final = ('model_version=~"$model_version"', 'role=~"$role"')
VERSION: Final = 'model_version=~"$model_version"'
CHAMPION: Final = 'role="champion"'

JOB: Final = Variable("job", "Job", f"label_values({MODEL_INFO.exposed}, job)", every="")
"""Not any job: Prometheus scrapes the simulator, the collector and itself as well."""
INSTANCE: Final = Variable("instance", "Replica", f'label_values({MODEL_INFO.exposed}{{job=~"$job"}}, instance)')
MODEL_VERSION: Final = Variable(
    "model_version", "Model version", f'label_values({PREDICTIONS.exposed}{{job=~"$job"}}, model_version)'
)
ROLE: Final = Variable("role", "Role", f'label_values({PREDICTIONS.exposed}{{job=~"$job"}}, role)')


def of(metric: Metric | str, *matchers: str, part: Part = "") -> str:
    """Select series of a metric, or of one that this project does not declare, from the chosen replicas."""
    return f"{_name(metric)}{part}{{{', '.join((*HERE, *matchers))}}}"


def sent_by(metric: Metric | str, *matchers: str, part: Part = "") -> str:
    """Select series from the chosen simulators."""
    return f"{_name(metric)}{part}{{{', '.join((SIMULATORS, *matchers))}}}"


def _name(metric: Metric | str) -> str:
    return metric if isinstance(metric, str) else metric.exposed


def recorded(rule: str, *matchers: str) -> str:
    """Select what a recording rule has made of all replicas."""
    return f"{rule}{{{', '.join(matchers)}}}" if matchers else rule


def rate(selector: str) -> str:
    """Per second, over the shortest time for which that makes sense."""
    return f"rate({selector}[$__rate_interval])"


def total(expr: str, *by: str) -> str:
    """Add up, for each value of the labels `by`."""
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def highest(expr: str) -> str:
    """Take the highest value: of what every replica tells of all."""
    return f"max({expr})"


def with_route(expr: str) -> str:
    """Give the series of paths that do not exist a route that can be read: theirs is empty."""
    return f'label_replace({expr}, "http_route", "(no such path)", "http_route", "")'


def quantile(share: float, metric: Metric, *matchers: str) -> str:
    """Estimate a quantile from a histogram; no series, instead of NaN, where nothing happened."""
    return quantile_of(share, of(metric, *matchers, part="_bucket"))


def quantile_of(share: float, buckets: str) -> str:
    """Estimate it from the selected buckets."""
    return f"histogram_quantile({share:g}, {total(rate(buckets), 'le')}) >= 0"


def quantiles(metric: Metric, *matchers: str, exemplars: bool = False) -> tuple[Query, ...]:
    """Median, p95 and p99, the last with exemplars if there are any: once is enough."""
    return (
        Query(quantile(0.5, metric, *matchers), "p50"),
        Query(quantile(0.95, metric, *matchers), "p95"),
        Query(quantile(0.99, metric, *matchers), "p99", exemplars=exemplars),
    )


def heatmap(metric: Metric, *matchers: str, exemplars: bool = False) -> Query:
    """How many values fell into which bucket, at which time."""
    counted = f"increase({of(metric, *matchers, part='_bucket')}[$__rate_interval])"
    return Query(total(counted, "le"), "{{le}}", exemplars=exemplars)


def requests(*matchers: str) -> str:
    """Count requests per second."""
    return rate(of(REQUEST_DURATION, *matchers, part="_count"))
