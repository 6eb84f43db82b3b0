"""The cache of quizzes as others see them: never older than a change that was told, whatever comes between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import names
from contracts.errors import BadInput, SystemMissing
from contracts.settings import Settings
from serving import cached
from serving.connections import Connections
from serving.quizzes import library, store
from serving.quizzes.draft import PRIVATE, PUBLIC, UNLISTED, QuizDraft
from serving.quizzes.shown import Quizzes, ShownQuiz, body_of, decoded, encoded
from serving.quizzes.starter import starter_quizzes
from serving.quizzes.store import Owned
from tests.serving.api_process import ROOT
from tests.serving.quizzes.authors import quiz
from tests.serving.users.test_profiles import no_postgres, run

service = pytest.mark.service
ADA = "ada"


@pytest.mark.property
@given(
    st.integers(0, 2**40), st.text(), st.sampled_from([PRIVATE, PUBLIC]), st.integers(1, 2**31 - 1), st.text()
)
def test_what_is_kept_is_read_back(
    version: int, owner: str, visibility: str, published: int, title: str
) -> None:
    shown = {"quiz_id": "q_1", "title": title, "published_at": None}
    reply = json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()
    kept = ShownQuiz(version, owner, visibility, published, reply)
    assert kept == decoded(f"{version}|{encoded(kept)}")
    assert decoded(f"{version}|") is None
    for own in (True, False):
        assert {**shown, "own": own} == json.loads(body_of(kept, own))


@pytest.mark.unit
def test_what_is_none_of_ours_is_looked_up_again() -> None:
    whole = '["ada","public",1,{"quiz_id":"q_1"}]'
    assert decoded(f"1|{whole}") is not None
    for text in (
        None, "", "x", "1|", "1|{}", '1|["ada"]', '1|["ada","public",1,5]', '1|["ada","public",1,{}]',
        '1|["ada","public","1",{"quiz_id":"q_1"}]', f"x|{whole}", f"1|{whole[:-2]}",
    ):  # fmt: skip
        assert decoded(text) is None, text


async def published(connections: Connections, title: str = "Fruit", visibility: str = PUBLIC) -> str:
    """A quiz of Ada's that is played; its id."""
    made = await store.create(connections, ADA, QuizDraft.model_validate(quiz(title=title)))
    await store.set_visibility(connections, made.quiz_id, ADA, visibility)
    await store.publish(connections, made.quiz_id, ADA, made.revision)
    return made.quiz_id


async def entitle(connections: Connections, quiz_id: str, title: str) -> None:
    """The next version, with another title."""
    held = await store.own(connections, quiz_id, ADA)
    saved = await store.save(
        connections, quiz_id, ADA, held.draft.model_copy(update={"title": title}), held.revision
    )
    await store.publish(connections, quiz_id, ADA, saved.revision)


async def seen(connections: Connections, quiz_id: str, viewer: str = "") -> dict[str, Any] | None:
    """What a caller is told of a quiz; None for `unknown_quiz`."""
    try:
        return dict(json.loads(await library.show(connections, quiz_id, viewer)))
    except BadInput as error:
        assert ("unknown_quiz", 404) == (error.code, error.http_status)
        return None


async def title_of(quizzes: Quizzes, quiz_id: str) -> str:
    found = await quizzes.one(quiz_id)
    assert found is not None
    return str(json.loads(found.reply)["title"])


async def in_cache(connections: Connections, quiz_id: str) -> str | None:
    client = connections.texts[connections.ring.shard_of(quiz_id)]
    text: str | None = await client.get(names.shown_quiz(quiz_id))
    return text


def another(connections: Connections, kind: type[Quizzes] = Quizzes, sql: Any = None) -> Quizzes:
    """Another process' way to the same quizzes."""
    return kind(connections.quizzes._scripts, sql or connections.sql, connections.ring.shard_of)


