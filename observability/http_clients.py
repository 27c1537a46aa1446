"""One policy for all HTTP clients of this project: which proxy, whose certificates, which credentials.

The libraries' clients (requests, gRPC, OpenSSL, pyroscope-io) read variables of the environment, each other ones.
"""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final
from urllib.request import ProxyHandler, Request, build_opener

from observability.addresses import parts_of, scheme_of, service_url, without_credentials

LOOPBACK: Final = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_SCHEMES_OF_PROXIES: Final = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_AUTHORITIES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that name certificates of authorities; the first that is set holds for every client."""


class ProxyError(ValueError):
    """A variable for a proxy holds no address."""


def share_variables(environ: MutableMapping[str, str]) -> None:
    """Let every client that is made afterwards find the same proxies and authorities, and loopback without a proxy.

    A client's own variables go before: MLflow's for the registry, OpenTelemetry's for the collector.

    Args:
        environ: os.environ, which child processes inherit.

    Raises:
        ProxyError: a proxy's address is none, without its text: the libraries' own errors would quote a password.
    """
    for name in (spelt for each in _PROXIES for spelt in (each, each.upper())):
        if address := environ.get(name):
            _demand_address(name, address)
    found = {name: environ.get(name) or environ.get(name.upper()) for name in ("http_proxy", "https_proxy")}
    every = environ.get("all_proxy") or environ.get("ALL_PROXY")
    for name, address in found.items():
        if proxy := address or every:
            environ[name] = environ[name.upper()] = proxy
    bypassed = (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")
    names = [*filter(None, map(str.strip, bypassed))]
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(dict.fromkeys([*names, *LOOPBACK]))
    if authorities := _authorities(environ):
        environ["REQUESTS_CA_BUNDLE"] = authorities
        if Path(authorities).is_dir():
            environ["SSL_CERT_DIR"] = authorities
        else:
            environ["SSL_CERT_FILE"] = authorities
            environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH") or authorities


def _demand_address(name: str, proxy: str) -> None:
    try:
        parts_of(proxy if "://" in proxy else f"http://{proxy}", *_SCHEMES_OF_PROXIES)
    except ValueError:
        raise ProxyError(
            f"{name} ({scheme_of(proxy)}) is not the address of a proxy: expected http://HOST:PORT; write /, ?, #, @ "
            "and % of a password as %2F, %3F, %23, %40 and %25"
        ) from None


def _authorities(environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in _AUTHORITIES if environ.get(name)), None)


def get_text(url: str, seconds: float, token: str | None = None) -> str:
    """Return what a service of this project answers to a GET, asked without a proxy.

    User and password of the address, or the token, go to that service alone, and nowhere that it redirects to.

    Args:
        url: of http or https, as `addresses.service_url` accepts it.
        seconds: how long each step may take.
        token: of `Authorization: Bearer`.

    Raises:
        OSError: no answer, or another one than 200.
        http.client.HTTPException: what answers speaks no HTTP.
        ValueError: the address is none, without its text; or the answer is no UTF-8.
    """
    address, authorization = without_credentials(service_url(url))
    request = Request(address)  # noqa: S310 - http or https
    if token is not None:
        authorization = f"Bearer {token}"
    if authorization is not None:
        request.add_unredirected_header("Authorization", authorization)
    with build_opener(ProxyHandler({})).open(request, timeout=seconds) as answer:
        return str(answer.read().decode())
