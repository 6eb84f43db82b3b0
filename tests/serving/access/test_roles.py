"""Tokens, and the table route × role generated from the code."""

from __future__ import annotations

import pytest

from contracts.errors import BadInput
from serving.access.roles import table
from serving.access.tokens import PLAYER, TOKEN_LIFE_S, Identity, read, sign
from serving.api import create_app

pytestmark = pytest.mark.unit
KEY = "a key that is long enough for HS256, surely"


def test_a_token_returns_its_identity_and_expires() -> None:
    identity = Identity("u1", PLAYER, 7, "s1", "q1", "Ada")
    assert identity == read(sign(identity, KEY), KEY)
    for token in (sign(identity, KEY + "x"), sign(identity, KEY, now_s=1_000_000_000), "x.y.z", ""):
        with pytest.raises(BadInput, match="unauthenticated"):
            read(token, KEY)
    assert TOKEN_LIFE_S > 11 * 3600


def test_every_route_has_its_roles() -> None:
    rows = {(method, path): roles for method, path, roles in table(create_app({}))}
    assert rows["POST", "/v1/sessions/{session_id}/answers"] == "player"
    for move in ("next", "skip", "pause", "lock", "end", "players/{user_id}/remove"):
        assert rows["POST", f"/v1/sessions/{{session_id}}/{move}"] == "host"
    assert rows["POST", "/v1/import/answers"] == "importer"
    assert rows["POST", "/internal/barriers"] == "importer"
    for (_, path), roles in rows.items():
        if path.startswith(("/internal", "/v1/import")):
            assert roles == "importer", path
