"""OpenAPI 3.1, made from the types that validate."""

from functools import cache
from typing import Any, Final

import msgspec

from calsvc import __version__
from calsvc.http.schema import Feedback, FeedbackStatus, Prediction, Problem, Workout

_TYPES: Final = (Workout, Feedback, Prediction, FeedbackStatus, Problem)
_BUSY: Final = {"503": "not ready, or overloaded: see Retry-After"}
"""What any operation may answer."""
_BAD_BODY: Final = {
    "400": "not JSON, or behind an Upgrade header",
    "413": "larger than 64 KiB",
    "415": "not declared as application/json, or compressed",
    "422": "a field is missing, wrong or implausible",
}
_UNAUTHORIZED: Final = {"401": "the bearer token is missing or wrong"}
_HEADERS: Final = {
    "401": {"WWW-Authenticate": {"schema": {"const": "Bearer"}, "required": True}},
    "503": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}, "required": True}},
}
_MODEL: Final = {
    "X-Model-Version": {"description": "what has answered", "schema": {"type": "string"}, "required": True}
}


@cache
def document(here: frozenset[str], guarded: bool) -> dict[str, Any]:
    """Return the OpenAPI document. `here`: the paths that it may name; `guarded`: whether the calls ask for a token."""
    (refs, components) = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    workout, feedback, prediction, status, problem = refs
    components["Workout"] |= _ONE_SEX
    write = _Operations(problem, guarded)
    paths = {
        "/predict": {"post": write.post("predict", "Predict the calories of one workout", (workout, prediction), {})},
        "/feedback": {
            "post": write.post(
                "feedback",
                "Send the measured calories of a predicted workout",
                (feedback, status),
                {"404": "no such prediction waits", "409": "another truth already stands"},
            )
        },
        "/healthz": {"get": write.get("healthz", "Whether predictions can be answered")},
        "/livez": {"get": write.get("livez", "Whether the process is alive")},
        "/readyz": {"get": write.get("readyz", "Whether to send traffic here")},
        "/info": {"get": write.get("info", "What is serving")},
        "/openapi.json": {"get": write.get("openapi", "This document")},
        "/metrics": {"get": write.get("metrics", "Metrics for Prometheus", *METRICS_TYPES)},
    }
    paths["/predict"]["post"]["responses"]["200"]["headers"] = _MODEL
    return {
        "openapi": "3.1.0",
        "info": {"title": "calsvc", "version": __version__, "description": "Calories of a workout, and their truth."},
        "paths": {path: operations for path, operations in paths.items() if path in here},
        "components": {"schemas": components} | ({"securitySchemes": {"token": _BEARER}} if guarded else {}),
    }


METRICS_TYPES: Final = ("text/plain", "application/openmetrics-text")
_BEARER: Final = {"type": "http", "scheme": "bearer"}
_FEMALE: Final = "^([Ff]|[Ff][Ee][Mm][Aa][Ll][Ee])$"
_MALE: Final = "^([Mm]|[Mm][Aa][Ll][Ee])$"
_ONE_SEX: Final = {
    # A record may name the sex by either field, or by both where they agree, which a Struct cannot say.
    "anyOf": [
        {"required": ["Sex"], "not": {"required": ["Gender"]}},
        {"required": ["Gender"], "not": {"required": ["Sex"]}},
        *(
            {"required": ["Sex", "Gender"], "properties": {"Sex": {"pattern": sex}, "Gender": {"pattern": sex}}}
            for sex in (_FEMALE, _MALE)
        ),
    ]
}


class _Operations:
    """Writes operations that share one form of error."""

    def __init__(self, problem: dict[str, Any], guarded: bool) -> None:
        self._problem = problem
        self._guarded = guarded

    def post(
        self, name: str, summary: str, takes_gives: tuple[dict[str, Any], dict[str, Any]], errors: dict[str, str]
    ) -> dict[str, Any]:
        """Describe an operation that takes and gives one JSON object."""
        takes, gives = takes_gives
        errors = _BUSY | _BAD_BODY | errors | (_UNAUTHORIZED if self._guarded else {})
        return {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": takes}}},
            "responses": {"200": _content("OK", gives, "application/json")} | self._errors(errors),
        } | ({"security": [{"token": []}]} if self._guarded else {})

    def get(self, name: str, summary: str, *media_types: str) -> dict[str, Any]:
        """Describe an operation without input; `media_types` of its text, none where it gives a JSON object."""
        gives = {"type": "string" if media_types else "object"}
        return {
            "operationId": name,
            "summary": summary,
            "responses": {"200": _content("OK", gives, *(media_types or ("application/json",)))} | self._errors(_BUSY),
        }

    def _errors(self, meanings: dict[str, str]) -> dict[str, Any]:
        return {
            status: _content(meaning, self._problem, "application/problem+json")
            | ({"headers": _HEADERS[status]} if status in _HEADERS else {})
            for status, meaning in sorted(meanings.items())
        }


def _content(description: str, schema: dict[str, Any], *media_types: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema} for media_type in media_types}}
