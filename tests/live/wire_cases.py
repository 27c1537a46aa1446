"""Requests as bytes: well-formed ones, malformed ones, and those that smuggle a second request past a lenient parser.

Cases are those of RFC 9112, of h1spec, and of the literature on request smuggling (CL.TE, TE.CL, obfuscated fields).
`NAME` in the bytes stands for four digits, the number of the case.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

BODY: Final = b'{"a":1}'
H2C: Final = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
LENGTH: Final = b"Content-Length: 7\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
CHUNK: Final = b"7\r\n" + BODY + b"\r\n0\r\n\r\n"
HIDDEN: Final = b"GET /NAME/hidden HTTP/1.1\r\nHost: x\r\n\r\n"


class Request(NamedTuple):
    """What a parser makes of bytes: method, path, body."""

    method: str
    path: str
    body: bytes = b""


ONE: Final = Request("POST", "/NAME/one", BODY)
EMPTY: Final = Request("POST", "/NAME/one")
GET: Final = Request("GET", "/NAME/one")
SECOND: Final = Request("GET", "/NAME/hidden")


class Case(NamedTuple):
    """Bytes of one connection.

    may: the requests that a compliant parser may find in them, in this order; it may refuse any. must: it finds all.
    """

    sent: bytes
    may: Sequence[Request] = ()
    must: bool = False


def post(fields: bytes, rest: bytes, line: bytes = b"POST /NAME/one HTTP/1.1") -> bytes:
    """Return a request with these header fields, and what follows its head."""
    return line + b"\r\nHost: x\r\n" + fields + b"\r\n" + rest


def get(fields: bytes = b"", line: bytes = b"GET /NAME/one HTTP/1.1") -> bytes:
    """Return a request without a body."""
    return post(fields, b"", line)


VALID: Final = {
    "plain": Case(post(LENGTH, BODY), [ONE], must=True),
    "chunked": Case(post(CHUNKED, CHUNK), [ONE], must=True),
    "any-case": Case(post(b"TRANSFER-ENCODING: Chunked\r\n", CHUNK), [ONE], must=True),
    "spaces-around-value": Case(post(b"Content-Length: \t 7 \r\n", BODY), [ONE], must=True),
    "pipelined": Case(post(LENGTH, BODY) + get(), [ONE, GET], must=True),
    "pipelined-h2c": Case(post(H2C + LENGTH, BODY) + post(LENGTH, BODY), [ONE, ONE], must=True),
    "h2c": Case(post(H2C + LENGTH, BODY), [ONE], must=True),
    "h2c-chunked": Case(post(H2C + CHUNKED, CHUNK), [ONE], must=True),
    "upgrade-to-tls": Case(post(b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n" + LENGTH, BODY), [ONE], must=True),
    "upgrade-without-settings": Case(post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH, BODY), [ONE], must=True),
    "empty-line-before": Case(b"\r\n" + get(), [GET], must=True),
    "trailers": Case(post(CHUNKED, CHUNK[:-2] + b"X: y\r\n\r\n"), [ONE], must=True),
    "chunk-extension": Case(post(CHUNKED, CHUNK.replace(b"7\r", b"7;a=b\r")), [ONE], must=True),
    "expect-continue": Case(post(b"Expect: 100-continue\r\n" + LENGTH, BODY), [ONE], must=True),
    "absolute-form": Case(get(line=b"GET http://x/NAME/one HTTP/1.1"), [GET], must=True),
    "http-1.0": Case(b"POST /NAME/one HTTP/1.0\r\n" + LENGTH + b"\r\n" + BODY, [ONE], must=True),
    "close": Case(post(b"Connection: close\r\n" + LENGTH, BODY) + HIDDEN, [ONE], must=True),
    "get-with-body": Case(post(LENGTH, BODY, b"GET /NAME/one HTTP/1.1"), [GET._replace(body=BODY)], must=True),
}

LENGTHS: Final = {
    "same-length-twice": Case(post(LENGTH * 2, BODY), [ONE]),
    "same-length-in-a-list": Case(post(b"Content-Length: 7, 7\r\n", BODY), [ONE]),
    "two-lengths": Case(post(LENGTH + b"Content-Length: 0\r\n", BODY + HIDDEN)),
    "two-lengths-in-a-list": Case(post(b"Content-Length: 7, 0\r\n", BODY + HIDDEN)),
    "negative-length": Case(post(b"Content-Length: -7\r\n", BODY + HIDDEN)),
    "signed-length": Case(post(b"Content-Length: +7\r\n", BODY)),
    "hexadecimal-length": Case(post(b"Content-Length: 0x7\r\n", BODY)),
    "length-with-junk": Case(post(b"Content-Length: 7 7\r\n", BODY)),
    "empty-length": Case(post(b"Content-Length: \r\n", HIDDEN)),
    "length-beyond-64-bits": Case(post(b"Content-Length: 18446744073709551623\r\n", BODY + HIDDEN)),
    "other-digits-length": Case(post("Content-Length: \u0667\r\n".encode(), BODY)),
}

TRANSFER: Final = {
    "cl-te": Case(post(b"Content-Length: 43\r\n" + CHUNKED, b"0\r\n\r\n" + HIDDEN), [EMPTY]),
    "te-cl": Case(
        post(CHUNKED + b"Content-Length: 4\r\n", b"26\r\n" + HIDDEN + b"\r\n0\r\n\r\n"), [ONE._replace(body=HIDDEN)]
    ),
    "te-spaced-colon": Case(post(b"Transfer-Encoding : chunked\r\n" + LENGTH, CHUNK)),
    "te-folded": Case(post(b"Transfer-Encoding:\r\n chunked\r\n" + LENGTH, CHUNK), [ONE]),
    "te-as-a-fold": Case(post(b"X: y\r\n Transfer-Encoding: chunked\r\n" + LENGTH, BODY), [ONE]),
    "te-vertical-tab": Case(post(b"Transfer-Encoding: \x0bchunked\r\n" + LENGTH, CHUNK)),
    "te-quoted": Case(post(b'Transfer-Encoding: "chunked"\r\n' + LENGTH, CHUNK)),
    "te-unknown": Case(post(b"Transfer-Encoding: xchunked\r\n" + LENGTH, CHUNK)),
    "te-twice": Case(post(CHUNKED * 2, CHUNK), [ONE]),
    "te-two-fields": Case(post(b"Transfer-Encoding: cow\r\n" + CHUNKED + LENGTH, CHUNK), [ONE]),
    "te-chunked-not-last": Case(post(b"Transfer-Encoding: chunked, identity\r\n" + LENGTH, CHUNK)),
    "te-identity": Case(post(b"Transfer-Encoding: identity\r\n" + LENGTH, BODY)),
    "te-after-bare-lf": Case(post(b"X: y\nTransfer-Encoding: chunked\r\n", CHUNK), [ONE]),
    "te-after-bare-cr": Case(post(b"X: y\rTransfer-Encoding: chunked\r\n" + LENGTH, BODY)),
    "te-with-underscore": Case(post(b"Transfer_Encoding: chunked\r\n" + LENGTH, BODY), [ONE]),
    "te-in-http-1.0": Case(
        b"POST /NAME/one HTTP/1.0\r\nConnection: keep-alive\r\n" + CHUNKED + b"\r\n" + CHUNK + HIDDEN, [ONE]
    ),
    "te-named-in-connection": Case(post(b"Connection: Transfer-Encoding\r\n" + CHUNKED, CHUNK), [ONE]),
    "length-named-in-connection": Case(post(b"Connection: Content-Length\r\n" + LENGTH, BODY), [ONE]),
}

CHUNKS: Final = {
    "chunk-beyond-64-bits": Case(post(CHUNKED, b"10000000000000007\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN)),
    "negative-chunk": Case(post(CHUNKED, b"-7\r\n" + BODY + b"\r\n0\r\n\r\n")),
    "chunk-0x7": Case(post(CHUNKED, b"0x7\r\n" + BODY + b"\r\n0\r\n\r\n")),
    "chunk-size-missing": Case(post(CHUNKED, b"\r\n" + BODY + b"\r\n0\r\n\r\n")),
    "chunk-too-long": Case(post(CHUNKED, b"7\r\n" + BODY + b"X\r\n0\r\n\r\n")),
    "chunk-ends-in-bare-lf": Case(post(CHUNKED, b"7\n" + BODY + b"\n0\n\n"), [ONE]),
    "chunk-ends-in-bare-cr": Case(post(CHUNKED, b"7\r" + BODY + b"\r0\r\r" + HIDDEN)),
    "lf-in-an-extension": Case(post(CHUNKED, b"7;\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN), [ONE, SECOND]),
    "length-in-trailers": Case(post(CHUNKED, CHUNK[:-2] + b"Content-Length: 38\r\n\r\n") + HIDDEN, [ONE, SECOND]),
    "unfinished-chunk": Case(post(CHUNKED, b"26\r\n" + HIDDEN)),
}

HEADS: Final = {
    "space-before-colon": Case(post(b"Content-Length : 7\r\n", BODY + HIDDEN)),
    "no-colon": Case(get(b"nonsense\r\n")),
    "no-name": Case(get(b": y\r\n")),
    "space-in-name": Case(get(b"X Y: z\r\n")),
    "nul-in-name": Case(get(b"X\0Y: z\r\n")),
    "nul-in-value": Case(get(b"X: y\0z\r\n")),
    "cr-in-value": Case(get(b"X: y\rz\r\n")),
    "folded": Case(get(b"X: y\r\n z\r\n"), [GET]),
    "bare-lf": Case(get().replace(b"\r\n", b"\n"), [GET]),
    "first-field-begins-with-space": Case(b"GET /NAME/one HTTP/1.1\r\n Host: x\r\n\r\n"),
    "no-host": Case(b"GET /NAME/one HTTP/1.1\r\n\r\n", [GET]),
    "two-hosts": Case(get(b"Host: y\r\n")),
    "other-authority": Case(get(line=b"GET http://y/NAME/one HTTP/1.1")),
    "nul-in-target": Case(get(line=b"GET /NAME/\0one HTTP/1.1")),
    "space-in-target": Case(get(line=b"GET /NAME/one /hidden HTTP/1.1")),
    "tab-in-line": Case(get(line=b"GET\t/NAME/one\tHTTP/1.1"), [GET]),
    "no-slash": Case(get(line=b"GET NAME/one HTTP/1.1")),
    "http-0.9": Case(b"GET /NAME/one\r\n"),
    "http-1.2": Case(get(line=b"GET /NAME/one HTTP/1.2"), [GET]),
    "http-2.0": Case(get(line=b"GET /NAME/one HTTP/2.0"), [GET]),
    "http-lower-case": Case(get(line=b"GET /NAME/one http/1.1")),
    "no-version": Case(get(line=b"GET /NAME/one HTTP/")),
    "websocket": Case(get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), [GET]),
    "h2-preface": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + HIDDEN),
    "tls": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
    "connect": Case(get(line=b"CONNECT x:80 HTTP/1.1") + HIDDEN, [SECOND]),
    "trace": Case(get(line=b"TRACE /NAME/one HTTP/1.1")),
    "unknown-method": Case(get(line=b"BREW /NAME/one HTTP/1.1")),
    "lower-case-method": Case(get(line=b"get /NAME/one HTTP/1.1")),
    "huge-field": Case(get(b"X: " + b"y" * 20_000 + b"\r\n")),
    "huge-head": Case(get(b"X: " + b"y" * 200_000 + b"\r\n")),
    "many-fields": Case(get(b"X: y\r\n" * 120)),
    "head-without-end": Case(get(b"X: y\r\n")[:-2]),
    "body-too-large": Case(post(b"Content-Length: 65537\r\n", b"x" * 65_537)),
    "chunks-too-large": Case(post(CHUNKED, b"10001\r\n" + b"x" * 65_537 + b"\r\n0\r\n\r\n")),
    "body-without-end": Case(post(b"Content-Length: 38\r\n", HIDDEN[:-4])),
    "proxy-protocol": Case(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + HIDDEN),
}

CASES: Final = VALID | LENGTHS | TRANSFER | CHUNKS | HEADS
