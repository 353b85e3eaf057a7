"""Pictures in prompts: read once, and sent inside the request as data URLs.

A picture that a server would have to fetch is refused: its network would be measured with it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...records.text import printable
from ...small_file import UnreadableError, small_bytes
from ..prompt import Image, Message

MOST_BYTES = 50_000_000  # of a picture's file
DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
# What a file begins with. WebP has its length between RIFF and WEBP.
KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"BM": "bmp",
}


class ImageError(Exception):
    """A picture that can't be sent; the text is one line for people, without the place."""


def with_images(messages: Sequence[Message], folder: Path) -> tuple[Message, ...]:
    """Return messages with the data of their pictures; paths are meant from `folder`.

    Raises ImageError.
    """
    return tuple(
        replace(m, parts=tuple(_loaded(p, folder) if isinstance(p, Image) else p for p in m.parts))
        for m in messages
    )


def _loaded(image: Image, folder: Path) -> Image:
    """Return a picture as a data URL."""
    url = image.url
    found = DATA_URL.match(url)
    if found is not None:
        try:
            base64.b64decode(url[found.end() :], validate=True)
        except binascii.Error as e:
            raise ImageError(f"its data URL isn't base64: {e}") from e
        return image
    if "://" in url and not url.startswith("file://"):
        raise ImageError(
            f"{printable(url, 80)} would be fetched by the server, and its network measured: save "
            "it beside the file, and give its path"
        )
    return Image(_data_url(folder / Path(url.removeprefix("file://")).expanduser()))


def _data_url(path: Path) -> str:
    try:
        data = small_bytes(path, MOST_BYTES)
    except FileNotFoundError as e:
        raise ImageError(f"{printable(str(path), 200)}: no such file") from e
    except UnreadableError as e:
        raise ImageError(f"{printable(str(path), 200)}: {e}") from e
    kind = next((kind for mark, kind in KINDS.items() if data.startswith(mark)), None)
    if kind is None:
        raise ImageError(f"{printable(str(path), 200)}: not a PNG, JPEG, GIF, WebP or BMP")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
