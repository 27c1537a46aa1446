"""One valid workout in, kcal out.

Which engine does it is the bundle's word; that it agrees with the handout is proven before the first record.
"""

import math
from functools import partial
from struct import Struct
from typing import Final, Protocol

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
"""Threads of ONNX Runtime for one record: handing one row to a second thread would cost more than the row."""


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
    """Features in Python, trees in ONNX Runtime, on the calling thread: some 11 us in all, so nothing is awaited.

    Not for several threads at once: the runtime reads and writes two arrays that stay bound to the session, which
    saves it two conversions and two allocations a record.

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
        self._row = np.zeros((1, len(manifest.feature_names)), dtype=np.float32)
        self._margin = np.zeros((1, 1), dtype=np.float32)
        # Native "f" is a C cast, as numpy's: the same rounding, and infinity for what float32 cannot hold.
        self._fill = partial(Struct(f"{self._row.size}f").pack_into, self._row.data, 0)
        self._bound = self._session.io_binding()
        self._bound.bind_ortvalue_input(self._session.get_inputs()[0].name, _shared(self._row))
        self._bound.bind_ortvalue_output(self._session.get_outputs()[0].name, _shared(self._margin))

    async def score(self, workout: Workout) -> float:
        """Return kcal for one workout; see `Scorer`."""
        self._fill(*self._features(workout))
        self._session.run_with_iobinding(self._bound)
        try:
            kcal = self._to_kcal(self._margin.item())
        except OverflowError:
            kcal = math.inf
        if not math.isfinite(kcal):
            raise ScoringError(f"the model gives {kcal} for this record")
        return kcal

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
    """Score every row of the sample and compare.

    Raises:
        ParityMissed: naming the worst row.
        ScoringError: a row of the sample has no prediction.
    """
    ours = [await scorer.score(row) for row in sample.rows]
    return parity.demand(sample, ours, f"the engine {scorer.engine}")


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
