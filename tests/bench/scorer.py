"""The scorer alone, without HTTP: microseconds a row of its parts and of the alternatives, for growing batches."""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import uvloop
import xgboost as xgb
from msgspec import Struct
from numpy.typing import NDArray

from calsvc.http.errors import CalsvcError
from calsvc.http.schema import Workout
from calsvc.model.bundle import ONNX, TREES, Bundle, load_bundle
from calsvc.model.features import columns_function, columns_of, row_function
from calsvc.model.scorer import OnnxScorer, onnx_session
from calsvc.settings import Settings
from tests.bench import part
from tests.bench.figures import Spread, rotated, shown, spread, table
from tests.bench.handout import Task, asked
from tests.bench.processes import on_core, two_cores
from tests.bench.workouts import rows

BATCHES: Final = (1, 8, 32, 128, 1024)
AT_LEAST: Final = 0.02
"""Seconds that one repetition takes, one call at least; ten times as long for the handout."""

Timed = Callable[[float], float]
"""Works for so many seconds; returns the seconds that each row took."""


class Row(Struct):
    """Microseconds a row of one way to do it, by the size of the batch."""

    name: str
    us: dict[int, Spread]


class ScorerFigures(Struct):
    """The result."""

    rounds: int
    trees: int
    features: int
    rows: int
    ways: list[Row]


def measure(options: part.Options) -> ScorerFigures:
    """Time every way with every batch in every round, pinned to one core."""
    settings = Settings.from_env(os.environ)
    bundle = load_bundle(settings.bundle_path)
    records = [Workout(id=number, **row) for number, row in enumerate(rows())]
    with on_core(two_cores().server), asked(settings.handout_dir) as ask:
        timed = {
            (name, batch): partial(_seconds_a_row, work, batch)
            for batch in BATCHES
            for name, work in _ways(bundle, records, batch).items()
        }
        timed |= {
            ("the service's scorer, asked for all at once", batch): partial(_served, bundle, records, batch)
            for batch in BATCHES
        }
        timed |= {("the handout's own predict", batch): partial(_ask, ask, batch) for batch in BATCHES}
        times = _in_turns(timed, options.rounds)
    manifest = bundle.manifest
    return ScorerFigures(
        options.rounds, manifest.trees, len(manifest.feature_names), len(records), _by_name(times, BATCHES)
    )


def _ways(bundle: Bundle, records: Sequence[Workout], batch: int) -> dict[str, Iterator[Any]]:
    """Return, by name, iterators each of whose steps does one batch, always of other rows until all have had a turn."""
    manifest = bundle.manifest
    starts = range(0, len(records) - batch + 1, batch)
    chunks = [records[start : start + batch] for start in starts]
    columns = [columns_of(chunk) for chunk in chunks]
    by_columns = columns_function(manifest.feature_names)
    by_row = row_function(manifest.feature_names)
    matrices = [by_columns(chunk) for chunk in columns]
    session = onnx_session(bundle.read(ONNX))
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(bundle.read(TREES)))
    name = session.get_inputs()[0].name

    def onnx(matrix: NDArray[np.float32]) -> Any:
        return session.run(None, {name: matrix})

    def trees(matrix: NDArray[np.float32]) -> Any:
        return booster.inplace_predict(matrix, predict_type="margin", validate_features=False)

    def features(chunk: Sequence[Workout]) -> Any:
        return [by_row(record) for record in chunk]

    return {
        "features, row by row": map(features, itertools.cycle(chunks)),
        "features, by column": map(by_columns, itertools.cycle(columns)),
        "trees, ONNX Runtime": map(onnx, itertools.cycle(matrices)),
        "trees, XGBoost": map(trees, itertools.cycle(matrices)),
    }


def _served(bundle: Bundle, records: Sequence[Workout], batch: int, seconds: float) -> float:
    return uvloop.run(_score(OnnxScorer(bundle), itertools.cycle(records), batch, seconds))


async def _score(scorer: OnnxScorer, records: Iterator[Workout], batch: int, seconds: float) -> float:
    """Ask the service's scorer for a batch in one turn of the event loop, as requests that come together do."""
    calls, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds or not calls:
        await asyncio.gather(*(scorer.score(record) for record in itertools.islice(records, batch)))
        calls += 1
    return taken / calls / batch


def _seconds_a_row(work: Iterator[Any], batch: int, seconds: float) -> float:
    calls, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds or not calls:
        next(work)
        calls += 1
    return taken / calls / batch


def _ask(ask: Callable[[Task], float], batch: int, seconds: float) -> float:
    return ask(Task(batch, seconds * 10))


def _in_turns(timed: Mapping[tuple[str, int], Timed], rounds: int) -> dict[tuple[str, int], list[float]]:
    times: dict[tuple[str, int], list[float]] = {key: [] for key in timed}
    for work in timed.values():
        work(0)  # once, for the first call of anything
    part.settle()
    for turn in range(rounds):
        for key in rotated(list(timed), turn * len(BATCHES)):
            times[key].append(timed[key](AT_LEAST) * 1e6)
        part.say(f"round {turn + 1} of {rounds}")
    return times


def _by_name(times: Mapping[tuple[str, int], Sequence[float]], batches: Sequence[int]) -> list[Row]:
    names = dict.fromkeys(name for name, _ in times)
    return [Row(name, {batch: spread(times[name, batch]) for batch in batches}) for name in names]


def markdown(result: ScorerFigures) -> str:
    """Return the table and what to know about it."""
    header = ["microseconds a row", *(f"batch of {batch:,}" for batch in BATCHES)]
    lines = [[way.name, *(shown(way.us[batch], _form(way.us[batch])) for batch in BATCHES)] for way in result.ways]
    note = (
        f"Medians of {result.rounds} interleaved repetitions (lowest..highest), one thread, one core, "
        f"{result.trees} trees, {result.features} features; {result.rows:,} different rows in turn: the same row again "
        "and again would be faster, because the processor learns its way through the trees."
    )
    return f"{table(header, lines)}\n\n{note}"


def _form(figure: Spread) -> str:
    return ",.0f" if figure.median >= 100 else ".1f" if figure.median >= 1 else ".2f"


if __name__ == "__main__":
    sys.exit(part.main("scorer", measure, markdown, CalsvcError))