@service
def test_every_change_shows_at_once_to_every_process(valkey_urls: list[str], postgres_url: str) -> None:
    async def work(connections: Connections) -> None:
        quiz_id = await published(connections)
        other = replace(connections)  # with a cache of its own

        async def told() -> None:
            """Both processes say what is now, to who may see it; and so does the cache alone."""
            hidden = as_now["visibility"] == PRIVATE
            for one in (other, connections, other):
                mine = await seen(one, quiz_id, ADA)
                assert mine is not None and {**as_now, "own": True}.items() <= mine.items()
                for viewer in ("", "bob"):
                    found = await seen(one, quiz_id, viewer)
                    assert found == (None if hidden else {**mine, "own": False})
            kept = await another(connections, sql=no_postgres).one(quiz_id)
            assert kept is not None and as_now.items() <= json.loads(kept.reply).items()

        as_now = {"title": "Fruit", "version": 1, "visibility": PUBLIC, "archived": False}
        await told()
        for visibility in (PRIVATE, UNLISTED, PRIVATE, PUBLIC):
            await store.set_visibility(connections, quiz_id, ADA, visibility)
            as_now["visibility"] = visibility
            await told()
        for back in (False, True):
            await store.archive(connections, quiz_id, ADA, back=back)
            as_now["archived"] = not back
            await told()
        held = await store.own(connections, quiz_id, ADA)
        changed = held.draft.model_copy(update={"title": "More fruit"})
        saved = await store.save(connections, quiz_id, ADA, changed, held.revision)
        await told()  # a draft is nobody's but its author's
        await store.publish(other, quiz_id, ADA, saved.revision)
        as_now |= {"title": "More fruit", "version": 2}
        await told()
        text = await in_cache(connections, quiz_id) or ""
        assert "More fruit" in text and "apple" not in text and "what number" not in text, "no question"

    run(valkey_urls, postgres_url, work)


@service
def test_what_was_never_published_is_in_no_cache(valkey_urls: list[str], postgres_url: str) -> None:
    async def work(connections: Connections) -> None:
        made = await store.create(connections, ADA, QuizDraft.model_validate(quiz(title="one")))
        quiz_id = made.quiz_id
        await store.set_visibility(connections, quiz_id, ADA, PUBLIC)

        async def titles() -> tuple[str | None, None, None]:
            found = await seen(connections, quiz_id, ADA)
            others = [await seen(connections, quiz_id, viewer) for viewer in ("", "bob")]
            assert [None, None] == others
            assert decoded(await in_cache(connections, quiz_id)) is None
            return found and found["title"], None, None

        assert "one" == (await titles())[0]
        await store.save(connections, quiz_id, ADA, QuizDraft.model_validate(quiz(title="two")), 1)
        assert "two" == (await titles())[0]
        await store.delete(connections, quiz_id, ADA)
        assert (await titles())[0] is None

    run(valkey_urls, postgres_url, work)


@service
@pytest.mark.parametrize("change", ["hide", "publish"])
def test_a_reader_that_began_before_a_change_keeps_nothing_old(
    valkey_urls: list[str], postgres_url: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "LOOK_UP_S", 60)  # it is held up here

    async def work(connections: Connections) -> None:
        quiz_id = await published(connections, "before")
        read, may_go = asyncio.Event(), asyncio.Event()

        class Slow(Quizzes):
            async def read(self, ids: list[str]) -> dict[str, ShownQuiz] | None:
                found = await super().read(ids)
                read.set()
                await may_go.wait()
                return found

        client = connections.texts[connections.ring.shard_of(quiz_id)]
        await client.delete(names.shown_quiz(quiz_id))
        slow_reader = another(connections, Slow)
        reading = asyncio.create_task(slow_reader.one(quiz_id))
        await read.wait()  # has read it from Postgres, and has not kept it yet
        if change == "hide":
            await store.set_visibility(connections, quiz_id, ADA, PRIVATE)
        else:
            await entitle(connections, quiz_id, "after")
        may_go.set()
        await reading
        for quizzes in (another(connections), slow_reader, another(connections, sql=no_postgres)):
            found = await quizzes.one(quiz_id)
            assert found is not None
            expected = (PRIVATE, "before") if change == "hide" else (PUBLIC, "after")
            assert expected == (found.visibility, json.loads(found.reply)["title"])
        assert (change == "hide") == (await seen(connections, quiz_id) is None)

    run(valkey_urls, postgres_url, work)


# Hides a quiz and is killed: after its mark, or after its commit and before it keeps anything.
_DIES = """
import asyncio, os, signal, sys
from contracts.settings import Settings
from serving.connections import Connections

async def main(valkey, postgres, quiz_id, step):
    connections = Connections.of(Settings(valkey_urls=tuple(valkey.split(",")), postgres_url=postgres))
    await connections.postgres.open(wait=False)
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if step == "committed":
        connections.quizzes._keep = die
    async with connections.sql() as sql, connections.quizzes.writing(sql) as begin:
        await begin(quiz_id)
        if step == "marked":
            die()
        await sql.execute("update quizzes set visibility = 'private' where quiz_id = %s", [quiz_id])

asyncio.run(main(*sys.argv[1:]))
"""


