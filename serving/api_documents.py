"""The interfaces as files, generated from the running code: OpenAPI of the routes, AsyncAPI 3 of the play socket.

python -m serving.api_documents [--check] [FOLDER]      writes docs/api/*, or exits 1 if a file is not current
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from serving.api import FRAME_LIMIT_BYTES, create_app
from serving.live import messages

FOLDER = Path(__file__).parents[1] / "docs" / "api"
_REF = "#/components/schemas/{name}"
# Message → those that answer it; any of them may be answered with an error.
_REPLIES: dict[type[Any], tuple[type[Any], ...]] = {
    messages.AnswerMessage: (messages.Result, messages.Error),
    messages.NextMessage: (messages.Shown, messages.Finished, messages.Error),
    messages.PingMessage: (messages.Pong, messages.Error),
}


def _tag(message: type[Any]) -> str:
    return str(message.__struct_config__.tag)


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


def _summary(message: type[Any]) -> str:
    return " ".join((message.__doc__ or "").split())


def openapi() -> dict[str, Any]:
    """OpenAPI of every route, as the server itself gives it out at /v1/openapi.json."""
    return create_app({}).openapi()


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 of `live.v1`; `send` and `receive` are the server's side, as the standard has it."""
    every = (*messages.FROM_CLIENT, *messages.FROM_SERVER)
    refs, schemas = msgspec.json.schema_components(every, ref_template=_REF)
    components = {
        _tag(message): {"name": _tag(message), "summary": _summary(message), "payload": ref}
        for message, ref in zip(every, refs, strict=True)
    }
    channel = _ref("channels", "live")

    def listed(found: tuple[type[Any], ...]) -> list[dict[str, str]]:
        return [_ref("channels", "live", "messages", _tag(message)) for message in found]

    operations: dict[str, Any] = {
        f"receive_{_tag(message)}": {
            "action": "receive",
            "channel": channel,
            "summary": _summary(message),
            "messages": listed((message,)),
            "reply": {"channel": channel, "messages": listed(replies)},
        }
        for message, replies in _REPLIES.items()
    }
    operations["push"] = {
        "action": "send",
        "channel": channel,
        "summary": "Who the socket is, then phases and boards as they change.",
        "messages": listed((messages.Welcome, *messages.PHASES, messages.Board)),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Lakeboard live play", "version": messages.PROTOCOL, "description": _about()},
        "defaultContentType": "application/json",
        "servers": {"gateway": {"host": "127.0.0.1:8080", "protocol": "ws"}},
        "channels": {"live": _channel()},
        "operations": operations,
        "components": {"messages": components, "schemas": schemas},
        "x-close-codes": {
            str(code): {"means": means, "client": does}
            for code, (means, does) in sorted(messages.CLOSE_CODES.items())
        },
        "x-frame-limit-bytes": FRAME_LIMIT_BYTES,
    }


def _about() -> str:
    return " ".join((messages.__doc__ or "").split("\n\n", 1)[1].split())


def _channel() -> dict[str, Any]:
    every = (*messages.FROM_CLIENT, *messages.FROM_SERVER)
    query = {
        "type": "object",
        "required": ["token"],
        "properties": {
            "token": {"type": "string", "description": "as `join` or `create` returned it"},
            "epoch": {"type": "integer", "description": "of the last phase that was seen"},
            "seq": {"type": "integer", "description": "of the last board that was seen"},
            "handler": {"type": "string", "description": "for the gateway: as placement named it"},
        },
    }
    return {
        "address": "/v1/live",
        "description": f"WebSocket, subprotocol `{messages.PROTOCOL}`; text frames, no compression.",
        "messages": {_tag(message): _ref("components", "messages", _tag(message)) for message in every},
        "bindings": {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}},
    }


def documents() -> dict[str, str]:
    """File name → text."""
    made = {"openapi.json": openapi(), "live.v1.asyncapi.json": asyncapi()}
    return {name: json.dumps(made[name], ensure_ascii=False, indent=1) + "\n" for name in made}


def main() -> int:
    """Writes the files, or says which are not current."""
    parser = argparse.ArgumentParser(prog="python -m serving.api_documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not current")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    asked = parser.parse_args()
    code = 0
    for name, text in documents().items():
        path = asked.folder / name
        if asked.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                print(f"{path} is not current: run python -m serving.api_documents", file=sys.stderr)
                code = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
