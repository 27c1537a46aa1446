"""Addresses and headers of a collector: what is accepted at the start can be sent later."""

import h11
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability.sampling import http_url, otlp_headers, spans_url


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1:4318",
            "https://collector",
            "http://collector/prefix/",
            "http://collector:4318/v1/traces?a=b",
        ),
        *("http://[::1]:4318", "http://user:password@collector", "http://10.0.0.1", "HTTP://collector"),
    ],
)
def test_an_address_is_taken_as_it_is(address: str):
    """Names, IPv4 and IPv6, with a port, a path, a user."""
    assert http_url(address) == address


@pytest.mark.parametrize(
    "address",
    [
        *("collector:4318", "grpc://collector", "unix:///tmp/socket", "http:/collector", "http://", "http:///v1"),
        *("http://[::1/v1", "http://::1]/v1", "http://[::g]", "http://[::1]x", "http://[]", "http://999.0.0.1"),
        *("http://collector:port", "http://collector:65536", "http://collector:0", "http://collector:-1"),
        *("http://:4318", "http://col lector", "http://collector/a b", "http://user@", "http://collector/#there"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(address: str):
    """At the start, and not by every batch."""
    with pytest.raises(ValueError, match=r"."):
        http_url(address)


AUTHORITIES = st.lists(st.sampled_from([*"[]:@.%-/?", "::1", "127.0.0.1", "4318", "x", "\u00e4", "xn--"]), max_size=6)


@given(AUTHORITIES.map("".join))
def test_what_is_accepted_can_be_asked(authority: str):
    """Whatever an address is put together of, the HTTP client understands it, or it was refused."""
    try:
        address = http_url(f"http://{authority}")
    except ValueError:
        return
    request = httpx2.Request("POST", spans_url(address, ""))
    assert request.url.host
    assert all(" " < character <= "~" for character in request.headers["host"])


def test_headers_are_names_and_values():
    """Percent-encoded, spaces around them left out; an empty value is one."""
    assert otlp_headers("a=b%20c, d=e ,,f=") == (("a", "b c"), ("d", "e"), ("f", ""))
    assert otlp_headers("authorization=Basic%20dXNlcg==") == (("authorization", "Basic dXNlcg=="),)


@given(st.text(st.sampled_from("aZ0-_=,:% \t\n\0\u00e4!~209C"), max_size=12))
def test_what_is_accepted_can_be_sent(text: str):
    """Whatever is in the variable, an HTTP client writes it, or it was refused."""
    try:
        headers = otlp_headers(text)
    except ValueError:
        return
    h11.Request(method="POST", target="/", headers=[("host", "x"), *httpx2.Headers(list(headers)).raw])