@service
@pytest.mark.parametrize("step", ["marked", "committed"])
def test_a_process_that_is_killed_in_a_change_leaves_nothing_old(
    valkey_urls: list[str], postgres_url: str, step: str
) -> None:
    async def work(connections: Connections) -> None:
        quiz_id = await published(connections)
        assert await seen(connections, quiz_id) is not None
        command = [sys.executable, "-c", _DIES, ",".join(valkey_urls), postgres_url, quiz_id, step]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        died = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=env, timeout=60)
        assert -signal.SIGKILL == died.returncode
        mark = await in_cache(connections, quiz_id) or ""
        assert mark.endswith("|") and decoded(mark) is None, "readers are sent to Postgres"
        for quizzes in (connections.quizzes, another(connections)):
            found = await quizzes.one(quiz_id)
            assert found is not None
            assert (PUBLIC if step == "marked" else PRIVATE) == found.visibility
        if step == "marked":
            assert mark == await in_cache(connections, quiz_id), "what is older is not kept while it is there"
        else:
            assert decoded(await in_cache(connections, quiz_id)) is not None
        await entitle(connections, quiz_id, "after")
        assert "after" == await title_of(another(connections, sql=no_postgres), quiz_id)

    run(valkey_urls, postgres_url, work)


@service
def test_cache_and_database_that_disagree(valkey_urls: list[str], postgres_url: str) -> None:
    async def work(connections: Connections) -> None:
        quiz_id = await published(connections, "true")
        quizzes, key = connections.quizzes, names.shown_quiz(quiz_id)
        client = connections.texts[connections.ring.shard_of(quiz_id)]
        old = await quizzes.one(quiz_id)
        assert old is not None
        await client.set(key, "rubbish")
        assert "true" == await title_of(quizzes, quiz_id)
        assert decoded(await client.get(key)) is not None, "and is written over"
        # An older one never takes a newer one's place, by whatever way it comes.
        await entitle(connections, quiz_id, "newer")
        await quizzes._keep({quiz_id: old})
        assert "newer" == await title_of(another(connections, sql=no_postgres), quiz_id)
        # A cache that lost everything costs a query.
        await client.delete(key)
        assert "newer" == await title_of(quizzes, quiz_id)
        assert 0 < await client.ttl(key) <= 3600
        # The database went back: the cache has what was shown in another life, until something changes.
        other_life = old._replace(version=90)
        await client.set(key, f"90|{encoded(other_life)}")
        assert "true" == await title_of(another(connections), quiz_id)
        await store.set_visibility(connections, quiz_id, ADA, UNLISTED)
        assert "newer" == await title_of(another(connections, sql=no_postgres), quiz_id)
        kept = decoded(await client.get(key))
        assert kept is not None and (91, UNLISTED) == (kept.version, kept.visibility)
        # Somebody changed the row by hand, past this: what was kept ends by itself, at the latest with the next change.
        async with connections.sql() as sql:
            await sql.execute("update quizzes set title = 'by hand' where quiz_id = %s", [quiz_id])
        assert "newer" == await title_of(quizzes, quiz_id)
        await store.archive(connections, quiz_id, ADA)
        assert "by hand" == await title_of(quizzes, quiz_id)

    run(valkey_urls, postgres_url, work)


@service
def test_without_valkey_postgres_answers_and_nothing_changes(
    valkey_urls: list[str], postgres_url: str
) -> None:
    async def work(connections: Connections) -> None:
        quiz_id = await published(connections)
        hidden = await published(connections, visibility=PRIVATE)
        before = await store.own(connections, quiz_id, ADA)
        dead = Connections.of(Settings(valkey_urls=("redis://127.0.0.1:1/0",), postgres_url=postgres_url))
        await dead.postgres.open(wait=False)
        try:
            assert "Fruit" == (await seen(dead, quiz_id) or {})["title"]
            assert await seen(dead, hidden) is None and await seen(dead, hidden, ADA) is not None
            draft = before.draft.model_copy(update={"title": "lost"})
            saved = await store.save(dead, quiz_id, ADA, draft, before.revision)  # a draft needs no shard
            for change in (
                store.publish(dead, quiz_id, ADA, saved.revision),
                store.set_visibility(dead, quiz_id, ADA, PRIVATE),
                store.archive(dead, quiz_id, ADA),
            ):
                with pytest.raises(SystemMissing):
                    await change
        finally:
            await dead.close()
        now: Owned = await store.own(connections, quiz_id, ADA)
        assert (1, PUBLIC, False) == (now.version, now.visibility, now.archived)
        assert "Fruit" == (await seen(connections, quiz_id) or {})["title"]

    run(valkey_urls, postgres_url, work)


