"""A picture that somebody uploads becomes one of ours: decoded, turned upright, cut square, made small, written anew.

Only pixels come through. What a file says of itself (name, type, comments, place, other files behind the picture) is
never kept or believed: the decoders of four formats try it, nothing else. Decoding has bounds and runs on one thread
beside the event loop.
"""

from __future__ import annotations

import asyncio
import io
import warnings
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, ImageOps

from contracts.errors import BadInput, Retryable

# A phone's photo is 3 to 6 MB.
UPLOAD_LIMIT_BYTES = 8 * 1024 * 1024
# 24 megapixels: 96 MB decoded. A picture of more is refused before it is decoded.
MOST_PIXELS = 24_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
SIDE = 256
QUALITY = 82
MOST_WAITING = 16


def as_avatar(content: bytes) -> bytes:
    """WebP of SIDE × SIDE pixels. Raises BadInput(wrong_image). Cost: some 10 ms; one decoded picture of memory."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # The formats are named: Pillow would otherwise try all it has, EPS and the like among them.
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                width, height = opened.size
                if width * height > MOST_PIXELS or min(width, height) < 1:
                    raise BadInput(
                        "wrong_image",
                        f"the picture has {width} × {height} pixels; {MOST_PIXELS:,} are taken at most",
                    )
                opened.draft("RGB", (2 * SIDE, 2 * SIDE))
                upright = ImageOps.exif_transpose(opened)
                square = ImageOps.fit(upright.convert("RGBA"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    except BadInput:
        raise
    except (
        Exception
    ) as error:  # decoders fail in many ways on broken or hostile files; all of them mean the same
        raise BadInput("wrong_image", f"the file is none of {', '.join(FORMATS)}, or is broken") from error
    out = io.BytesIO()
    square.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()


class Pictures:
    """One thread that makes pictures; who waits is counted."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._waiting = 0

    async def avatar(self, content: bytes) -> bytes:
        """As `as_avatar`, beside the event loop. Raises Retryable(overloaded) where too many wait."""
        if self._waiting >= MOST_WAITING:
            raise Retryable("overloaded", "many pictures wait already", next_step="try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, as_avatar, content)
        finally:
            self._waiting -= 1

    def end(self) -> None:
        """Lets the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)
