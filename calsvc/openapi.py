"""OpenAPI 3.1, made from the types that validate."""

from functools import cache
from typing import Any, Final

import msgspec

from calsvc import __version__
from calsvc.schema import Feedback, FeedbackStatus, Prediction, Problem, Workout

_TYPES: Final = (Workout, Feedback, Prediction, FeedbackStatus, Problem)
_BAD_BODY: Final = {
    "400": "not JSON",
    "413": "larger than 64 KiB",
    "415": "not declared as application/json",
    "422": "a field is missing, wrong or implausible",
}
_BUSY: Final = {"503": "not ready, or overloaded: see Retry-After"}


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    (refs, components) = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    workout, feedback, prediction, status, problem = refs
    # A record may name the sex by either field, which a Struct cannot say.
    components["Workout"]["anyOf"] = [{"required": ["Sex"]}, {"required": ["Gender"]}]
    write = _Operations(problem)
    return {
        "openapi": "3.1.0",
        "info": {"title": "calsvc", "version": __version__, "description": "Calories of a workout, and their truth."},
        "paths": {
            "/predict": {"post": write.post("predict", "Predict the calories of one workout", workout, prediction, {})},
            "/feedback": {
                "post": write.post(
                    "feedback",
                    "Send the measured calories of a predicted workout",
                    feedback,
                    status,
                    {"404": "no such prediction waits", "409": "another truth already stands"},
                )
            },
            "/healthz": {"get": write.get("healthz", "Whether predictions can be answered", busy=True)},
            "/livez": {"get": write.get("livez", "Whether the process is alive", busy=True)},
            "/readyz": {"get": write.get("readyz", "Whether to send traffic here", busy=True)},
            "/info": {"get": write.get("info", "What is serving")},
            "/openapi.json": {"get": write.get("openapi", "This document")},
            "/metrics": {"get": write.get("metrics", "Metrics for Prometheus", media_type="text/plain")},
        },
        "components": {"schemas": components},
    }


class _Operations:
    """Writes operations that share one form of error."""

    def __init__(self, problem: dict[str, Any]) -> None:
        self._problem = problem

    def post(
        self, name: str, summary: str, takes: dict[str, Any], gives: dict[str, Any], errors: dict[str, str]
    ) -> dict[str, Any]:
        """Describe an operation that takes and gives one JSON object."""
        return {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": takes}}},
            "responses": {"200": _content("OK", "application/json", gives)} | self._errors(_BAD_BODY | errors | _BUSY),
        }

    def get(
        self, name: str, summary: str, *, media_type: str = "application/json", busy: bool = False
    ) -> dict[str, Any]:
        """Describe an operation without input."""
        gives = {"type": "string" if media_type.startswith("text/") else "object"}
        return {
            "operationId": name,
            "summary": summary,
            "responses": {"200": _content("OK", media_type, gives)} | self._errors(_BUSY if busy else {}),
        }

    def _errors(self, meanings: dict[str, str]) -> dict[str, Any]:
        return {
            status: _content(meaning, "application/problem+json", self._problem) for status, meaning in meanings.items()
        }


def _content(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}
