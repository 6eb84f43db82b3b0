"""Users over HTTP: what anybody sees of one; one's own profile, picture, export and deletion; and the pictures' bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from contracts.identity import checked_id
from serving.access import cookies
from serving.access.accounts import one_of
from serving.access.limits import UPLOADS, UserLimit
from serving.access.roles import require_account, require_person
from serving.access.tokens import ROLES, Identity
from serving.documented import Responses, documented
from serving.ending import end_tasks
from serving.lean import CACHE_CONTROL
from serving.media import FOR_EVER, KEY, TYPES, Media
from serving.users import export
from serving.users.display_names import NAME_LENGTH, clean_name
from serving.users.erasing import PICTURE, Erasing, note
from serving.users.lean import body_of
from serving.users.pictures import UPLOAD_LIMIT_BYTES, Pictures

router = APIRouter(tags=["users"])
Person = Annotated[Identity, Depends(require_person(*ROLES))]
AVATARS = "avatars"
# A picture is shown, never run, whatever somebody managed to put into one.
_MEDIA_HEADERS = {
    "Cache-Control": FOR_EVER,
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_CHUNK_BYTES = 64 * 1024
_PUBLIC = {"user_id": "u_8Zt", "name": "Ada", "avatar_url": "/media/avatars/0f3c….webp"}
_ME = {
    **_PUBLIC,
    "anonymous": False,
    "login_name": "ada",
    "roles": ["player", "host"],
    "created_at": "2026-03-02T17:59:41.204Z",
}


class ChangedProfile(BaseModel):
    """What changes; the rest stays. anonymous: public boards show "Anonymous" and no picture."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)] | None = None
    anonymous: bool | None = None
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Ada", "anonymous": False}]}
    )


