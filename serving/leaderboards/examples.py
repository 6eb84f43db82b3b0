"""Examples of boards' replies for OpenAPI."""

from __future__ import annotations

from typing import Any

ENTRY: dict[str, Any] = {
    "rank": 1,
    "user_id": "u_8Zt",
    "points": 4310,
    "reached_at": "2026-03-02T17:59:41.000Z",
    "name": "Ada",
    "avatar_url": None,
}
PROVENANCE: dict[str, Any] = {
    "source": "rankings",
    "exactness": "exact",
    "as_of": "2026-03-09T00:15:21.000Z",
    "state": "settled",
    "rules": ["speed@1"],
    "bound": None,
    "settlement": "7",
    "replica": False,
}
BOARD: dict[str, Any] = {
    "scope": "quiz:starter-a1",
    "period": "weekly",
    "start": "2026-03-02",
    "entries": [ENTRY],
    "participants": 1,
    "provenance": PROVENANCE,
    "me": ENTRY,
    "around": [ENTRY],
    "end": None,
    "ranks": [{"user_id": "u_8Zt", "entry": ENTRY}, {"user_id": "u_none", "entry": None}],
    "subject": "user",
    "measure": "points",
}
RANGE: dict[str, Any] = {
    **BOARD,
    "period": "range",
    "start": "2026-02-27T23:00:00.000Z",
    "end": "2026-03-09T23:00:00.000Z",
    "participants": 12_800,
    "provenance": {
        **PROVENANCE,
        "source": "lake",
        "exactness": "estimate",
        "state": "provisional",
        "bound": {"value": 1885, "confidence": 0.95},
    },
    "explain": {
        "parts": [
            {
                "source": "user_days",
                "from": "2026-02-28T00:00:00.000Z",
                "to": "2026-03-01T00:00:00.000Z",
                "day": "2026-02-28",
                "month": None,
                "zone": None,
            }
        ],
        "files": 1,
        "bytes": 20_480,
        "rows": 812,
        "elapsed_ms": 14.2,
    },
}
RANKS: dict[str, Any] = {
    "user_id": "u_8Zt",
    "ranks": [
        {
            "board": "global/daily/2026-03-02",
            "entry": ENTRY,
            "participants": 1,
            "provenance": PROVENANCE,
            "error": None,
        }
    ],
}
