"""The dashboard Model quality: what is predicted, how it compares with the truth, and how much of the truth is here."""

from typing import Final

from observability import signals
from observability.dashboards import promql
from observability.dashboards.boards import KCAL, Board, Limit, Panel, Query, Section
from observability.dashboards.challenger import CHALLENGER
from observability.dashboards.promql import CHAMPION, OF_MODEL, VERSION, highest, of, rate, recorded, total

NO_LABELS: Final = "No label came in the last five minutes"
NOT_YET: Final = "no label is due yet: that takes five minutes from the first prediction"
NO_FIGURE: Final = "the handout reported no valid_rmsle"
MATURED: Final = 'basis="matured"'

TRAINING: Final = f"max by (model_version, role) ({of(signals.TRAINING_RMSLE, *OF_MODEL)})"
AGAINST_TRAINING: Final = (
    f"{recorded('calsvc:rmsle:5m', CHAMPION, VERSION)} / on (model_version, role) group_left ()"
    f" max by (model_version, role) ({of(signals.TRAINING_RMSLE, CHAMPION, VERSION)})"
)

GLANCE: Final = Section(
    "The champion at a glance, all replicas, last five minutes",
    (
        Panel(
            "RMSLE",
            "Root mean squared log error over the labels of five minutes. About 0.06 is an error of 6 %. "
            "Normal: what training found, give or take a tenth.",
            "short",
            (Query(recorded("calsvc:rmsle:5m", CHAMPION, VERSION), "{{model_version}}"),),
            kind="stat",
            width=4,
            no_data=NO_LABELS,
            alerts=("CalsvcModelErrorHigh",),
        ),
        Panel(
            "RMSLE against training",
            "1 is what training found on rows it had held back. Normal: 0.9 to 1.1; from 1.25 on, with enough labels, "
            "somebody is told.",
            "short",
            (Query(AGAINST_TRAINING, "{{model_version}}", empty=NO_FIGURE),),
            kind="stat",
            width=4,
            no_data=NO_LABELS,
            limit=Limit(1.25),
            alerts=("CalsvcModelErrorHigh",),
        ),
        Panel(
            "MAE",
            "Mean of |predicted - true|. Normal: a few kcal.",
            KCAL,
            (Query(recorded("calsvc:mae_kcal:5m", CHAMPION, VERSION), "{{model_version}}"),),
            kind="stat",
            width=4,
            no_data=NO_LABELS,
        ),
        Panel(
            "Labels behind it",
            "How many records RMSLE and MAE were made of. Normal: as many as were predicted five minutes earlier. "
            "Below 200 both waver by more than a tenth.",
            "short",
            (Query(recorded("calsvc:matched:5m", CHAMPION, VERSION), "{{model_version}}"),),
            kind="stat",
            width=4,
            no_data=NO_LABELS,
            limit=Limit(200, "below"),
        ),
        Panel(
            "Labels that came when due",
            "Of the predictions whose label fell due, the share that has it. Normal: 100 %. Below, the errors are "
            "measured on a selection.",
            "percentunit",
            (Query(recorded("calsvc:coverage:5m", MATURED), "matured", empty=NOT_YET),),
            kind="stat",
            width=4,
            no_data="No label is due yet",
            limit=Limit(0.9, "below"),
            alerts=("CalsvcLabelCoverageLow",),
        ),
        Panel(
            "Waiting for truth",
            "Predictions without a label so far. Normal: what five minutes of predictions are.",
            "short",
            (Query(highest(of(signals.PENDING)), "pending"),),
            kind="stat",
            width=4,
        ),
    ),
)
PREDICTIONS: Final = Section(
    "Predictions",
    (
        Panel(
            "Predicted calories",
            "How many predictions fell where; the brighter, the more. Normal: the same picture all day. A band that "
            "moves is other people, or another model.",
            KCAL,
            (promql.heatmap(signals.PREDICTION_KCAL, VERSION),),
            kind="heatmap",
            no_data="Nothing was predicted lately",
        ),
        Panel(
            "Rolling mean",
            "Mean of the predictions of the last five minutes, as each replica sees it. Normal: flat; 80 to 100 kcal "
            "with the sample's people.",
            KCAL,
            (Query(of(signals.ROLLING_MEAN, VERSION), "{{model_version}} {{instance}}"),),
            no_data="Nothing was predicted in the last five minutes",
        ),
        Panel(
            "Predictions by version and role",
            "Answers of the champion, and what the challenger would have said. Normal: both alike, where there is a "
            "challenger.",
            "reqps",
            (
                Query(
                    total(rate(of(signals.PREDICTIONS, *OF_MODEL)), "role", "model_version"),
                    "{{role}} {{model_version}}",
                ),
            ),
        ),
    ),
)
ERROR: Final = Section(
    "Against the truth, all replicas, over five minutes",
    (
        Panel(
            "RMSLE by role and version",
            "Root mean squared log error of the labels that came, beside the figure of training. Normal: near it. "
            "Look at the number of labels before believing a jump.",
            "short",
            (
                Query(recorded("calsvc:rmsle:5m", *OF_MODEL), "{{role}} {{model_version}}"),
                Query(TRAINING, "{{role}} {{model_version}}, in training", empty=NO_FIGURE),
            ),
            no_data=NO_LABELS,
            alerts=("CalsvcModelErrorHigh",),
        ),
        Panel(
            "MAE by role and version",
            "Mean of |predicted - true|. Normal: a few kcal. Where it rises alone, large values are off; where RMSLE "
            "rises alone, small ones.",
            KCAL,
            (Query(recorded("calsvc:mae_kcal:5m", *OF_MODEL), "{{role}} {{model_version}}"),),
            no_data=NO_LABELS,
        ),
        Panel(
            "Labels behind RMSLE and MAE",
            "Sample size of the two charts beside it. Normal: as many as were predicted five minutes earlier. The "
            "line: 200, from where on an alert believes them.",
            "short",
            (Query(recorded("calsvc:matched:5m", *OF_MODEL), "{{role}} {{model_version}}"),),
            no_data=NO_LABELS,
            limit=Limit(200, "below"),
        ),
    ),
)
FEEDBACK: Final = Section(
    "Feedback",
    (
        Panel(
            "Coverage",
            "window: labels that came / predictions made and not replaced, in five minutes; above 100 % after bursts. "
            "matured: of the predictions whose label fell due, the share that has it. Normal: matured at 100 %.",
            "percentunit",
            (
                Query(recorded("calsvc:coverage:5m", 'basis="window"'), "window"),
                Query(recorded("calsvc:coverage:5m", MATURED), "matured", empty=NOT_YET),
            ),
            no_data="Nothing was predicted in the last five minutes",
            alerts=("CalsvcLabelCoverageLow",),
        ),
        Panel(
            "Coverage, as each replica sees it",
            "The exact shares of one process. With several replicas and a shared store, a label may reach another one "
            "than its prediction did. Normal: with one replica, matured at 100 %.",
            "percentunit",
            (Query(of(signals.COVERAGE), "{{basis}} {{instance}}"),),
            no_data="Nothing was predicted in the last five minutes",
        ),
        Panel(
            "Feedback lag",
            "From a prediction to its truth. Normal: the delay that was agreed (CALSVC_FEEDBACK_DELAY, 300 s) and some "
            "seconds. Interpolated within the buckets of the histogram.",
            "s",
            promql.quantiles(signals.FEEDBACK_LAG),
            no_data="No label came lately",
            alerts=("CalsvcFeedbackLate",),
        ),
        Panel(
            "Feedback by outcome",
            "matched: joined. duplicate: the same truth again. conflict: another truth; the first stays. unknown: no "
            "such prediction. Normal: matched alone.",
            "reqps",
            (Query(total(rate(of(signals.FEEDBACK)), "outcome"), "{{outcome}}"),),
            stacked=True,
            alerts=("CalsvcFeedbackMissing",),
        ),
        Panel(
            "Pending",
            "Predictions that wait for their truth. Normal: rises for five minutes, then stays. With a shared store "
            "every replica shows the same number.",
            "short",
            (Query(of(signals.PENDING), "{{instance}}"),),
        ),
        Panel(
            "Replaced",
            "Predictions whose record was predicted again before its label came: a client that asked twice. Coverage "
            "leaves them out. Normal: 0.",
            "ops",
            (Query(total(rate(of(signals.REPLACED))), "replaced"),),
        ),
        Panel(
            "Dropped without truth",
            "expired: waited longer than CALSVC_FEEDBACK_RETENTION. overflow: more than may wait at once. Normal: 0.",
            "ops",
            (Query(total(rate(of(signals.PENDING_DROPPED)), "reason"), "{{reason}}"),),
        ),
    ),
)
BOARD: Final = Board(
    "quality",
    "calsvc: Model quality",
    "What is predicted, how it compares with the truth, and how much of the truth is here.",
    (promql.JOB, promql.INSTANCE, promql.MODEL_VERSION, promql.ROLE),
    (GLANCE, PREDICTIONS, ERROR, FEEDBACK, CHALLENGER),
)
