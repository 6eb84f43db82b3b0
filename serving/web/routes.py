"""The page: static files with a strict content security policy, and the QR code of a PIN as SVG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import segno
from fastapi import APIRouter, Request
from fastapi import Path as PathField
from fastapi.responses import Response

from contracts.errors import BadInput

router = APIRouter(include_in_schema=False)
_FILES = Path(__file__).parent / "static"
# The socket's client is a room of its own, which others use too.
_CLIENTS = Path(__file__).parents[2] / "clients"
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "live_client.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Scripts and styles only from files of ours: what a player types can never run.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _file(name: str) -> Response:
    folder = _CLIENTS if name == "live_client.js" else _FILES
    return Response((folder / name).read_bytes(), media_type=_TYPES[name], headers=HEADERS)


@router.get("/")
async def page() -> Response:
    return _file("index.html")


@router.get("/static/{name}")
async def static(name: str) -> Response:
    if name not in _TYPES:
        raise BadInput("not_found", f"there is no file {name[:40]!r}", status=404)
    return _file(name)


@router.get("/v1/pins/{pin}/qr.svg")
async def qr(pin: Annotated[str, PathField(pattern=r"^[0-9]{6}$")], request: Request) -> Response:
    """The address that joins the session, as this caller reaches it (loopback or the local network)."""
    out = io.BytesIO()
    segno.make(f"{request.base_url}?pin={pin}", error="m").save(
        out, kind="svg", border=2, dark="#101828", light="#ffffff", scale=8, svgclass=None, lineclass=None
    )
    return Response(out.getvalue(), media_type="image/svg+xml", headers=HEADERS)
