"""The page: static files with a strict content security policy, and the QR code of a PIN as SVG."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import segno
from fastapi import APIRouter, Header, Request
from fastapi import Path as PathField
from fastapi.responses import Response

from contracts.classes import CODE_LENGTH, CODE_LETTERS
from contracts.errors import BadInput

router = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parent / "static"
# The socket's client is a room of its own, which others use too.
_CLIENT = Path(__file__).parents[2] / "clients" / "live_client.js"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
# Scripts and styles only from files of ours: what a player types can never run.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked again each time, and answered with 304: a class never plays with two versions of the page.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page as it is sent; etag: a digest of its bytes."""

    content: bytes
    media_type: str
    etag: str

    @staticmethod
    def of(path: Path) -> File:
        content = path.read_bytes()
        return File(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


# Read once: what is served does not change under a running process.
FILES = {
    path.name: File.of(path)
    # vendor: files of others, unchanged; its README says whose.
    for path in (*sorted(_FOLDER.iterdir()), *sorted((_FOLDER / "vendor").iterdir()), _CLIENT)
    if path.suffix in _TYPES
}


def headers_with(media_base_url: str) -> dict[str, str]:
    """The page's headers; pictures may come from the CDN that the settings name, and nothing else may."""
    parts = urlsplit(media_base_url)
    origin = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
    policy = HEADERS["Content-Security-Policy"].replace("img-src 'self'", f"img-src 'self' blob:{origin}")
    return {**HEADERS, "Content-Security-Policy": policy}


def _reply(request: Request, name: str, if_none_match: str) -> Response:
    file = FILES[name]
    headers = {**headers_with(request.app.state.connections.settings.media_base_url), "ETag": file.etag}
    if file.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.get("/")
async def page(request: Request, if_none_match: Annotated[str, Header()] = "") -> Response:
    return _reply(request, "index.html", if_none_match)


@router.get("/static/{name}")
async def static(request: Request, name: str, if_none_match: Annotated[str, Header()] = "") -> Response:
    if name not in FILES:
        raise BadInput("not_found", f"there is no file {name[:40]!r}", status=404)
    return _reply(request, name, if_none_match)


def _qr(address: str) -> Response:
    """An address as a picture."""
    out = io.BytesIO()
    segno.make(address, error="m").save(
        out, kind="svg", border=2, dark="#1b1533", light="#ffffff", scale=8, svgclass=None, lineclass=None
    )
    return Response(out.getvalue(), media_type="image/svg+xml", headers=HEADERS)


@router.get("/v1/pins/{pin}/qr.svg")
async def qr(pin: Annotated[str, PathField(pattern=r"^[0-9]{6}$")], request: Request) -> Response:
    """The address that joins the session, as this caller reaches it (loopback or the local network)."""
    return _qr(f"{request.base_url}?pin={pin}")


@router.get("/v1/class-codes/{code}/qr.svg")
async def class_qr(
    code: Annotated[str, PathField(pattern=rf"^[{CODE_LETTERS}]{{{CODE_LENGTH}}}$")], request: Request
) -> Response:
    """The address that joins a class, likewise; whether there is such a class is not looked at."""
    return _qr(f"{request.base_url}#/classes?code={code}")
