"""What settlements have made public, now or as of one of them: snapshots, days and months, corrections in force.

Every reader of settled boards goes through here (CONTRACTS D3). One statement reads the settlement and what was in force
with it, so that boards and corrections are of one moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from contracts import names
from contracts.boards import Board
from contracts.corrections import Correction, decode
from contracts.errors import BadInput
from contracts.periods import iso_ms
from contracts.ranges import Settled
from serving.connections import Connections


@dataclass(frozen=True, slots=True)
class At:
    """As of when a board is asked for: now, as one settlement left it, or as it was published at an instant (UTC µs)."""

    settlement: str = ""
    as_of_us: int | None = None

    @property
    def past(self) -> bool:
        return bool(self.settlement) or self.as_of_us is not None


NOW = At()
LISTED = "GET /v1/settlements lists them, with what each published"


@dataclass(frozen=True, slots=True)
class Publication:
    """A settlement: when it was made (UTC µs), snapshots by table, the corrections that held with it.

    past: asked for as such, so nothing that came later may be used; else it is the newest. No id: nothing is settled.
    """

    id: str = ""
    created_at_us: int = 0
    snapshots: Mapping[str, int] = field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    past: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """The settlement that published a period: snapshot of `rankings`, its rules (joined by commas), when (UTC µs)."""

    settlement: str
    snapshot_id: int
    rule: str
    created_at_us: int


# now() is that of the transaction that inserts a settlement and puts its corrections in force: the instants are equal.
_PUBLICATION = (
    "select s.id, (extract(epoch from s.created_at) * 1000000)::bigint, s.snapshots, array(select c.event from corrections c"
    " where c.in_force_at is not null and (not %(past)s or c.in_force_at <= s.created_at) order by c.id)"
    " from settlements s where (%(id)s = '' or s.id = %(id)s)"
    # to the ms, as replies say it: the `as_of` of a reply names the settlement that it came from
    " and (%(as_of_us)s::bigint is null or floor(extract(epoch from s.created_at) * 1000) <= %(as_of_us)s::bigint / 1000)"
    " order by s.id::bigint desc limit 1"
)


async def publication(connections: Connections, at: At) -> Publication:
    """The newest settlement, the named one, or the newest at an instant.

    Raises BadInput(unknown_settlement, 404) where there is none of that name or of that time, SystemMissing while
    Postgres is down: nobody else knows.
    """
    values = {"past": at.past, "id": at.settlement, "as_of_us": at.as_of_us}
    async with connections.sql() as sql:
        row = await (await sql.execute(_PUBLICATION, values)).fetchone()
        if row is None and not at.past:
            # No board was ever published; a correction may hold all the same (it had nothing to publish again).
            held = await sql.execute(
                "select event from corrections where in_force_at is not null order by id"
            )
            return Publication(corrections=tuple(decode(bytes(one[0])) for one in await held.fetchall()))
    if row is None:
        which = f"settlement {at.settlement[:40]!r}" if at.settlement else "settlement"
        when = "" if at.as_of_us is None else f" made by {iso_ms(at.as_of_us)}"
        raise BadInput("unknown_settlement", f"there is no {which}{when}", next_step=LISTED, status=404)
    ident, created_at_us, snapshots, events = row
    known = {name: int(snapshot) for name, snapshot in snapshots.items()}
    return Publication(ident, created_at_us, known, tuple(decode(bytes(one)) for one in events), at.past)


async def settled_of(
    connections: Connections, of: Publication, zone: str, first: date, last: date
) -> Settled:
    """Which days from `first` to `last`, and which months, of a zone a settlement or an earlier one had published."""
    if not of.id:
        return Settled()
    async with connections.sql() as sql:
        found = await sql.execute(
            "select distinct period, start from settlement_periods where period in ('daily', 'monthly') and zone = %s"
            " and start between %s and %s and settlement_id::bigint <= %s",
            [zone, first, last, int(of.id)],
        )
        rows = await found.fetchall()

    def starts(period: str, table: str) -> frozenset[date]:
        return frozenset(start for kind, start in rows if kind == period and table in of.snapshots)

    return Settled(starts("daily", "user_days"), starts("monthly", "user_months"))


async def published(
    connections: Connections, board: Board, *, named: str = "", newest: str = ""
) -> Published | None:
    """The settlement that a period's board is read from; None if it is not settled.

    named: only that settlement will do; raises BadInput(unknown_settlement, 404) if it did not publish this period.
    newest: nothing after that settlement. Raises SystemMissing while Postgres is down.
    """
    query = (
        "select s.id, (s.snapshots->>'rankings')::bigint, s.rule,"
        " (extract(epoch from s.created_at) * 1000000)::bigint from settlement_periods p"
        " join settlements s on s.id = p.settlement_id where p.period = %s and p.start = %s and p.zone = %s"
        " and (%s = '' or s.id = %s) and (%s = '' or s.id::bigint <= %s) order by p.version desc limit 1"
    )
    values = [board.period, board.start, board.zone, named, named, newest, int(newest or 0)]
    async with connections.sql() as sql:
        row = await (await sql.execute(query, values)).fetchone()
    if row is None and named:
        raise BadInput(
            "unknown_settlement",
            f"settlement {named[:40]!r} did not publish {board.key}",
            next_step=LISTED,
            status=404,
        )
    return Published(*row) if row else None


async def ingested_at_us(connections: Connections) -> int:
    """When the last ingest of answers that succeeded began, UTC µs; 0 before the first."""
    async with connections.sql() as sql:
        found = await sql.execute("select value from deployment where key = %s", [names.ANSWERS_INGESTED])
        row = await found.fetchone()
    return int(row[0]) if row else 0
