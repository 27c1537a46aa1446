"""The service with a span of a user's own code in `Service.predict`: `python -m tests.live.user_spans`."""

import sys
from typing import Any

from opentelemetry import baggage, trace

import calsvc.__main__
from calsvc.service import Service

_predict = Service.predict


async def predict(service: Service, *arguments: Any) -> Any:
    """Predict within a span that says what the caller's baggage holds."""
    with trace.get_tracer("user").start_as_current_span("user's own") as span:
        span.set_attribute("user", str(baggage.get_baggage("user")))
        return await _predict(service, *arguments)


if __name__ == "__main__":
    Service.predict = predict  # type: ignore[method-assign]
    sys.exit(calsvc.__main__.main())
