"""Who looks at a quiz: its owner sees more than others, and who says nothing of themselves is one of the others."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from serving.access.roles import account_of


async def viewer_of(connection: HTTPConnection) -> str:
    """The user id of the caller's account, empty for a guest. Raises BadInput(unauthenticated) for a token that is not valid."""
    account = await account_of(connection)
    return account.user_id if account else ""
