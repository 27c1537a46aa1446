"""One valid workout in, kcal out.

Which engine does it is the bundle's word; that it agrees with the handout is proven before the first record.
"""

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from struct import Struct
from typing import Any, Final, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from calsvc.http.errors import BundleError, ScoringError
from calsvc.http.schema import Workout
from calsvc.model import parity
from calsvc.model.bundle import ONNX, Bundle, Engine
from calsvc.model.features import row_function
from calsvc.model.target import to_kcal
from calsvc.model.worker import ReferenceScorer
from calsvc.settings import Settings

ONNX_THREADS: Final = 1
"""Threads of ONNX Runtime: handing a few rows to a second thread would cost more than the rows."""
MAX_BATCH: Final = 16
"""Workouts that ONNX Runtime scores in one call: some 100 us."""
_Waiting = tuple[tuple[float, ...], asyncio.Future[float]]
"""The features of a workout, and who waits for the model's raw answer to it."""


class Scorer(Protocol):
    """What the service needs of a model."""

    @property
    def engine(self) -> Engine:
        """What computes the answer."""

    async def score(self, workout: Workout) -> float:
        """Return the finite prediction in kcal, or raise `ScoringError`."""

    async def aclose(self) -> None:
        """Release what the scorer holds. It answers nothing afterwards."""


class OnnxScorer:
    """Features in Python, trees in ONNX Runtime, on the event loop's thread.

    Workouts that are asked for in one turn of the event loop are scored in one call: each then costs less, and their
    answers go out together. No workout waits for others to come.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
        UnknownFeatures: the bundle is of a later program that knows more features.
    """

    engine: Final[Engine] = "onnx"

    def __init__(self, bundle: Bundle, threads: int = ONNX_THREADS) -> None:
        manifest = bundle.manifest
        self._features = row_function(manifest.feature_names)
        self._to_kcal = to_kcal(manifest.target)
        self._session = _session(bundle, threads)
        rows = np.zeros((MAX_BATCH, len(manifest.feature_names)), dtype=np.float32)
        self._margins = np.zeros((MAX_BATCH, 1), dtype=np.float32)
        # Native "f" is a C cast, as numpy's: the same rounding, and infinity for what float32 cannot hold.
        pack = Struct(f"{rows.shape[1]}f").pack_into
        self._fill = [partial(pack, row.data, 0) for row in rows]
        # The arrays stay bound to the session, which saves it two conversions and two allocations a call.
        self._bound = [self._binding(rows[:n], self._margins[:n]) for n in range(1, MAX_BATCH + 1)]
        self._waiting: list[_Waiting] = []

    def _binding(self, rows: NDArray[np.float32], margins: NDArray[np.float32]) -> Any:
        bound = self._session.io_binding()
        bound.bind_ortvalue_input(self._session.get_inputs()[0].name, _shared(rows))
        bound.bind_ortvalue_output(self._session.get_outputs()[0].name, _shared(margins))
        return bound

    async def score(self, workout: Workout) -> float:
        """Return kcal for one workout; see `Scorer`."""
        features = self._features(workout)
        loop = asyncio.get_running_loop()
        margin = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._score_waiting)
        self._waiting.append((features, margin))
        try:
            kcal = self._to_kcal(await margin)
        except OverflowError:
            kcal = math.inf
        if not math.isfinite(kcal):
            raise ScoringError(f"the model gives {kcal} for this record")
        return kcal

    def _score_waiting(self) -> None:
        waiting = [each for each in self._waiting if not each[1].done()]  # done: its request was cancelled
        self._waiting = []
        for start in range(0, len(waiting), MAX_BATCH):
            self._score_batch(waiting[start : start + MAX_BATCH])

    def _score_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            margins = self._margins_of([features for features, _ in batch])
        except Exception as error:  # noqa: BLE001 - those who wait must be told
            for _, margin in batch:
                margin.set_exception(error)
        else:
            for (_, margin), value in zip(batch, margins, strict=True):
                margin.set_result(value)

    def _margins_of(self, batch: Sequence[tuple[float, ...]]) -> list[float]:
        for fill, features in zip(self._fill, batch, strict=False):
            fill(*features)
        self._session.run_with_iobinding(self._bound[len(batch) - 1])
        margins: list[float] = self._margins[: len(batch), 0].tolist()
        return margins

    async def aclose(self) -> None:
        """Nothing to wait for: the session goes with the object."""


async def open_scorer(bundle: Bundle, settings: Settings) -> Scorer:
    """Open the engine that the bundle names and check it against every row of the parity sample.

    Raises:
        BundleError: the engine cannot be started.
        ParityMissed: it does not say what the handout said when the bundle was made.
    """
    scorer: Scorer
    if bundle.manifest.engine == "onnx":
        scorer = OnnxScorer(bundle)
    else:
        scorer = await ReferenceScorer.open(bundle, settings.handout_dir)
    try:
        await prove(scorer, bundle.parity_sample())
    except BaseException:
        await scorer.aclose()
        raise
    return scorer


async def prove(scorer: Scorer, sample: parity.ParitySample) -> parity.Parity:
    """Score every row of the sample, one by one and all at once, and compare; return how the single rows compare.

    Raises:
        ParityMissed: naming the worst row.
        ScoringError: a row of the sample has no prediction.
    """
    alone = [await scorer.score(row) for row in sample.rows]
    proven = parity.demand(sample, alone, f"the engine {scorer.engine}")
    together = await asyncio.gather(*map(scorer.score, sample.rows))
    parity.demand(sample, together, f"the engine {scorer.engine}, asked for many rows at once,")
    return proven


def onnx_session(model: bytes, threads: int = ONNX_THREADS) -> onnxruntime.InferenceSession:
    """Return ONNX Runtime set up for single records; export proves with the very session that the service opens."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool would burn a core between requests for a call of a few microseconds.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _shared(array: NDArray[np.float32]) -> onnxruntime.OrtValue:
    """Return the runtime's view of an array on the CPU: the same memory, kept alive by the view."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _session(bundle: Bundle, threads: int) -> onnxruntime.InferenceSession:
    model = bundle.read(ONNX)
    try:
        return onnx_session(model, threads)
    except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common base of their own
        raise BundleError(f"ONNX Runtime cannot load {bundle.folder / ONNX}: {error}; just train") from None
