"""Users over HTTP: profiles on boards, pictures and hostile files, anonymity, export, deletion, the S3 store."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from PIL import Image, PngImagePlugin

from serving.quizzes.starter import right_answers
from tests.services.daemons import start_s3
from tests.serving.access.people import PASSWORD, Person, opened, seated, signed_up
from tests.serving.api_process import ApiProcess

pytestmark = pytest.mark.service


def picture(
    kind: str = "PNG", size: tuple[int, int] = (300, 200), colour: str = "#b8225a", **more: object
) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind, **more)
    return out.getvalue()


def put(person: Person, content: bytes, media_type: str = "image/png") -> httpx.Response:
    return person.ask("PUT", "/v1/me/avatar", content=content, headers_more={"Content-Type": media_type})


@pytest.fixture
def ada(api: ApiProcess) -> Person:
    found = signed_up(api, "Ada")
    plain = found.ask

    def ask(
        method: str, path: str, headers_more: dict[str, str] | None = None, **more: object
    ) -> httpx.Response:
        headers = {**found.headers, **(headers_more or {})}
        return found.client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]

    assert plain is not None
    found.ask = ask  # type: ignore[method-assign]
    return found


def played(api: ApiProcess, person: Person) -> tuple[str, dict[str, str]]:
    """A session in which somebody has answered; and the board's address."""
    session = opened(api)
    seat = seated(api, session["pin"], "In game", **person.headers)
    path = f"{api.url}/v1/sessions/{session['session_id']}"
    httpx.post(
        f"{path}/next", headers={"Authorization": f"Bearer {session['token']}"}, timeout=60
    ).raise_for_status()
    question = httpx.get(path).json()["current"]
    asked = question["question_id"]
    body = {"question_id": asked, "choice": right_answers()[asked]}
    headers = {"Authorization": f"Bearer {seat['token']}"}
    httpx.post(f"{path}/answers", json=body, headers=headers, timeout=60).raise_for_status()
    return f"{api.url}/v1/leaderboards/quiz:starter-a1/daily/current?k=0&around={person.user_id}&m=0", session


def row(board: str) -> tuple[str | None, str | None]:
    me = httpx.get(board, timeout=60).raise_for_status().json()["me"]
    return me["name"], me["avatar_url"]


def test_a_change_shows_at_once_everywhere(api: ApiProcess, ada: Person) -> None:
    board, _ = played(api, ada)
    assert ("Ada", None) == row(board)
    seen = f"{api.url}/v1/users/{ada.user_id}"
    for number in range(5):
        changed = ada.ask("PUT", "/v1/me", json={"name": f"Ada {number}"})
        assert 200 == changed.status_code and f"Ada {number}" == changed.json()["name"]
        assert f"Ada {number}" == row(board)[0] == httpx.get(seen).json()["name"]
    shown = put(ada, picture()).json()["avatar_url"]
    assert ("Ada 4", shown) == row(board)
    ada.ask("PUT", "/v1/me", json={"anonymous": True}).raise_for_status()
    assert ("Anonymous", None) == row(board)
    assert {"user_id": ada.user_id, "name": "Anonymous", "avatar_url": None} == httpx.get(seen).json()
    assert ("Ada 4", True) == tuple(ada.ask("GET", "/v1/me").json()[name] for name in ("name", "anonymous"))
    ada.ask("PUT", "/v1/me", json={"anonymous": False}).raise_for_status()
    assert ("Ada 4", shown) == row(board)
    # The lean way and the framework say the same.
    assert httpx.get(seen).content == httpx.get(f"{seen}?x=1").content
    assert 404 == httpx.get(f"{api.url}/v1/users/nobody-of-this-name").status_code
    for name in ("", "\u202e", "x" * 25):
        assert 422 == ada.ask("PUT", "/v1/me", json={"name": name}).status_code


