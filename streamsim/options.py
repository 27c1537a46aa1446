"""Parsers of what an option may be: numbers within bounds, shares, lengths of time. Each names what it expected."""

import argparse
import math
from collections.abc import Callable


def number(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """Return a parser of finite numbers in `low`..`high`, `low` itself excluded with `above`."""
    wanted = f"a number {'above' if above else 'from'} {low:g} up to {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text!r}: expected {wanted}")
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers in `low`..`high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {low} up to {high}")
        return value

    return parse


def percent(text: str) -> float:
    """Parse a share in percent, with or without the sign."""
    return number(0, 100)(text.removesuffix("%"))


def milliseconds(text: str) -> float:
    """Parse a length of time such as `50ms` or `0.2s` into milliseconds; a bare number is milliseconds."""
    if text.endswith("ms") or not text.endswith("s"):
        return number(0, 3.6e6, above=True)(text.removesuffix("ms"))
    return 1000 * number(0, 3600, above=True)(text.removesuffix("s"))


def burst(text: str) -> tuple[float, float]:
    """Parse `ON/OFF`, the seconds of a burst and of the silence after it."""
    on, slash, off = text.partition("/")
    if not slash:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds ON/OFF, such as 5/25")
    return number(0, 1e6, above=True)(on), number(0, 1e6)(off)
