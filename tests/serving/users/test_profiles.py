"""The cache of profiles: never older than a change that was told, whatever comes between; look-ups are shared."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import names
from contracts.errors import SystemMissing
from contracts.settings import Settings
from serving.connections import Connections
from serving.migrations.upgrade import upgrade
from serving.users.profiles import Kept, Profiles, decoded, encoded

service = pytest.mark.service


@pytest.mark.property
@given(st.integers(0, 2**40), st.text(), st.text(), st.booleans())
def test_what_is_kept_is_read_back(version: int, name: str, avatar: str, anonymous: bool) -> None:
    kept = Kept(version, name, avatar, anonymous)
    assert kept == decoded(f"{version}|{encoded(kept)}")
    assert decoded(f"{version}|") is None


@pytest.mark.unit
def test_what_is_none_of_ours_is_looked_up_again() -> None:
    for text in (None, "", "x", "1|", "1|{}", '1|["a"]', 'x|["a","",false]'):
        assert decoded(text) is None


@asynccontextmanager
async def opened(valkey_urls: list[str], postgres_url: str) -> AsyncIterator[Connections]:
    connections = Connections.of(Settings(valkey_urls=tuple(valkey_urls), postgres_url=postgres_url))
    await asyncio.to_thread(upgrade, postgres_url)
    await connections.postgres.open(wait=False)
    try:
        yield connections
    finally:
        await connections.close()


async def new_user(connections: Connections, name: str) -> str:
    user = uuid.uuid4().hex
    async with connections.sql() as sql:
        await sql.execute("insert into users (user_id, name, origin) values (%s, %s, 'live')", [user, name])
    return user


async def rename(connections: Connections, user: str, name: str) -> None:
    async with connections.sql() as sql, connections.profiles.change(sql, user):
        await sql.execute("update users set name = %s where user_id = %s", [name, user])


async def name_of(profiles: Profiles, user: str) -> str:
    return (await profiles.of([user]))[user].name


def run(valkey_urls: list[str], postgres_url: str, work: Callable[[Connections], Awaitable[None]]) -> None:
    async def go() -> None:
        async with opened(valkey_urls, postgres_url) as connections:
            await work(connections)

    asyncio.run(go())


@service
def test_a_reader_that_began_before_a_change_keeps_nothing_old(
    valkey_urls: list[str], postgres_url: str
) -> None:
    async def work(connections: Connections) -> None:
        user = await new_user(connections, "before")
        read, may_go = asyncio.Event(), asyncio.Event()

        class Slow(Profiles):
            async def read(self, ids: list[str]) -> dict[str, Kept] | None:
                found = await super().read(ids)
                read.set()
                await may_go.wait()
                return found

        slow_reader = Slow(connections.profiles._scripts, connections.sql)
        reading = asyncio.create_task(slow_reader.of([user]))
        await read.wait()  # has read "before" from Postgres, and has not kept it yet
        await rename(connections, user, "after")
        may_go.set()
        await reading
        fresh = Profiles(connections.profiles._scripts, connections.sql)
        assert "after" == await name_of(fresh, user) == await name_of(slow_reader, user)

    run(valkey_urls, postgres_url, work)


@service
def test_a_change_that_dies_at_any_step_leaves_no_old_name(valkey_urls: list[str], postgres_url: str) -> None:
    async def work(connections: Connections) -> None:
        profiles = connections.profiles
        user = await new_user(connections, "one")
        assert "one" == await name_of(profiles, user)
        # Dies after the mark, before it commits: Postgres says "one", the mark sends readers there.
        with pytest.raises(RuntimeError):
            async with connections.sql() as sql, profiles.change(sql, user):
                await sql.execute("update users set name = 'never' where user_id = %s", [user])
                raise RuntimeError
        assert "one" == await name_of(profiles, user)
        # Dies after the commit, before it keeps what it wrote.
        async with connections.sql() as sql, sql.transaction():
            await profiles._fence(sql, [user])
            await sql.execute("update users set name = 'two' where user_id = %s", [user])
        assert "two" == await name_of(profiles, user)
        await rename(connections, user, "three")
        assert "three" == await name_of(profiles, user)

    run(valkey_urls, postgres_url, work)


@service
def test_cache_and_database_that_disagree(valkey_urls: list[str], postgres_url: str) -> None:
    async def work(connections: Connections) -> None:
        profiles = connections.profiles
        user = await new_user(connections, "true")
        key = names.user_profile(user)
        shard = next(i for i, _ in enumerate(profiles._scripts) if i in profiles._by_shard([user]))
        client = profiles._scripts[shard].client
        await client.set(key, "rubbish")
        assert "true" == await name_of(profiles, user)
        # An older version never takes a newer one's place, by whatever way it comes.
        await rename(connections, user, "newer")
        await profiles._keep({user: Kept(0, "true")})
        assert "newer" == (decoded(await client.get(key)) or Kept(0, "")).name
        # A cache that lost everything costs a query.
        await client.delete(key)
        assert "newer" == await name_of(profiles, user)
        assert 0 < await client.ttl(key) <= 3600
        # A database that went back: its versions go on above what the cache has, so that a change shows.
        await client.set(key, f"9|{encoded(Kept(9, 'of another life'))}")
        await rename(connections, user, "of this one")
        assert "of this one" == await name_of(profiles, user)
        assert Kept(10, "of this one") == decoded(await client.get(key))

    run(valkey_urls, postgres_url, work)


@service
def test_without_the_cache_nothing_changes_and_everything_is_read(
    valkey_urls: list[str], postgres_url: str
) -> None:
    async def work(connections: Connections) -> None:
        user = await new_user(connections, "kept")
        dead = Connections.of(Settings(valkey_urls=("redis://127.0.0.1:1/0",), postgres_url=postgres_url))
        await dead.postgres.open(wait=False)
        try:
            assert "kept" == await name_of(dead.profiles, user)
            with pytest.raises(SystemMissing):
                await rename(dead, user, "lost")
            assert "kept" == await name_of(connections.profiles, user)
        finally:
            await dead.close()
        # And without Postgres what the cache has holds.
        for script in connections.profiles._scripts:
            await script.client.ping()
        alone = Profiles(connections.profiles._scripts, no_postgres)
        assert "kept" == await name_of(alone, user)

    run(valkey_urls, postgres_url, work)


@asynccontextmanager
async def no_postgres() -> AsyncIterator[psycopg.AsyncConnection]:
    """As `Connections.sql` is while Postgres is away."""
    raise SystemMissing("system_missing", "Postgres does not answer")
    yield


@service
def test_many_changes_and_readers_at_once(valkey_urls: list[str], postgres_url: str) -> None:
    """Readers never see a name older than one whose change had been told before they asked."""

    async def work(connections: Connections) -> None:
        user = await new_user(connections, "0")
        told, others = (
            0,
            [Profiles(connections.profiles._scripts, connections.sql) for _ in range(3)],
        )
        over = False

        async def read(profiles: Profiles) -> int:
            looks = 0
            while not over:
                least = told
                assert int(await name_of(profiles, user)) >= least
                looks += 1
            return looks

        readers = [asyncio.create_task(read(profiles)) for profiles in others]
        for number in range(1, 31):
            await rename(connections, user, str(number))
            told = number
        over = True
        assert all(looks > 10 for looks in await asyncio.gather(*readers))

    run(valkey_urls, postgres_url, work)
