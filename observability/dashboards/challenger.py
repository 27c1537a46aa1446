"""Champion against challenger, for the dashboard Model quality: sums over the records that both have answered."""

from typing import Final

from observability import signals
from observability.dashboards.boards import Limit, Panel, Query, Section
from observability.dashboards.promql import of, rate, total

PAIR: Final = ("champion_version", "challenger_version")
NAMED: Final = "{{challenger_version}} against {{champion_version}}"
NO_CHALLENGER: Final = "no version has the alias challenger, or none of its records has a truth yet"
NO_CHECKS: Final = "CALSVC_MODEL is a directory that has not changed, and no alias"
MARGIN: Final = 1.02**2 - 1
"""The margin of `just promote`, 2 % of RMSLE, as a share of the mean squared log error."""
Z: Final = 1.959964
"""The normal distribution's quantile for 95 %."""

RECORDS: Final = total(of(signals.QUALITY_PAIRED), *PAIR)


def squared_error(role: str) -> str:
    """Sum of one role's squared log errors, for each pair of versions."""
    return total(of(signals.QUALITY_PAIRED_SQUARED_LOG_ERROR, f'role="{role}"'), *PAIR)


def difference() -> str:
    """Mean of (challenger's squared log error - champion's): below 0 the challenger is better."""
    return f"({squared_error('challenger')} - {squared_error('champion')}) / {RECORDS}"


def half_interval() -> str:
    """Half of the 95 % interval of that mean, with the unbiased variance of the differences."""
    spread = total(of(signals.QUALITY_PAIRED_SQUARED_DIFFERENCE), *PAIR)
    return f"{Z} * sqrt(clamp_min({spread} / {RECORDS} - ({difference()}) ^ 2, 0) / ({RECORDS} - 1 > 0))"


def relative(expr: str) -> str:
    """As a share of the champion's mean squared log error."""
    return f"({expr}) / ({squared_error('champion')} / {RECORDS})"


CHALLENGER: Final = Section(
    "Champion against challenger",
    (
        Panel(
            "Is the challenger better?",
            "Difference of the mean squared log errors as a share of the champion's, with its 95 % interval by the "
            "normal distribution, over all records that both have answered since the replicas started. Below 0 the "
            "challenger is better; an interval across 0 cannot tell. The line is the margin of `just promote "
            "--on-live`: the upper end has to be below it. Normal: an interval that narrows.",
            "percentunit",
            (
                Query(relative(f"{difference()} + {half_interval()}"), f"upper end, {NAMED}", empty=NO_CHALLENGER),
                Query(relative(difference()), f"difference, {NAMED}", empty=NO_CHALLENGER),
                Query(relative(f"{difference()} - {half_interval()}"), f"lower end, {NAMED}", empty=NO_CHALLENGER),
            ),
            width=12,
            no_data="No challenger, or no truth for it yet",
            limit=Limit(round(MARGIN, 4)),
        ),
        Panel(
            "RMSLE on the same records",
            "Of both roles, over the records that both have answered since the replicas started: unlike the charts "
            "above, a fair comparison. Normal: two flat lines.",
            "short",
            tuple(
                Query(f"sqrt({squared_error(role)} / {RECORDS})", f"{role}, {NAMED}", empty=NO_CHALLENGER)
                for role in ("champion", "challenger")
            ),
            width=6,
            no_data="No challenger, or no truth for it yet",
        ),
        Panel(
            "Records compared",
            "Those that both have answered and whose truth has come, since the replicas started. Normal: rises. The "
            "line: 200, from where on `just promote --on-live` decides.",
            "short",
            (Query(RECORDS, NAMED, empty=NO_CHALLENGER),),
            width=6,
            no_data="No challenger, or no truth for it yet",
            limit=Limit(200, "below"),
        ),
        Panel(
            "Records offered to the challenger",
            "After their answer went out. shed: left out to protect the service. failed: no number. Normal: no shed, "
            "no failed.",
            "reqps",
            (Query(total(rate(of(signals.SHADOW)), "outcome"), "{{outcome}}"),),
            width=12,
            no_data="No challenger",
            stacked=True,
        ),
        Panel(
            "Looks at the source of the model",
            "unchanged: the alias points where it did. swapped: a new model serves. rejected: it was broken, the old "
            "one stays. unreachable: the registry is down. removed: no challenger any more. Normal: unchanged.",
            "ops",
            (Query(total(rate(of(signals.MODEL_CHECKS)), "role", "outcome"), "{{role}} {{outcome}}", empty=NO_CHECKS),),
            width=12,
            no_data="The model is a directory, not an alias",
        ),
    ),
)
