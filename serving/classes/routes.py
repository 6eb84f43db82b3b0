"""Classes over HTTP: make one, join by its code, see who is in it, leave; who made it leads it. All with an account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts.classes import checked_code
from contracts.identity import checked_id
from contracts.periods import iso_ms
from serving.access.limits import JOINS, OPENINGS, AddressLimit, UserLimit
from serving.access.roles import require_account
from serving.access.tokens import HOST, ROLES, Identity
from serving.classes.access import leads, readable
from serving.classes.store import ClassStore, SchoolClass
from serving.documented import Responses, documented
from serving.users.display_names import clean_name

router = APIRouter(prefix="/v1/classes", tags=["classes"])
CLASS_NAME_LENGTH = 60


class MakeClass(BaseModel):
    """What the class is called."""

    name: Annotated[str, Field(min_length=1, max_length=CLASS_NAME_LENGTH)]
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "5b, English"}]})


class JoinClass(BaseModel):
    """The code, as who leads the class gave it away; blanks, dashes and small letters are taken."""

    code: Annotated[str, Field(min_length=1, max_length=20)]
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"code": "K7TQ-2MWB"}]})


_SHOWN = {"class_id": "5f0c", "name": "5b, English", "leads": True, "code": "K7TQ2MWB"}
_MEMBER = {
    "user_id": "u_8Zt",
    "name": "Ada",
    "joined_at": "2026-03-02T08:00:00.000Z",
    "left_at": None,
    "removed": False,
}


def _documented(example: dict[str, Any], s404: str = "unknown_class") -> Responses:
    """What a route about one class may answer."""
    return documented(
        example,
        s401="unauthenticated",
        s403="forbidden account_needed",
        s404=s404,
        s422="invalid_id",
        s429="too_many_requests",
        s503="system_missing",
    )


COUNTED = [Depends(UserLimit())]
Member = Annotated[Identity, Depends(require_account(*ROLES))]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The rosters that are remembered are the process' own; boards of classes read them too."""
    app.state.classes = ClassStore(app.state.connections)
    yield


def _shown(of: SchoolClass, user_id: str) -> dict[str, Any]:
    """A class as its reader sees it: the code is its owner's to give away."""
    led = user_id == of.owner_id
    return {"class_id": of.class_id, "name": of.name, "leads": led, "code": of.code if led else None}


