"""The boards that are asked for most, before the framework: a running quiz' or the global board of a period, from Redis.

Same reply to the byte as the route's, which takes over whenever a request is anything else: another parameter, a board
that has ended, a zone or a rule that this process has not seen yet, any error. What the framework does around a route costs
several times what reading the board does (benchmarks/RESULTS.md, `bench boards`).
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from types import SimpleNamespace

import redis.exceptions
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.boards import Board
from contracts.boards import Scope as BoardScope
from contracts.errors import LakeboardError
from contracts.identity import checked_id
from contracts.periods import parse_start, span
from contracts.replies import DEFAULT_K, DEFAULT_M, MAX_K, MAX_M, MAX_USERS, Wanted
from serving.connections import Connections
from serving.leaderboards import live_boards
from serving.leaderboards.conditional import CACHE_CONTROL, body_of, tag_of
from serving.metrics import LEAN_READS
from serving.problems import of_valkey
from serving.sessions.store import now_us

LOG = logging.getLogger(__name__)
# What the metrics count its requests under: the route that it stands for.
ROUTE = SimpleNamespace(path="/v1/leaderboards/{scope}/{period}/{start}")
PATH = re.compile(r"/v1/leaderboards/(global|quiz:[^/%]+)/([a-z_]+)/([0-9-]{10}|current)")
# A query of other characters than these, or other names, is the route's to read.
QUERY = re.compile(r"(?:k=[0-9]{1,4}|m=[0-9]{1,3}|(?:around|users)=[A-Za-z0-9_,.:-]*)(?:&|$)")
# How long `current` names the same board here; its end is looked at each time.
REMEMBER_S = 1.0
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Known:
    """A board that a path names: until when (monotonic s), and when it ends (UTC µs)."""

    board: Board
    until: float
    end_us: int


class LeanBoards:
    """Before every layer but the metrics: nothing that it answers is a body, a socket or somebody's own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._known: dict[str, _Known] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and scope["path"].startswith("/v1/leaderboards/")
        ):
            try:
                body = await self._reply(scope)
            except redis.exceptions.RedisError as error:
                # The route would only ask the same shard again.
                scope["route"] = ROUTE
                await of_valkey(scope["path"], error)(scope, receive, send)
                return
            if body is not None:
                scope["route"] = ROUTE
                LEAN_READS.inc()
                headers = [
                    (b"content-length", str(len(body)).encode()),
                    (b"content-type", b"application/json"),
                    (b"etag", tag_of(body).encode()),
                    (b"cache-control", CACHE_CONTROL.encode()),
                ]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await self.app(scope, receive, send)

    async def _reply(self, scope: Scope) -> bytes | None:
        """The reply's body; None where the route must say it, errors too."""
        path = PATH.fullmatch(scope["path"])
        if path is None or any(name == b"if-none-match" for name, _ in scope["headers"]):
            return None
        try:
            wanted = wanted_of(scope["query_string"].decode("latin-1"))
            connections = scope["app"].state.connections if "app" in scope else None
            if wanted is None or connections is None:
                return None
            known = self._board(connections, path)
            if known is None or known.end_us <= now_us():
                return None
            board = known.board
            quiz_id = board.scope.id if board.scope.kind == "quiz" else None
            rules = connections.rules.get(quiz_id or "")
            if rules is None or rules[0] < time.monotonic():
                return None
            reply = await live_boards.read_board(
                connections, board, board.anchor_us, board.tick_us, quiz_id, wanted, rules[1]
            )
            return body_of(reply)
        except LakeboardError:
            return None
        except redis.exceptions.RedisError:
            raise
        except Exception as error:
            LOG.warning("lean_failed path=%s error=%r", scope["path"], error)
            return None

    def _board(self, connections: Connections, path: re.Match[str]) -> _Known | None:
        """Raises BadInput for a name that is none."""
        found = self._known.get(path[0])
        if found is not None and found.until > time.monotonic():
            return found
        scope = BoardScope.parse(path[1])
        zone = "UTC" if scope.kind != "quiz" else connections.quiz_zones.get(scope.id)
        if zone is None:
            return None
        board = Board(scope, path[2], parse_start(path[2], path[3], now_us(), zone), zone)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        until = time.monotonic() + REMEMBER_S
        known = self._known[path[0]] = _Known(board, until, span(board.period, board.start, zone).end_us)
        return known


def wanted_of(query: str) -> Wanted | None:
    """What a query asks for; None if it is not plain. Raises BadInput(invalid_id). Pure."""
    found: dict[str, str] = {}
    at = 0
    while at < len(query):
        part = QUERY.match(query, at)
        if part is None:
            return None
        name, _, value = part[0].rstrip("&").partition("=")
        if name in found:
            return None
        found[name] = value
        at = part.end()
    k, m = int(found.get("k", DEFAULT_K)), int(found.get("m", DEFAULT_M))
    around = found.get("around", "")
    users = tuple(dict.fromkeys(found["users"].split(","))) if found.get("users") else ()
    if k > MAX_K or m > MAX_M or len(users) > MAX_USERS:
        return None
    for user in (*users, *((around,) if around else ())):
        checked_id(user, "users")
    return Wanted(k, around, m, users)