def test_a_picture_becomes_ours(api: ApiProcess, ada: Person) -> None:
    for kind, more in (
        ("PNG", {}),
        ("JPEG", {"exif": b"Exif\x00\x00secret place", "comment": b"secret comment"}),
        ("WEBP", {}),
        ("GIF", {"comment": b"secret comment"}),
    ):
        reply = put(ada, picture(kind, **more), "text/html")
        assert 200 == reply.status_code, reply.text
        address = reply.json()["avatar_url"]
        found = httpx.get(api.url + address)
        assert "image/webp" == found.headers["content-type"] and b"secret" not in found.content
        assert (
            "immutable" in found.headers["cache-control"]
            and "nosniff" == found.headers["x-content-type-options"]
        )
        assert "sandbox" in found.headers["content-security-policy"]
        assert (256, 256) == Image.open(io.BytesIO(found.content)).size
    # The same content has the same address, whoever has it.
    assert address == put(ada, picture("GIF")).json()["avatar_url"]
    assert 304 == httpx.get(api.url + address, headers={"If-None-Match": found.headers["etag"]}).status_code
    assert ada.ask("DELETE", "/v1/me/avatar").json()["avatar_url"] is None


def bomb() -> bytes:
    """A PNG of a few kB that says it has 3.6 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
        + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A PNG whose comment unpacks to a hundred megabytes."""
    info = PngImagePlugin.PngInfo()
    info.add_text("c", "x" * 100_000_000, zip=True)
    return picture(pnginfo=info)


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(
            lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", id="svg"
        ),
        pytest.param(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit", id="postscript"),
        pytest.param(lambda: b"<html><script>alert(1)</script>", id="html"),
        pytest.param(lambda: b"", id="nothing"),
        pytest.param(lambda: picture()[:60], id="cut"),
        pytest.param(lambda: picture("BMP"), id="another kind"),
        pytest.param(lambda: picture("TIFF"), id="tiff"),
        pytest.param(bomb, id="bomb"),
        pytest.param(text_bomb, id="text bomb"),
        pytest.param(lambda: b"\xff\xd8\xff\xe0" + b"\x00" * 5_000, id="only begins like one"),
    ],
)
def test_what_is_no_picture_is_refused(ada: Person, hostile: Callable[[], bytes]) -> None:
    began = time.monotonic()
    reply = put(ada, hostile())
    assert (422, "wrong_image") == (reply.status_code, reply.json()["code"]), reply.text
    assert time.monotonic() - began < 20
    assert ada.ask("GET", "/v1/me").json()["avatar_url"] is None


def test_a_picture_that_is_something_else_too_leaves_that_behind(api: ApiProcess, ada: Person) -> None:
    both = picture("GIF") + b"<script>alert(1)</script>PK\x03\x04"
    found = httpx.get(api.url + put(ada, both).json()["avatar_url"])
    assert b"script" not in found.content and b"PK\x03\x04" not in found.content


def test_a_picture_that_is_too_large_is_refused_before_it_has_come(ada: Person) -> None:
    assert 413 == put(ada, b"x" * (8 * 1024 * 1024 + 1)).status_code


@pytest.mark.parametrize(
    "path",
    [
        "avatars/../../secrets/jwt_key",
        "avatars/..%2f..%2fsecrets%2fjwt_key",
        "avatars/x.webp",
        "%2e%2e/jwt_key",
        "avatars/" + 40 * "0" + ".svg",
    ],
)
def test_no_path_leads_out_of_the_store(api: ApiProcess, path: str) -> None:
    assert 404 == httpx.get(f"{api.url}/media/{path}").status_code


