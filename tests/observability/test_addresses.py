"""Addresses that may hold a password: what is accepted is understood as it was meant, and shown without it."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from observability.addresses import (
    http_url,
    parts_of,
    profiles_url,
    scheme_of,
    service_url,
    without_credentials,
    without_user,
)
from observability.http_clients import ProxyError, share_variables

HOSTS = ["host", "ho_st.example", "192.0.2.1", "[2001:db8::1]", "bücher.example"]


@given(
    st.sampled_from(["http", "HTTPS", "redis", "rediss"]),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(HOSTS),
    st.sampled_from(["", ":5000"]),
)
@example("http", "12/s3cret", "host", ":5000")
@example("http", "12?s3cret", "host", ":5000")
@example("http", "12#s3cret", "host", "")
@example("http", "12\\s3cret", "host", "")
@example("http", "s3@cret", "host", "")
@example("redis", "12/", "host", "")
def test_an_accepted_address_has_the_host_that_was_meant(scheme: str, password: str, host: str, port: str):
    """Whatever a password holds: no part of it counts as the host, and none is shown; else the address is refused."""
    address = f"{scheme}://me:{password}@{host}{port}/0"
    try:
        parts = parts_of(address, "http", "https", "redis", "rediss")
    except ValueError as refused:
        assert str(refused) == "not an address"
        return
    assert (parts.hostname, parts.port) == (host.strip("[]"), 5000 if port else None)
    assert parts.password == password
    assert without_user(address) == f"{scheme}://{host}{port}/0"


@pytest.mark.parametrize("encoded", ["p%40ss", "p%2Fs", "p%3Fs", "p%23s", "p%25s", "p%20s", "p@ss", "gr%C3%BCn", ""])
@pytest.mark.parametrize("check", [http_url, service_url])
def test_a_password_in_the_form_of_a_url_is_accepted(check: Callable[[str], str], encoded: str):
    """Percent-encoded, or without what would have to be."""
    address = f"https://me:{encoded}@host:443/path"
    assert check(address) == address


@pytest.mark.parametrize(
    "address",
    [
        *("", "host", "host:5000", "http:host", "http://", "http://:80", "http:///me:s3cret@host", "ftp://host"),
        *("http://host:0", "http://host:99999", "http://host:port", "http://[::1", "http://::1", "http://a..b"),
        *(
            "http://.host",
            'http://ho"st',
            "http://h|st",
            "http://ho st",
            "http://host\n",
            "http://host#",
            "http://\udcff",
        ),
        *(f"http://{'a' * 64}", "http://host/x@y", "http://host/?x=@"),
    ],
)
@pytest.mark.parametrize("check", [http_url, service_url, profiles_url])
def test_what_a_library_could_stumble_over_is_refused_before(check: Callable[[str], str], address: str):
    """Without the text, and without another error's."""
    with pytest.raises(ValueError, match=r"^not (an|the) address") as refused:
        check(address)
    assert refused.value.__cause__ is None


def test_a_scheme_is_all_that_is_shown_of_what_cannot_be_parsed():
    """As it was written; nothing where there is none."""
    assert [scheme_of(each) for each in ("HTTP://me:s3cret", "redis://:s3cret/@h", "me:s3cret@host", "")] == [
        "HTTP://...",
        "redis://...",
        "***",
        "***",
    ]


def test_texts_of_libraries_lose_users_and_passwords():
    """Of any scheme, in any case."""
    text = "HTTP://me:p@ss@h/x failed: rediss://:s3cr/et@r:6379/0 and tcp://a@b; see http://h/docs"
    assert without_user(text) == "HTTP://h/x failed: rediss://r:6379/0 and tcp://b; see http://h/docs"


@pytest.mark.parametrize(
    ("url", "address", "credentials"),
    [
        ("http://host", "http://host", None),
        ("http://me:s3cret@host", "http://host", b"me:s3cret"),
        ("HTTPS://me:p%40%2F%C5%82@[::1]:80/path", "https://[::1]:80/path", "me:p@/ł".encode()),
        ("http://me:p@ss:w@host:1/", "http://host:1/", b"me:p@ss:w"),
        ("http://:s3cret@host", "http://host", b":s3cret"),
        ("http://me@host", "http://host", b"me:"),
        ("http://me:@host", "http://host", b"me:"),
    ],
)
def test_user_and_password_become_a_header(url: str, address: str, credentials: bytes | None):
    """Decoded, as bytes of UTF-8; the address is the same without them."""
    header = None if credentials is None else f"Basic {base64.b64encode(credentials).decode()}"
    assert without_credentials(url) == (address, header)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "address",
    ["http://u:s3cr/TAIL@h:1", "u:s3cr#TAIL@h:1", "http://u:s3cr@h:99999", "http://u:s3cr TAIL@h", "ftp://u:s3cr@h"],
)
def test_a_proxy_that_is_no_address_is_named_and_not_shown(name: str, address: str) -> None:
    """Libraries would ask what they take for the host, or quote a part of the password."""
    with pytest.raises(ProxyError) as told:
        share_variables({name: address})
    assert f"{name} (" in str(told.value)
    assert not {"s3cr", "TAIL"} & set(re.findall(r"\w+", str(told.value)))


@pytest.mark.parametrize("address", ["http://u:p%2Fw@h:3128", "h:3128", "u:p@h:3128", "socks5h://[::1]:1080/", ""])
def test_a_proxy_is_taken_in_every_spelling(address: str) -> None:
    """Curl knows those without a scheme, too."""
    environ = {"http_proxy": address}
    share_variables(environ)
    assert environ["http_proxy"] == address


@pytest.mark.parametrize("module", ["calsvc", "calsvc.training.promote", "streamsim"])
def test_every_command_says_so_in_one_line(module: str) -> None:
    """Before it asks anybody."""
    arguments = ["stream"] if module == "streamsim" else []
    environ = {each: value for each, value in os.environ.items() if "proxy" not in each.lower()}
    environ["https_proxy"] = "http://u:s3cr/TAIL@127.0.0.1:1"
    told = subprocess.run(
        [sys.executable, "-m", module, *arguments], env=environ, capture_output=True, text=True, check=False
    )
    assert told.returncode in {1, 2}
    (line,) = told.stderr.splitlines()
    assert "https_proxy (http://...) is not the address of a proxy" in line
