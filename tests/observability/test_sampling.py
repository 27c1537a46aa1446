"""Sampling: the draw is the one that OpenTelemetry's own samplers would make of the same headers."""

import logging
import random
from collections.abc import Iterator, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from observability.callers import caller_of
from observability.sampling import Sampling, is_drawn

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
VALID = b"00-" + TRACE + b"-" + SPAN + b"-01"
RATIOS = (0.0, 0.001, 0.1, 1 / 3, 0.5, 0.9, 1.0)
SAMPLERS = {
    "always_on": (Sampling(parent_based=False, ratio=1.0), ALWAYS_ON),
    "always_off": (Sampling(parent_based=False, ratio=0.0), ALWAYS_OFF),
    "parentbased_always_on": (Sampling(parent_based=True, ratio=1.0), DEFAULT_ON),
    "parentbased_always_off": (Sampling(parent_based=True, ratio=0.0), DEFAULT_OFF),
    **{
        f"traceidratio {ratio:.3g}": (Sampling(parent_based=False, ratio=ratio), TraceIdRatioBased(ratio))
        for ratio in RATIOS
    },
    **{
        f"parentbased_traceidratio {ratio:.3g}": (Sampling(ratio=ratio), ParentBased(TraceIdRatioBased(ratio)))
        for ratio in RATIOS
    },
}
ODD = {
    "nothing": b"",
    "words": b"yes please",
    "upper case": VALID.upper(),
    "upper case flags": VALID[:-2] + b"0F",
    "no trace id": VALID.replace(TRACE, b"0" * 32),
    "no span id": VALID.replace(SPAN, b"0" * 16),
    "too short": VALID[:-1],
    "too long": VALID + b"0",
    "not hexadecimal": VALID.replace(b"4bf", b"4bg"),
    "underscores": VALID.replace(b"-", b"_"),
    "version ff": b"ff" + VALID[2:],
    "version FF": b"FF" + VALID[2:],
    "version 00 that goes on": VALID + b"-what-comes",
    "version 00 that ends in a hyphen": VALID + b"-",
    "a future version": b"cc" + VALID[2:],
    "a future version that goes on": b"cc" + VALID[2:] + b"-what-the-future-will-be-like",
    "a future version that ends in a hyphen": b"cc" + VALID[2:] + b"-",
    "a future version that goes on wrongly": b"cc" + VALID[2:] + b".what",
    "version ff that goes on": b"ff" + VALID[2:] + b"-more",
    "more flags, sampled": VALID[:-2] + b"ff",
    "more flags, not sampled": VALID[:-2] + b"fe",
    "not sampled": VALID[:-2] + b"00",
    "spaces around it": b"  " + VALID + b" \t",  # the HTTP parser leaves those behind a value
    "a space within": VALID.replace(b"-01", b"- 01"),
    "a byte above ASCII": VALID + b"\xe9",
    "digits of another script": VALID.replace(b"4", "\u0664".encode()),
}


def sent(headers: Sequence[tuple[bytes, bytes]]) -> SpanContext | None:
    """What OpenTelemetry's propagator makes of the headers."""
    carrier: dict[str, list[str]] = {}
    for name, value in headers:
        carrier.setdefault(name.decode(), []).append(value.decode("latin-1"))
    caller = get_current_span(TraceContextTextMapPropagator().extract(carrier, Context())).get_span_context()
    return caller if caller.is_valid else None


def sampled(sampler: Sampler, traceparent: bytes, root_trace_id: int) -> bool:
    """What OpenTelemetry's sampler decides. `root_trace_id`: that of a trace that begins here."""
    carrier = {"traceparent": traceparent.decode("latin-1")}
    context = TraceContextTextMapPropagator().extract(carrier, Context())
    caller = get_current_span(context).get_span_context()
    trace_id = caller.trace_id if caller.is_valid else root_trace_id
    return sampler.should_sample(context, trace_id, "POST /predict").decision.is_sampled()


