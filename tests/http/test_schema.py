"""What a client may send: everything else is refused by name."""

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsvc.http.errors import CalsvcError, InvalidInput, NotJson
from calsvc.http.openapi import document
from calsvc.http.schema import parse_feedback, parse_workout

WORKOUT = {
    "id": 473995,
    "Sex": "female",
    "Age": 40,
    "Height": 172,
    "Weight": 71,
    "Duration": 24,
    "Heart_Rate": 106,
    "Body_Temp": 40.4,
}


def workout(**changes: Any) -> bytes:
    """The body of a good request, changed; None leaves a field out."""
    return json.dumps({name: value for name, value in (WORKOUT | changes).items() if value is not None}).encode()


@pytest.mark.parametrize("text", ["male", "Male", "MALE", "m", "M"])
@pytest.mark.parametrize("name", ["Sex", "Gender"])
def test_either_name_and_any_case_will_do(name: str, text: str):
    """Sex and Gender are two names of one fact."""
    assert parse_workout(workout(Sex=None)[:-1] + f', "{name}": "{text}"}}'.encode()).female is False


def test_agreeing_names_are_fine():
    """Both names may be sent as long as they say the same."""
    assert parse_workout(workout(Gender="F")).female is True


sexes = st.sampled_from(["male", "female", "m", "f"]).flatmap(
    lambda word: st.tuples(*(st.sampled_from([letter, letter.upper()]) for letter in word)).map("".join)
)


@given(sexes | st.text(max_size=7) | st.text("maleFEMALE\n", max_size=7))
def test_the_documented_pattern_is_the_rule(text: str):
    """A text is accepted exactly if it matches what /openapi.json shows (where `$` is the very end)."""
    properties = document(frozenset({"/predict"}), guarded=False)["components"]["schemas"]["Workout"]["properties"]
    for name in ("Sex", "Gender"):
        body = workout(**{"Sex": None, name: text})
        if re.fullmatch(properties[name]["pattern"].removesuffix("$"), text):
            assert parse_workout(body).female is text.lower().startswith("f")
        else:
            with pytest.raises(InvalidInput, match=f"^{name}: expected male, female, m or f$") as caught:
                parse_workout(body)
            assert caught.value.field == f"$.{name}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Sex": "robot", "Gender": "m"}, "Sex: expected male, female, m or f"),
        ({"Sex": "m", "Gender": "robot"}, "Gender: expected male, female, m or f"),
        ({"Sex": 1}, "Sex: expected male, female, m or f"),
        ({"Sex": "F", "Gender": "male"}, "Gender 'male' disagrees with Sex 'F'"),
        ({"Sex": None}, "Sex (or Gender) is missing: send male or female"),
    ],
)
def test_what_is_wrong_with_the_sex_is_said(changes: dict[str, Any], message: str):
    """Wrong, contradicting or missing."""
    with pytest.raises(InvalidInput) as caught:
        parse_workout(workout(**changes))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("Age", 1, 120),
        ("Height", 100, 250),
        ("Weight", 20, 350),
        ("Duration", math.nextafter(0, 1), 1440),
        ("Heart_Rate", 25, 250),
        ("Body_Temp", 30, 45),
    ],
)
def test_the_bounds_of_a_field_belong_to_it(name: str, low: float, high: float):
    """Both are accepted, and the next number beyond each is refused by the field's name."""
    for value in (low, high):
        assert getattr(parse_workout(workout(**{name: value})), name) == value
    for value in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf)):
        with pytest.raises(InvalidInput) as caught:
            parse_workout(workout(**{name: value}))
        assert caught.value.field == f"$.{name}"


@pytest.mark.parametrize("calories", [0.0, 1e6])
def test_the_bounds_of_a_label_belong_to_it(calories: float):
    """Both are accepted, and the next number beyond each is refused."""
    assert parse_feedback(json.dumps({"id": 1, "Calories": calories}).encode()).Calories == calories
    beyond = math.nextafter(calories, -math.inf if calories == 0 else math.inf)
    with pytest.raises(InvalidInput) as caught:
        parse_feedback(json.dumps({"id": 1, "Calories": beyond}).encode())
    assert caught.value.field == "$.Calories"


