"""What a client may send and what it gets back: the types that validate are the types that `/openapi.json` shows."""

import re
from itertools import product
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from calsvc.http.errors import InvalidInput, NotJson

LONGEST_ID: Final = 64
"""Characters of a text id."""
RecordId = (
    Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="64-bit integer, chosen by the client")]
    | Annotated[
        str, Meta(min_length=1, max_length=LONGEST_ID, description="text of 1 to 64 characters, chosen by the client")
    ]
)
SexText = Annotated[
    str,
    Meta(
        description="male, female, m or f, in any case",
        examples=["male"],
        # Shown, not matched: that is half of the cost of decoding a record, and the table below has every spelling.
        extra_json_schema={"pattern": "^([Mm]|[Ff]|[Mm][Aa][Ll][Ee]|[Ff][Ee][Mm][Aa][Ll][Ee])$"},
    ),
]
_FEMALE: Final[dict[object, bool]] = {
    "".join(letters): word.startswith("f")
    for word in ("male", "female", "m", "f")
    for letters in product(*zip(word, word.upper(), strict=True))
}
"""All 84 texts that say a sex, and whether it is the female one."""
_NO_SEX: Final = "{}: expected male, female, m or f"
# The bounds say what a human body and one workout can be, with room to spare: wider than any training data,
# narrow enough that a swapped unit (inches, pounds, Fahrenheit, seconds) is caught.
Age = Annotated[float, Meta(ge=1, le=120, description="years", examples=[41])]
Height = Annotated[float, Meta(ge=100, le=250, description="cm", examples=[174])]
Weight = Annotated[float, Meta(ge=20, le=350, description="kg", examples=[75])]
Duration = Annotated[float, Meta(gt=0, le=1440, description="minutes", examples=[15])]
HeartRate = Annotated[float, Meta(ge=25, le=250, description="beats per minute", examples=[95])]
BodyTemp = Annotated[float, Meta(ge=30, le=45, description="degrees Celsius", examples=[40.0])]
# The upper bound only keeps sums of squares finite; nobody burns a million kcal in one workout.
TrueCalories = Annotated[float, Meta(ge=0, le=1e6, description="measured kcal", examples=[77])]
EpochSeconds = Annotated[float, Meta(description="when it was measured, epoch seconds by the sender's clock")]


class Workout(Struct, frozen=True, gc=False):
    """One record to score. Fields that are not listed here are ignored."""

    id: RecordId
    Age: Age
    Height: Height
    Weight: Weight
    Duration: Duration
    Heart_Rate: HeartRate
    Body_Temp: BodyTemp
    Sex: SexText | UnsetType = UNSET
    Gender: SexText | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Demand one of the two names of the same fact, and agreement where both are sent."""
        sex, gender = self.Sex, self.Gender
        if (sex in _FEMALE and gender is UNSET) or (gender in _FEMALE and sex is UNSET):
            return
        _demand_one_sex(sex, gender)

    @property
    def female(self) -> bool:
        """True for female, False for male, whichever of the two fields was sent."""
        return _FEMALE[self.Gender if self.Sex is UNSET else self.Sex]


def _demand_one_sex(sex: str | UnsetType, gender: str | UnsetType) -> None:
    """Raise `InvalidInput` unless one is sent, each that is sent is in the table, and both say the same."""
    sent = {name: text for name, text in (("Sex", sex), ("Gender", gender)) if text is not UNSET}
    if not sent:
        raise InvalidInput("Sex (or Gender) is missing: send male or female", "$.Sex")
    for name, text in sent.items():
        if text not in _FEMALE:
            raise InvalidInput(_NO_SEX.format(name), f"$.{name}")
    if len({_FEMALE[text] for text in sent.values()}) > 1:
        raise InvalidInput(f"Gender {gender!r} disagrees with Sex {sex!r}", "$.Gender")


class Feedback(Struct, frozen=True, gc=False):
    """The measured truth of one record that was predicted before."""

    id: RecordId
    Calories: TrueCalories
    ts: Annotated[float, Meta(description="epoch seconds of the measurement, by the sender's clock")] | UnsetType = (
        UNSET
    )


class Prediction(Struct, frozen=True, gc=False):
    """The answer to a workout."""

    id: RecordId
    Calories: Annotated[float, Meta(description="predicted kcal")]


class FeedbackStatus(Struct, frozen=True, gc=False):
    """What became of a feedback: `matched` the first time, `duplicate` when the same truth comes again."""

    id: RecordId
    status: Literal["matched", "duplicate"]


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error in the form of RFC 9457 (`application/problem+json`)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET


T = TypeVar("T", Workout, Feedback)
_workout_decoder: Final = msgspec.json.Decoder(Workout)
_feedback_decoder: Final = msgspec.json.Decoder(Feedback)


def parse_workout(body: bytes) -> Workout:
    """Decode one workout; `NotJson` or `InvalidInput` says what is wrong with it."""
    return _parse(_workout_decoder, body)


def parse_feedback(body: bytes) -> Feedback:
    """Decode one feedback; `NotJson` or `InvalidInput` says what is wrong with it."""
    return _parse(_feedback_decoder, body)


def _parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the text of fields that it skips
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"the body is not JSON in UTF-8: {error}") from None
    except RecursionError:
        raise NotJson("the body is nested too deeply") from None


_AT_PATH: Final = re.compile(r"^(?P<detail>.*) - at `(?P<path>\$.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"missing required field `(?P<name>[^`]+)`")


def _invalid(message: str) -> InvalidInput:
    """Read the field at fault out of msgspec's message, which is where it keeps the path."""
    if at_path := _AT_PATH.match(message):
        path, name = at_path["path"], at_path["path"].removeprefix("$.")
        if name in {"Sex", "Gender"}:
            return InvalidInput(_NO_SEX.format(name), path)
        return InvalidInput(f"{name}: {at_path['detail'].replace('`', '')}", path)
    if missing := _MISSING.search(message):
        return InvalidInput(f"{missing['name']} is missing", f"$.{missing['name']}")
    return InvalidInput(message, "$")
