"""Hypothesis profiles: `test` (the same examples every time) and `search` (random, 50 times as many)."""

from typing import Final

from hypothesis import HealthCheck, settings

USUAL: Final = 100
TIMES: Final = 50
"""Factor by which a search tries more."""


def load() -> None:
    """Register both profiles and use `test`; `--hypothesis-profile=search` selects the other one."""
    # Every field: what is left out would come from Hypothesis's own profile, which is another one if CI=true.
    for name, times in (("test", 1), ("search", TIMES)):
        settings.register_profile(
            name,
            max_examples=USUAL * times,
            derandomize=times == 1,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        )
    settings.load_profile("test")


def few(usual: int) -> settings:
    """Return settings for a test whose examples take long: `usual` of them, and as many times more in a search."""
    return settings(max_examples=usual * settings().max_examples // USUAL)


def searching() -> bool:
    """Tell whether this run looks for new examples."""
    return settings().max_examples > USUAL