@pytest.mark.parametrize("record_id", [0, -1, 2**63 - 1, -(2**63), "a", "x" * 64, "ü" * 64, "473995.1"])
def test_ids_of_both_kinds_are_kept_as_sent(record_id: int | str):
    """An id is a 64-bit integer or a text of 1 to 64 characters."""
    assert parse_workout(workout(id=record_id)).id == record_id
    assert parse_feedback(json.dumps({"id": record_id, "Calories": 1}).encode()).id == record_id


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"Age": "40"}, "$.Age"),
        ({"Age": 220}, "$.Age"),
        ({"Age": 0}, "$.Age"),
        ({"Age": True}, "$.Age"),
        ({"Age": [40]}, "$.Age"),
        ({"Height": 0}, "$.Height"),
        ({"Height": 1.72}, "$.Height"),
        ({"Weight": -71}, "$.Weight"),
        ({"Duration": 0}, "$.Duration"),
        ({"Heart_Rate": 1000}, "$.Heart_Rate"),
        ({"Body_Temp": 104.7}, "$.Body_Temp"),
        ({"Body_Temp": None}, "$.Body_Temp"),
        ({"id": 2**63}, "$.id"),
        ({"id": -(2**63) - 1}, "$.id"),
        ({"id": 10**40}, "$.id"),
        ({"id": 1.0}, "$.id"),
        ({"id": True}, "$.id"),
        ({"id": ""}, "$.id"),
        ({"id": "x" * 65}, "$.id"),
        ({"id": "x" * 100}, "$.id"),
        ({"id": None}, "$.id"),
        ({"Sex": "other"}, "$.Sex"),
        ({"Sex": "male\n"}, "$.Sex"),
        ({"Sex": 1}, "$.Sex"),
        ({"Sex": None}, "$.Sex"),
        ({"Gender": "male"}, "$.Gender"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str):
    """Missing, wrong, implausible or contradicting: the error carries the field's path."""
    with pytest.raises(InvalidInput) as caught:
        parse_workout(workout(**changes))
    assert caught.value.field == field
    assert field.removeprefix("$.") in str(caught.value)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e309"])
def test_a_number_beyond_all_floats_is_a_bad_field(number: str):
    """1e400 is JSON, but no float: the field is at fault, not the syntax."""
    with pytest.raises(InvalidInput) as caught:
        parse_workout(workout().replace(b"172", number.encode()))
    assert caught.value.field == "$.Height"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Age=40",
        b"{",
        b'{"id": 1,}',
        workout() + b"x",
        workout().replace(b"172", b"NaN"),
        workout().replace(b"172", b"Infinity"),
        workout().replace(b"172", b"-Infinity"),
        workout(note="\xff").replace(b"\\u00ff", b"\xff"),
        workout(id="\xff").replace(b"\\u00ff", b"\xff"),
        workout(note="~").replace(b"~", b"\xed\xa0\x80"),
        b"\xef\xbb\xbf" + workout(),
        workout().decode().encode("utf-16"),
        b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_what_is_not_json_in_utf8_is_refused_as_such(body: bytes):
    """NaN and Infinity are no JSON, nor is a broken UTF-8 sequence, even in a field that nobody reads."""
    with pytest.raises(NotJson):
        parse_workout(body)


@pytest.mark.parametrize("body", [b"[]", b"[1]", b'"text"', b"1", b"null", b"true"])
def test_json_that_is_no_object_is_invalid(body: bytes):
    """The record itself is at fault."""
    for parse in (parse_workout, parse_feedback):
        with pytest.raises(InvalidInput) as caught:
            parse(body)
        assert caught.value.field == "$"


@pytest.mark.parametrize("calories", [-0.001, "77", None, True, 1e7])
def test_a_truth_is_a_plausible_number(calories: Any):
    """Feedback without kcal, or with impossible kcal, is refused."""
    with pytest.raises(InvalidInput) as caught:
        parse_feedback(json.dumps({"id": 1, "Calories": calories}).encode())
    assert caught.value.field == "$.Calories"


def test_the_senders_clock_may_say_anything():
    """A timestamp is optional and may lie: the service never computes with it."""
    for ts in (0, -1.5, 4e12):
        assert parse_feedback(json.dumps({"id": 1, "Calories": 77, "ts": ts}).encode()).ts == ts


@given(st.binary(max_size=300))
def test_no_bytes_at_all_escape_the_two_errors(body: bytes):
    """Whatever comes, it parses or raises one of the errors that HTTP has an answer for."""
    for parse in (parse_workout, parse_feedback):
        try:
            parse(body)
        except CalsvcError as error:
            assert isinstance(error, (NotJson, InvalidInput))


@given(st.fixed_dictionaries({name: st.one_of(st.floats(), st.integers(), st.text(), st.none()) for name in WORKOUT}))
def test_what_parses_is_finite_and_plausible(fields: dict[str, Any]):
    """A workout that exists has seven usable numbers."""
    try:
        parsed = parse_workout(json.dumps(fields).encode())
    except CalsvcError:
        return
    assert all(math.isfinite(getattr(parsed, name)) for name in ("Age", "Height", "Weight", "Duration"))
    assert parsed.female in (True, False)
