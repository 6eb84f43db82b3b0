"""The refresh cookie, and who may send it: our own page alone.

HttpOnly, so that no script reads it; SameSite=Strict and a path of its own, so that it comes with renewals and log-outs
of our page and nothing else; Secure where the page came over HTTPS. On a private network without HTTPS it still works.
What the cookie authorises also looks at where the request comes from: a second lock, for browsers that know no SameSite.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request, Response

from contracts.errors import BadInput
from serving.access.logins import REFRESH_LIFE_DAYS

NAME = "lakeboard_refresh"
PATH = "/v1/auth"
# Of the header that browsers set themselves; a page cannot. Programs send none.
_OWN_SITES = ("", "same-origin", "none")


def put(request: Request, response: Response, refresh: str) -> None:
    """Gives the browser the token of its log-in."""
    response.set_cookie(
        NAME,
        refresh,
        max_age=REFRESH_LIFE_DAYS * 86_400,
        path=PATH,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def take_away(request: Request, response: Response) -> None:
    """Makes the browser forget it."""
    response.delete_cookie(
        NAME, path=PATH, secure=request.url.scheme == "https", httponly=True, samesite="strict"
    )


def given(request: Request) -> str:
    """The token that came, "" for none. One that is far too long is none of ours."""
    found = request.cookies.get(NAME, "")
    return found if len(found) <= 64 else ""


async def from_our_page(request: Request) -> None:
    """A dependency: refuses what another site's page sends. Raises BadInput(cross_site, 403)."""
    origin, site = request.headers.get("origin", ""), request.headers.get("sec-fetch-site", "")
    host = request.headers.get("host", "")
    if site not in _OWN_SITES or (origin and urlsplit(origin).netloc != host):
        raise BadInput("cross_site", "this is for our own page alone", status=403)