@router.post(
    "",
    status_code=201,
    summary="Make a class",
    responses=documented(
        _SHOWN,
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s403="forbidden account_needed",
        s409="too_many_classes",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=[Depends(AddressLimit(OPENINGS))],
)
async def make(
    body: MakeClass, request: Request, identity: Annotated[Identity, Depends(require_account(HOST))]
) -> dict[str, Any]:
    """Led by who asks, who is no member of it."""
    made = await request.app.state.classes.create(clean_name(body.name), identity.user_id)
    return _shown(made, identity.user_id)


@router.post(
    "/join",
    status_code=201,
    summary="Join a class by its code",
    responses=documented(
        {**_SHOWN, "leads": False, "code": None},
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s403="forbidden account_needed player_removed",
        s404="unknown_join_code unknown_user",
        s409="class_full",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=[Depends(AddressLimit(JOINS))],
)
async def join(body: JoinClass, request: Request, identity: Member) -> dict[str, Any]:
    """From now on: what was answered before is on no board of the class."""
    store: ClassStore = request.app.state.classes
    code = checked_code(body.code)
    found = await store.by_code(code)
    await store.join(found.class_id, code, identity.user_id)
    return _shown(found, identity.user_id)


@router.get(
    "",
    summary="The classes I lead or am in",
    responses=documented(
        {"classes": [{"class_id": "5f0c", "name": "5b, English", "leads": True, "members": 27}]},
        s401="unauthenticated",
        s403="forbidden account_needed",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=COUNTED,
)
async def mine(request: Request, identity: Member) -> dict[str, Any]:
    return {"classes": await request.app.state.classes.of_user(identity.user_id)}


@router.get(
    "/{class_id}",
    summary="A class and its members",
    responses=_documented({**_SHOWN, "members": [_MEMBER]}),
    dependencies=COUNTED,
)
async def read(class_id: str, request: Request, identity: Member) -> dict[str, Any]:
    """Those who are in it now, as public boards show them; who leads it sees their names, who was in it, and the code."""
    checked_id(class_id, "class_id")
    store: ClassStore = request.app.state.classes
    await readable(request, store, class_id)
    found = await store.read(class_id)
    led = identity.user_id == found.owner_id
    listed = [row for row in await store.members(class_id) if led or row["left_at_us"] is None]
    shown = {} if led else await store.connections.profiles.shown([row["user_id"] for row in listed])
    rows = [
        {
            "user_id": row["user_id"],
            "name": row["name"] if led else shown[row["user_id"]].name if row["user_id"] in shown else "",
            "joined_at": iso_ms(row["joined_at_us"]),
            "left_at": None if row["left_at_us"] is None else iso_ms(row["left_at_us"]),
            "removed": row["removed"],
        }
        for row in listed
    ]
    return {**_shown(found, identity.user_id), "members": rows}


@router.post(
    "/{class_id}/leave",
    summary="Leave a class",
    responses=_documented({"class_id": "5f0c", "member": False}, "unknown_class unknown_user"),
    dependencies=COUNTED,
)
async def leave(class_id: str, request: Request, identity: Member) -> dict[str, Any]:
    """From now on; what was answered while in it stays on its boards."""
    checked_id(class_id, "class_id")
    await request.app.state.classes.end_membership(class_id, identity.user_id)
    return {"class_id": class_id, "member": False}


async def _led(class_id: str, request: Request, identity: Identity) -> ClassStore:
    """Raises BadInput: forbidden, unknown_class, invalid_id."""
    store: ClassStore = request.app.state.classes
    leads(identity, await store.read(checked_id(class_id, "class_id")))
    return store


_ABOUT_MEMBER = _documented(
    {"class_id": "5f0c", "user_id": "u_8Zt", "removed": True}, "unknown_class unknown_user"
)


@router.post(
    "/{class_id}/members/{user_id}/remove",
    summary="Remove a member, for good",
    responses=_ABOUT_MEMBER,
    dependencies=COUNTED,
)
async def remove(class_id: str, user_id: str, request: Request, identity: Member) -> dict[str, Any]:
    """As if they left now; the code lets them in no more, until they are readmitted."""
    store = await _led(class_id, request, identity)
    await store.end_membership(class_id, user_id, removed=True)
    return {"class_id": class_id, "user_id": user_id, "removed": True}


@router.post(
    "/{class_id}/members/{user_id}/readmit",
    summary="Let a removed user join again",
    responses=_ABOUT_MEMBER,
    dependencies=COUNTED,
)
async def readmit(class_id: str, user_id: str, request: Request, identity: Member) -> dict[str, Any]:
    """By the code, as everybody: nobody is put into a class."""
    store = await _led(class_id, request, identity)
    await store.readmit(class_id, user_id)
    return {"class_id": class_id, "user_id": user_id, "removed": False}


_CODE = _documented(_SHOWN)


@router.post(
    "/{class_id}/code", summary="A new join code; the old one ends", responses=_CODE, dependencies=COUNTED
)
async def renew(class_id: str, request: Request, identity: Member) -> dict[str, Any]:
    store = await _led(class_id, request, identity)
    return _shown(await store.renew_code(class_id), identity.user_id)


@router.post(
    "/{class_id}/close",
    summary="Let nobody new in, until there is a new code",
    responses=_CODE,
    dependencies=COUNTED,
)
async def close(class_id: str, request: Request, identity: Member) -> dict[str, Any]:
    store = await _led(class_id, request, identity)
    return _shown(await store.close(class_id), identity.user_id)