@service
def test_without_postgres_the_cache_answers_or_nobody(valkey_urls: list[str], postgres_url: str) -> None:
    """What this process read once is never told in the cache's place: it may have been made private since."""

    async def work(connections: Connections) -> None:
        quiz_id, uncached = await published(connections), await published(connections)
        reader = another(connections)
        there = True

        @asynccontextmanager
        async def sometimes() -> Any:
            async with connections.sql() if there else no_postgres() as sql:
                yield sql

        reader._sql = sometimes
        assert "Fruit" == await title_of(reader, quiz_id)
        there = False
        assert "Fruit" == await title_of(reader, quiz_id)
        await connections.texts[connections.ring.shard_of(uncached)].delete(names.shown_quiz(uncached))
        with pytest.raises(SystemMissing):
            await reader.one(uncached)
        with pytest.raises(RuntimeError):
            async with connections.sql() as sql, connections.quizzes.writing(sql) as begin:
                await begin(quiz_id)
                raise RuntimeError
        with pytest.raises(SystemMissing):
            await reader.one(quiz_id)  # it is being written
        assert {} == await reader.of([quiz_id, uncached])
        there = True
        assert "Fruit" == await title_of(reader, quiz_id) == await title_of(reader, uncached)
        assert await reader.one("q_nobody") is None

    run(valkey_urls, postgres_url, work)


@service
def test_a_change_that_outlives_its_mark_is_undone(
    valkey_urls: list[str], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(connections: Connections) -> None:
        quiz_id = await published(connections)
        with monkeypatch.context() as short:
            short.setattr(cached, "CHANGE_MOST_S", cached.MARK_S)
            with pytest.raises(SystemMissing):
                await store.set_visibility(connections, quiz_id, ADA, PRIVATE)
        assert PUBLIC == (await store.own(connections, quiz_id, ADA)).visibility
        assert await seen(connections, quiz_id) is not None

    run(valkey_urls, postgres_url, work)


@service
def test_new_starter_words_show_at_once(
    valkey_urls: list[str], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(connections: Connections) -> None:
        # Of ids that no other test's shards have.
        first, second = (replace(one, quiz_id=f"starter-{uuid.uuid4().hex}") for one in starter_quizzes()[:2])
        monkeypatch.setattr(library, "starter_quizzes", lambda: (first, second))
        assert 2 == await library.load_starter(connections) and 0 == await library.load_starter(connections)
        assert first.draft.title == await title_of(connections.quizzes, first.quiz_id)
        changed = replace(first, draft=first.draft.model_copy(update={"title": "Newer words"}))
        monkeypatch.setattr(library, "starter_quizzes", lambda: (changed, second))
        assert 1 == await library.load_starter(connections)
        found = await seen(connections, first.quiz_id)
        assert found is not None and ("Newer words", 2) == (found["title"], found["version"])
        assert "Newer words" == await title_of(another(connections, sql=no_postgres), first.quiz_id)
        # Whoever starts with a Postgres that is empty counts on from what the shards have.
        async with connections.sql() as sql:
            await sql.execute("delete from quiz_versions where quiz_id = %s", [first.quiz_id])
            await sql.execute("delete from quizzes where quiz_id = %s", [first.quiz_id])
        monkeypatch.setattr(library, "starter_quizzes", lambda: (first, second))
        assert 1 == await library.load_starter(connections)
        assert first.draft.title == await title_of(another(connections, sql=no_postgres), first.quiz_id)

    run(valkey_urls, postgres_url, work)


@service
def test_many_changes_and_readers_at_once(valkey_urls: list[str], postgres_url: str) -> None:
    """Readers never see a title older than one whose change had been told before they asked."""

    async def work(connections: Connections) -> None:
        quiz_id = await published(connections, "0")
        told, over = 0, False

        async def read(quizzes: Quizzes) -> int:
            looks = 0
            while not over:
                least = told
                assert int(await title_of(quizzes, quiz_id)) >= least
                looks += 1
            return looks

        readers = [asyncio.create_task(read(another(connections))) for _ in range(3)]
        for number in range(1, 31):
            await entitle(connections, quiz_id, str(number))
            told = number
        over = True
        assert all(looks > 10 for looks in await asyncio.gather(*readers))

    run(valkey_urls, postgres_url, work)
