"""Who may do what with a class: its owner leads it, its members read it, an importer may read any.

A class outlives every session, so all of them have accounts: a seat in a session is nobody's for long.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from contracts.classes import Roster
from contracts.errors import BadInput
from contracts.periods import FOREVER_US
from serving.access.roles import identify
from serving.access.tokens import IMPORTER, SEAT, Identity
from serving.classes.store import ClassStore, SchoolClass


def leads(identity: Identity, of: SchoolClass) -> None:
    """Raises BadInput(forbidden) unless the caller made the class."""
    if identity.user_id != of.owner_id:
        raise BadInput("forbidden", "only who made the class may do this", status=403)


def may_read(identity: Identity, roster: Roster) -> bool:
    """Whether the caller leads the class, is a member now, or is an importer. Pure."""
    if identity.acting((IMPORTER,)) or identity.user_id == roster.owner_id:
        return True
    return any(stay.user_id == identity.user_id and stay.left_us == FOREVER_US for stay in roster.stays)


async def readable(connection: HTTPConnection, store: ClassStore, class_id: str) -> Roster:
    """The roster of a class that the caller may read.

    Raises BadInput: unauthenticated (401), account_needed, forbidden (403), unknown_class (404).
    """
    identity = await identify(connection)
    if identity.kind == SEAT:
        raise BadInput(
            "account_needed", "classes are read by who has logged in", status=403, next_step="log in"
        )
    roster = await store.roster(class_id)
    if not may_read(identity, roster):
        raise BadInput("forbidden", "only its members may read a class", status=403)
    return roster