@pytest.fixture
def chance() -> Iterator[None]:
    """Chance that repeats itself."""
    state = random.getstate()
    random.seed(20_240_501)
    yield
    random.setstate(state)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_callers_trace_is_drawn_as_by_opentelemetrys_sampler(name: str):
    """A thousand random traces, sampled by their caller or not, all get the SDK's answer."""
    sampling, sampler = SAMPLERS[name]
    made_up = random.Random(name)
    for _ in range(1000):
        trace, span, flags = made_up.getrandbits(128) or 1, made_up.getrandbits(64) or 1, made_up.getrandbits(8)
        traceparent = b"00-%032x-%016x-%02x" % (trace, span, flags)
        assert is_drawn(sampling, [(b"traceparent", traceparent)]) == sampled(sampler, traceparent, 0), traceparent


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_ratio_ends_at_the_same_trace_id(ratio: float):
    """At the bound itself, one below and one above, whatever the upper half of the id is."""
    sampler = TraceIdRatioBased(ratio)
    for offset, upper in product((-2, -1, 0, 1, 2), (0, 1, 2**64 - 1)):
        trace = upper << 64 | (sampler.bound + offset) & 2**64 - 1
        if not trace:
            continue  # no trace has this id
        traceparent = b"00-%032x-%s-00" % (trace, SPAN)
        drawn = is_drawn(Sampling(parent_based=False, ratio=ratio), [(b"traceparent", traceparent)])
        assert drawn == sampled(sampler, traceparent, 0), traceparent


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", ["always_on", "always_off", "parentbased_always_on", "parentbased_always_off"])
def test_an_odd_traceparent_is_taken_as_opentelemetry_takes_it(case: str, name: str):
    """What the W3C propagator does not understand is no caller; what it does understand decides."""
    sampling, sampler = SAMPLERS[name]
    assert is_drawn(sampling, [(b"traceparent", ODD[case])]) == sampled(sampler, ODD[case], 1)


@pytest.mark.parametrize("case", ODD)
def test_a_draw_and_a_span_know_the_same_caller(case: str):
    """A request that is drawn because of its caller has a span below that caller, and no other has one."""
    headers = [(b"host", b"x"), (b"traceparent", ODD[case])]
    assert caller_of(headers) == sent(headers)
    decided = {is_drawn(Sampling(parent_based=True, ratio=ratio), headers) for ratio in (0.0, 1.0)}
    caller = sent(headers)
    assert decided == ({False, True} if caller is None else {caller.trace_flags.sampled})


@pytest.mark.parametrize("second", [VALID, VALID.replace(b"-01", b"-00"), b"nonsense"])
@pytest.mark.parametrize("first", [VALID, b"nonsense"])
def test_of_two_callers_the_first_counts(first: bytes, second: bytes):
    """As the propagator reads a header that comes twice; draw and span agree."""
    headers = [(b"traceparent", first), (b"traceparent", second)]
    assert caller_of(headers) == sent(headers)
    assert is_drawn(Sampling(ratio=0.0), headers) == (first == VALID)


def test_a_tracestate_in_two_headers_is_one():
    """RFC 9110: fields of the same name are one list."""
    headers = [(b"traceparent", VALID), (b"tracestate", b"a=1,b=2"), (b"tracestate", b"c=3")]
    caller = caller_of(headers)
    assert caller is not None
    assert caller.trace_state.to_header() == "a=1,b=2,c=3"


def members(count: int, **odd: str) -> str:
    """A tracestate of that many vendors."""
    return ",".join(f"{key}={value}" for key, value in {**{f"v{each}": "x" for each in range(count)}, **odd}.items())


