"""One server for all tests that share nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feedback.stores import file_of
from tests.live.redis_server import FORGETFUL, RedisServer, running_redis
from tests.needs import needs

KINDS = ("memory", "sqlite", pytest.param("redis", marks=needs("redis-server")))


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that nobody kills."""
    with running_redis(tmp_path_factory.mktemp("redis"), FORGETFUL) as server:
        yield server


@pytest.fixture
def redis_server(one_redis: RedisServer) -> RedisServer:
    """That server, empty."""
    one_redis.client.flushall()
    return one_redis


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a fresh store of each kind."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_server").url)
    return file_of(tmp_path) if request.param == "sqlite" else "memory://"
