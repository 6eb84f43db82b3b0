"""Pictures and other media: a folder by default, any S3 by its address, through one library (obstore).

A key is `folder/digest.suffix` and names its content, so what is at an address never changes: caches and a CDN may keep
it for ever. Nothing here looks into the bytes; whoever puts them has checked them.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from contracts.errors import SystemMissing
from contracts.settings import Settings

# Keys as we make them: nothing else is ever asked of the store, whatever an address says.
KEY = re.compile(r"(?P<folder>[a-z]{1,20})/[0-9a-f]{40}\.(?P<suffix>[a-z0-9]{2,4})")
TYPES = {
    "webp": "image/webp",
    "png": "image/png",
    "jpg": "image/jpeg",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "webm": "video/webm",
}
FOR_EVER = "public, max-age=31536000, immutable"


def key_of(folder: str, content: bytes, suffix: str) -> str:
    """The key of these bytes. Pure."""
    return f"{folder}/{hashlib.sha256(content).hexdigest()[:40]}.{suffix}"


class Media:
    """The store of one process; connects with its first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _store(self) -> Any:
        # Imported here: an api whose users have no pictures does not pay for it at its start.
        from obstore.store import LocalStore, S3Store

        settings = self._settings
        if not settings.media_url:
            return LocalStore(Path(settings.data_dir or ".") / "media", mkdir=True)
        try:
            text = (Path(settings.secrets_dir) / "media_key").read_text().strip()
        except OSError as error:
            raise SystemMissing(
                "system_missing", "secret media_key cannot be read", next_step="write ID:SECRET into it"
            ) from error
        key_id, _, secret = text.partition(":")
        parts = urlsplit(settings.media_url)
        more: dict[str, Any] = {}
        if settings.media_endpoint:
            plain = settings.media_endpoint.startswith("http://")
            more = {
                "endpoint": settings.media_endpoint,
                "virtual_hosted_style_request": False,
                "client_options": {"allow_http": plain, "timeout": "10s"},
            }
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            access_key_id=key_id,
            secret_access_key=secret,
            region="us-east-1",
            retry_config={"max_retries": 2},
            **more,
        )

    async def put(self, folder: str, content: bytes, suffix: str) -> str:
        """Keeps the bytes; their key. A repeat changes nothing. Raises SystemMissing."""
        key = key_of(folder, content, suffix)
        attributes = (
            {"Content-Type": TYPES[suffix], "Cache-Control": FOR_EVER} if self._settings.media_url else None
        )
        await self._asked("put_async", key, content, attributes=attributes)
        return key

    async def get(self, key: str) -> bytes | None:
        """The bytes of a key; None where there are none. Raises SystemMissing."""
        if KEY.fullmatch(key) is None:
            return None
        try:
            found = await self._asked("get_async", key)
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None

    async def delete(self, key: str) -> None:
        """Takes the bytes away; a repeat changes nothing. Raises SystemMissing."""
        try:
            await self._asked("delete_async", key)
        except FileNotFoundError:
            return

    async def _asked(self, what: str, key: str, *more: Any, **options: Any) -> Any:
        import obstore
        from obstore.exceptions import BaseError, NotFoundError

        try:
            return await getattr(obstore, what)(self._store, key, *more, **options)
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(key) from error
        except (BaseError, OSError) as error:
            raise SystemMissing(
                "system_missing", "the store of pictures does not answer", next_step="try again"
            ) from error
