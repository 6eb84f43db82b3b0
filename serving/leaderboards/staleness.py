"""Whether Redis' boards lack what an adjustment has published: said in Postgres by who publishes, taken back by a rebuild.

The adjustment writes it in the transaction of its settlement (spark_jobs/publish.py), so a crash between publishing and
rebuilding is seen by whoever comes next.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import psycopg

_STALE, _SEQ = "boards_stale", "boards_rebuilt_seq"


def why(sql: psycopg.Connection) -> str | None:
    """The settlement (or `corrections`) that Redis' boards lack; None if they lack nothing."""
    row = sql.execute("SELECT value FROM deployment WHERE key = %s", (_STALE,)).fetchone()
    return row[0] if row else None


def made_again(sql: psycopg.Connection, stale: str | None, seqs: Sequence[int]) -> None:
    """Boards hold each shard's answers up to seqs, late ones too; what has become stale since stays so."""
    known = json.dumps({str(shard): seq for shard, seq in enumerate(seqs)})
    with sql.transaction():
        sql.execute(
            "INSERT INTO deployment VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (_SEQ, known),
        )
        sql.execute("DELETE FROM deployment WHERE key = %s AND value = %s", (_STALE, stale))
