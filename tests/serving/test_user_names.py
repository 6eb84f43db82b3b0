"""Names are looked up together: one query at a time, everybody in it, nobody twice while it is remembered."""

from __future__ import annotations

import asyncio

import pytest

from serving.user_names import UserNames

pytestmark = pytest.mark.unit


def test_many_who_ask_at_once_share_queries() -> None:
    asked: list[list[str]] = []
    under_way, may_end = 0, asyncio.Event()

    async def read(ids: list[str]) -> dict[str, str]:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        asked.append(ids)
        await may_end.wait()
        under_way -= 1
        return {user: user.upper() for user in ids if user != "nobody"}

    async def go() -> None:
        names = UserNames(read)
        first = asyncio.create_task(names.of(["a", "nobody"]))
        while not asked:  # under way: those who come now share the next one
            await asyncio.sleep(0)
        gone = asyncio.create_task(names.of(["b"]))
        rest = [asyncio.create_task(names.of([user, "a"])) for user in "bcb"]
        await asyncio.sleep(0)
        gone.cancel()
        may_end.set()
        assert {"a": "A"} == await first
        assert [{"a": "A", "b": "B"}, {"a": "A", "c": "C"}, {"a": "A", "b": "B"}] == await asyncio.gather(
            *rest
        )
        assert [["a", "nobody"], ["a", "b", "c"]] == asked
        assert {"b": "B"} == await names.of(["b", "nobody"])
        assert 2 == len(asked)

    asyncio.run(go())


def test_while_nobody_can_say_what_was_known_holds() -> None:
    there = True

    async def read(ids: list[str]) -> dict[str, str] | None:
        return {user: user.upper() for user in ids} if there else None

    async def go() -> None:
        nonlocal there
        names = UserNames(read)
        assert {"a": "A"} == await names.of(["a"])
        there = False
        names._known["a"] = (0.0, "A")  # as after ten seconds
        assert {"a": "A"} == await names.of(["a", "b"])
        there = True
        assert {"a": "A", "b": "B"} == await names.of(["a", "b"])

    asyncio.run(go())


def test_what_was_learned_first_goes_first() -> None:
    async def read(ids: list[str]) -> dict[str, str]:
        return {user: user.upper() for user in ids}

    async def go() -> None:
        names = UserNames(read, most=4)
        for user in "abcd":
            await names.of([user])
        assert ["a", "b", "c", "d"] == list(names._known)  # full, and nobody has gone
        assert {"e": "E", "a": "A"} == await names.of(["e", "a"])
        assert ["b", "c", "d", "e"] == list(names._known)

    asyncio.run(go())
