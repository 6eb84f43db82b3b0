"""Clients through sentinels: the place comes from them, the login from the URL; nothing connects when one is made."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from contracts.settings import ShardAddress
from serving.boards.acknowledged import refusal_of
from serving.boards.clients import blocking_client_of, client_of, close_blocking_client
from serving.boards.outbox import Outbox

pytestmark = pytest.mark.unit
ADDRESS = ShardAddress("redis://user:secret@nowhere:1/3", ("127.0.0.1:1", "127.0.0.1:2"), "valkey_1", 1)


def test_the_login_is_the_urls_and_the_place_the_sentinels() -> None:
    made = (client_of(ADDRESS, max_connections=2), client_of(ADDRESS, max_connections=2, wait_s=1.0))
    blocking = blocking_client_of(ADDRESS)
    for pool in (*(client.connection_pool for client in made), blocking.connection_pool):
        options = pool.connection_kwargs
        assert ("user", "secret", 3) == (options["username"], options["password"], options["db"])
        assert "host" not in options and "valkey_1" == pool.service_name
    close_blocking_client(blocking)


def test_sentinels_that_are_away_are_an_error_that_is_tried_again() -> None:
    outbox = Outbox(ADDRESS)
    with pytest.raises(RedisConnectionError, match="No master found for 'valkey_1'"):
        outbox.last_seq()
    outbox.close()


def test_only_a_refusal_to_write_is_one() -> None:
    assert refusal_of(RedisConnectionError("away")) is None
    assert refusal_of(ValueError("OOM is in the text")) is None