class Deletion(BaseModel):
    """The password, again: this cannot be undone."""

    password: Annotated[str, Field(min_length=1, max_length=512)]
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"password": "rope tin lake"}]})


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The store of pictures, the thread that makes them, and the work that is left after deletions."""
    state = app.state
    state.media = Media(state.connections.settings)
    state.pictures = Pictures()
    state.erasing = Erasing(state.connections, state.media)
    task = asyncio.create_task(state.erasing.keep_erasing())
    yield
    await end_tasks([task])
    state.pictures.end()


def _documented(example: dict[str, Any], **codes: str) -> Responses:
    common = {"s401": "unauthenticated", "s403": "account_needed forbidden", "s503": "system_missing"}
    return documented(example, status=200, **{**common, **codes})


@router.get(
    "/v1/users/{user_id}",
    summary="What anybody sees of a user",
    responses=documented(_PUBLIC, s404="unknown_user", s422="invalid_id", s503="system_missing"),
)
async def show(user_id: str, request: Request) -> Response:
    """Name and picture, or "Anonymous"; null where there is none. As it is now: a change shows at once."""
    checked_id(user_id, "user_id")
    profiles = request.app.state.connections.profiles
    kept = await profiles.one(user_id)
    if kept is None:
        raise BadInput("unknown_user", f"there is no user {user_id!r}", status=404)
    return Response(
        body_of(user_id, profiles.public(kept)),
        media_type="application/json",
        headers={"Cache-Control": CACHE_CONTROL},
    )


async def _me(request: Request, user_id: str) -> dict[str, Any]:
    connections = request.app.state.connections
    async with connections.sql() as sql:
        account = await one_of(sql, user_id)
    kept = (await connections.profiles.of([user_id]))[user_id]
    return {
        "user_id": user_id,
        "name": kept.name,
        "avatar_url": connections.profiles.address(kept.avatar),
        "anonymous": kept.anonymous,
        **{name: account[name] for name in ("login_name", "roles", "created_at")},
    }


@router.get("/v1/me", summary="My profile", responses=_documented(_ME))
async def me(
    request: Request, identity: Annotated[Identity, Depends(require_account(*ROLES))]
) -> dict[str, Any]:
    return await _me(request, identity.user_id)


@router.put(
    "/v1/me",
    summary="Change my name, or whether public boards show it",
    responses=_documented(
        _ME, s400="malformed_body", s404="unknown_user", s422="unknown_field missing_field invalid_field"
    ),
)
async def change(body: ChangedProfile, request: Request, identity: Person) -> dict[str, Any]:
    """Boards show it from now on; games that run keep the name that was typed in them."""
    connections = request.app.state.connections
    name = None if body.name is None else clean_name(body.name)
    async with connections.sql() as sql, connections.profiles.change(sql, identity.user_id):
        await sql.execute(
            "update users set name = coalesce(%s, name), anonymous = coalesce(%s, anonymous) where user_id = %s",
            [name, body.anonymous, identity.user_id],
        )
    return await _me(request, identity.user_id)


@router.put(
    "/v1/me/avatar",
    summary="Set my picture",
    responses=_documented(
        _ME,
        s404="unknown_user",
        s413="body_too_large",
        s422="wrong_image",
        s429="too_many_requests",
        s503="system_missing overloaded",
    ),
    dependencies=[Depends(UserLimit(UPLOADS))],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_avatar(request: Request, identity: Person) -> dict[str, Any]:
    """The file itself as the body: JPEG, PNG, WebP or GIF, up to 8 MB and 24 megapixels; what else it says is dropped.

    A square of 256 pixels is kept, at an address that names its content.
    """
    state = request.app.state
    content = await request.body()
    if len(content) > UPLOAD_LIMIT_BYTES:
        raise BadInput("body_too_large", f"a picture may have {UPLOAD_LIMIT_BYTES} bytes", status=413)
    key = await state.media.put(AVATARS, await state.pictures.avatar(content), "webp")
    await _set_avatar(state.connections, identity.user_id, key)
    return await _me(request, identity.user_id)


@router.delete(
    "/v1/me/avatar", summary="Take my picture away", responses=_documented(_ME, s404="unknown_user")
)
async def end_avatar(request: Request, identity: Person) -> dict[str, Any]:
    """It goes from the store within a minute, unless somebody else has the very same."""
    await _set_avatar(request.app.state.connections, identity.user_id, None)
    return await _me(request, identity.user_id)


async def _set_avatar(connections: Any, user_id: str, key: str | None) -> None:
    async with connections.sql() as sql, connections.profiles.change(sql, user_id) as change:
        await sql.execute("update users set avatar = %s where user_id = %s", [key, user_id])
        if change.before.avatar and change.before.avatar != key:
            await note(sql, PICTURE, change.before.avatar)


@router.get(
    "/v1/me/export",
    summary="All that is kept of me, as a ZIP",
    response_class=Response,
    responses={
        **_documented({}),
        200: {
            "description": "A ZIP of JSON files",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def export_mine(request: Request, identity: Person) -> StreamingResponse:
    """profile, keys, sessions hosted, classes, quizzes, and every answer, archived ones too."""
    found = await export.written(request.app.state.connections, identity.user_id)
    headers = {
        "Content-Disposition": 'attachment; filename="lakeboard-export.zip"',
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_chunks(found), media_type="application/zip", headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


@router.post(
    "/v1/me/delete",
    summary="Delete my account, name and picture",
    responses=_documented(
        {"deleted": "u_8Zt"},
        s400="malformed_body",
        s403="account_needed forbidden wrong_password cross_site",
        s404="unknown_user",
        s409="last_admin",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing overloaded",
    ),
    dependencies=[Depends(cookies.from_our_page)],
)
async def delete(body: Deletion, request: Request, response: Response, identity: Person) -> dict[str, Any]:
    """The account, its log-ins and keys, name and picture go at once; names in games that run within a minute.

    Answers stay, under an id that names nobody any more: they are part of boards and of the record.
    """
    state = request.app.state
    await state.limits.count_login_name(identity.user_id)
    await state.accounts.confirm_password(identity.user_id, body.password)
    await state.accounts.delete(identity.user_id)
    state.keys.forget()
    cookies.take_away(request, response)
    return {"deleted": identity.user_id}


@router.get("/media/{folder}/{name}", include_in_schema=False)
async def media(folder: str, name: str, request: Request) -> Response:
    """The bytes of a picture, where no CDN stands before the store."""
    key = f"{folder}/{name}"
    parts = KEY.fullmatch(key)
    content = await request.app.state.media.get(key) if parts and parts["suffix"] in TYPES else None
    if content is None or parts is None:
        raise BadInput("not_found", "there is no such picture", status=404)
    if request.headers.get("if-none-match") == f'"{name}"':
        return Response(status_code=304, headers={**_MEDIA_HEADERS, "ETag": f'"{name}"'})
    return Response(
        content, media_type=TYPES[parts["suffix"]], headers={**_MEDIA_HEADERS, "ETag": f'"{name}"'}
    )