STATES = {
    "one": "congo=t61rcWkgMzE",
    "a tenant": "fw529a3039@dt=FfvSwK",
    "spaces and empty members": " a=1 ,, \tb=2 ,",
    "a value with a space within": "a=1 2",
    "an equals sign in a value": "a=1=2",
    "no value": "a=",
    "no key": "=1",
    "words": "yes please",
    "upper case": "Congo=1",
    "a byte above ASCII": "a=\xe9",
    "a key twice": "a=1,a=2",
    "as many as allowed": members(32),
    "one too many": members(33),
    "a long value": members(1, big="x" * 256),
    "too long a value": members(1, big="x" * 257),
    "too long a key": "k" * 257 + "=1",
    "as long as it may be": ",".join(f"v{each}={'x' * 250}" for each in range(32)),
    "too long": " " * 9000,
}


@pytest.mark.parametrize("case", STATES)
def test_an_odd_tracestate_is_taken_as_opentelemetry_takes_it(case: str, caplog: pytest.LogCaptureFixture):
    """What it does not understand is dropped and the caller stays; a client cannot fill the log with that."""
    headers = [(b"traceparent", VALID), (b"tracestate", STATES[case].encode("latin-1"))]
    caller = caller_of(headers)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert caller == sent(headers)
    assert told == []


@pytest.mark.parametrize("headers", [[], [(b"host", b"x")], [(b"traceparent", b"nonsense")]])
@pytest.mark.parametrize("parent_based", [True, False])
@pytest.mark.usefixtures("chance")
def test_without_a_caller_chance_decides(headers: list[tuple[bytes, bytes]], parent_based: bool):
    """Of ten thousand requests as many are drawn as the ratio says, within five standard deviations."""
    drawn = sum(is_drawn(Sampling(parent_based, 0.1), headers) for _ in range(10_000))
    assert drawn == pytest.approx(1000, abs=5 * (10_000 * 0.1 * 0.9) ** 0.5)


@pytest.mark.parametrize(("ratio", "drawn"), [(0.0, 0), (1.0, 10_000)])
def test_nothing_and_everything_leave_nothing_to_chance(ratio: float, drawn: int):
    """0 draws none, 1 draws all."""
    assert sum(is_drawn(Sampling(ratio=ratio), []) for _ in range(10_000)) == drawn


NAMES = st.sampled_from([b"traceparent", b"tracestate", b"host"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=80))), st.booleans(), st.floats(0, 1))
def test_no_header_makes_it_fail(headers: list[tuple[bytes, bytes]], parent_based: bool, ratio: float):
    """Whatever bytes a client sends, there is a decision."""
    assert is_drawn(Sampling(parent_based, ratio), headers) in {True, False}
    caller_of(headers)


PARTS = st.sampled_from(["a", "b@c", "=", ",", " ", "\t", "1", "Z", "\xe9", "a=1", ",b=2", "_", "*", "@"])


@given(st.lists(st.lists(PARTS, max_size=12).map("".join), min_size=1, max_size=3))
def test_every_tracestate_is_understood_by_both_or_by_none(states: list[str]):
    """Whatever is put together of what one is made of, in as many headers as anybody likes."""
    headers = [(b"traceparent", VALID), *((b"tracestate", state.encode("latin-1")) for state in states)]
    assert caller_of(headers) == sent(headers)


@given(
    at=st.integers(0, len(VALID) + 3),
    removed=st.integers(0, 2),
    put=st.text(st.sampled_from("0123456789abcdefABCDEFg- \t\xff"), max_size=3),
    version=st.sampled_from([b"00", b"01", b"cc", b"fe", b"ff"]),
)
def test_a_damaged_traceparent_is_understood_by_both_or_by_none(at: int, removed: int, put: str, version: bytes):
    """A valid header with a few characters changed, lost or added."""
    whole = version + VALID[2:]
    headers = [(b"traceparent", whole[:at] + put.encode("latin-1") + whole[at + removed :])]
    caller = sent(headers)
    assert caller_of(headers) == caller
    assert is_drawn(Sampling(ratio=0.0), headers) == (caller is not None and caller.trace_flags.sampled)