def test_export_has_what_is_kept(api: ApiProcess, ada: Person) -> None:
    played(api, ada)
    opened(api, **ada.headers)
    # What the relay would bring to history; none runs here.
    with psycopg.connect(api.settings["postgres_url"]) as sql:
        sql.execute("create table if not exists history_all partition of history default")
        for number in range(250):
            sql.execute(
                "insert into history (shard, seq, type, event_id, occurred_at, occurred_at_us, user_id, session_id, quiz_id, "
                "question_id, correct, elapsed_ms, points, rule, mode, event) values (0, %s, 'answer', gen_random_uuid(), "
                "to_timestamp(%s), %s, %s, 's', 'q', 'n', true, 1, 2, 'speed@1', 'live', '')",
                [
                    9_000_000 + number,
                    1_600_000_000 + number,
                    (1_600_000_000 + number) * 1_000_000,
                    ada.user_id,
                ],
            )
    reply = ada.ask("GET", "/v1/me/export")
    assert "application/zip" == reply.headers["content-type"] and "no-store" == reply.headers["cache-control"]
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        profile = json.loads(archive.read("profile.json"))
        answers = [json.loads(line) for line in archive.read("answers.ndjson").splitlines()]
        hosted = json.loads(archive.read("sessions_hosted.json"))
    assert (ada.login_name, "Ada") == (profile["login_name"], profile["name"])
    assert 250 == len(answers) == len({one["event_id"] for one in answers}) and 1 == len(hosted)
    assert PASSWORD not in str(profile) and "argon2" not in str(profile)


def test_deletion_takes_who_somebody_was_and_leaves_the_board(api: ApiProcess, ada: Person) -> None:
    board, session = played(api, ada)
    address = put(ada, picture(colour="#0b6f7a")).json()["avatar_url"]
    points = httpx.get(board).json()["me"]["points"]
    wrong = ada.ask("POST", "/v1/me/delete", json={"password": "not this one"})
    assert (403, "wrong_password") == (wrong.status_code, wrong.json()["code"])
    ada.ask("POST", "/v1/me/delete", json={"password": PASSWORD}).raise_for_status()
    assert (None, None) == row(board)
    assert points == httpx.get(board).json()["me"]["points"]
    assert 401 == ada.ask("GET", "/v1/me").status_code == ada.log_in().status_code
    with psycopg.connect(api.settings["postgres_url"]) as sql:
        kept = sql.execute("select name, avatar from users where user_id = %s", [ada.user_id]).fetchone()
        assert ("", None) == kept
        for table in ("accounts", "logins", "api_keys"):
            assert sql.execute(f"select 1 from {table} where user_id = %s", [ada.user_id]).fetchone() is None
    host = {"Authorization": f"Bearer {session['token']}"}
    players = f"{api.url}/v1/sessions/{session['session_id']}/players"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        names = [one["name"] for one in httpx.get(players, headers=host, timeout=60).json()["players"]]
        if httpx.get(api.url + address).status_code == 404 and names == ["—"]:
            break
        time.sleep(1)
    else:
        raise AssertionError((names, "the picture or the name is still there"))


@pytest.fixture
def over_s3(tmp_path: Path, valkey_urls: list[str], postgres_url: str) -> Iterator[ApiProcess]:
    """An api that keeps pictures in a real S3 server."""
    store = start_s3(tmp_path)
    secrets = tmp_path / "api" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "media_key").write_text(store.media_key)
    process = ApiProcess(
        tmp_path / "api",
        valkey_urls,
        postgres_url,
        media_url="s3://lakeboard/media",
        media_endpoint=store.url,
        media_base_url="https://cdn.example/pictures",
    )
    yield process
    process.stop()
    store.stop()


def test_pictures_in_an_s3_behind_a_cdn(over_s3: ApiProcess) -> None:
    person = signed_up(over_s3)
    deadline = time.monotonic() + 60
    while (reply := person.ask("PUT", "/v1/me/avatar", content=picture())).status_code == 503:
        assert time.monotonic() < deadline, reply.text
        time.sleep(1)
    address = reply.json()["avatar_url"]
    assert address.startswith("https://cdn.example/pictures/avatars/")
    found = httpx.get(over_s3.url + address.replace("https://cdn.example/pictures", "/media"), timeout=60)
    assert (200, "image/webp") == (found.status_code, found.headers["content-type"])
    assert 404 == httpx.get(f"{over_s3.url}/media/avatars/{40 * '0'}.webp", timeout=60).status_code
    csp = httpx.get(over_s3.url).headers["content-security-policy"]
    assert "img-src 'self' blob: https://cdn.example;" in csp
