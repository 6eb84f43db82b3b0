"""Which pictures and recordings a question takes: known by their first bytes, whatever their name and sender say. Pure.

They are kept by `serving/media.py` under their digest, so that an address tells no answer.
"""

from __future__ import annotations

from typing import NamedTuple

from contracts.errors import BadInput

FOLDER = "quizzes"


class Kind(NamedTuple):
    """A form that is taken. kind: picture or audio; suffix: of its key in the store."""

    kind: str
    suffix: str


# What begins so is of that kind; the second text, where there is one, stands at its place.
_PNG, _JPG, _WEBP = Kind("picture", "png"), Kind("picture", "jpg"), Kind("picture", "webp")
_MP3, _OGG, _M4A = Kind("audio", "mp3"), Kind("audio", "ogg"), Kind("audio", "m4a")
_SIGNS: tuple[tuple[bytes, int, bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, b"", _PNG),
    (b"\xff\xd8\xff", 0, b"", _JPG),
    (b"RIFF", 8, b"WEBP", _WEBP),
    (b"ID3", 0, b"", _MP3),
    (b"\xff\xfb", 0, b"", _MP3),
    (b"\xff\xf3", 0, b"", _MP3),
    (b"\xff\xf2", 0, b"", _MP3),
    (b"OggS", 0, b"", _OGG),
    (b"", 4, b"ftypM4A", _M4A),
    (b"", 4, b"ftypmp42", _M4A),
    (b"", 4, b"ftypisom", _M4A),
)


def kind_of(content: bytes) -> Kind:
    """What some bytes are. Raises BadInput(unsupported_media, 415), also for SVG, which may run scripts."""
    for start, place, inside, kind in _SIGNS:
        if content.startswith(start) and content[place : place + len(inside)] == inside and len(content) > 16:
            return kind
    raise BadInput(
        "unsupported_media",
        "neither a picture (PNG, JPEG, WebP) nor a recording (MP3, Ogg, M4A)",
        status=415,
    )
