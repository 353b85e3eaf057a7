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
MOST_IN_ALL = 2_000_000_000  # of all, as base64
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


class Pictures:
    """Reads the pictures of one file of prompts; paths are meant from `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, Image] = {}  # a picture may be in many prompts
        self._bytes = 0

    def in_messages(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return messages with the data of their pictures. Raises ImageError."""
        return tuple(self._in(m, f"messages[{n}]") for n, m in enumerate(messages))

    def _in(self, message: Message, where: str) -> Message:
        try:
            parts = (self._loaded(p) if isinstance(p, Image) else p for p in message.parts)
            return replace(message, parts=tuple(parts))
        except ImageError as e:
            raise ImageError(f"{where}: image_url: {e}") from e

    def _loaded(self, image: Image) -> Image:
        """Return a picture as a data URL."""
        url = image.url
        if url[:5].lower() == "data:":
            _check_data_url(url)
            return self._counted(image)
        if "://" in url and not url.startswith("file://"):
            raise ImageError(
                f"{printable(url, 80)} would be fetched by the server, and its network measured: "
                "save it beside the file, and give its path"
            )
        path = self._folder / Path(url.removeprefix("file://")).expanduser()
        if path not in self._read:
            self._read[path] = self._counted(Image(_data_url(path)))
        return self._read[path]

    def _counted(self, image: Image) -> Image:
        self._bytes += len(image.url)
        if self._bytes > MOST_IN_ALL:
            raise ImageError(
                f"up to here all pictures have over {MOST_IN_ALL / 1e9:g} GB as they are sent, and "
                "are kept in memory: take fewer or smaller ones"
            )
        return image


def _check_data_url(url: str) -> None:
    found = DATA_URL.match(url)
    if found is None:
        raise ImageError(f"{printable(url, 40)}: not a picture's data URL, data:image/png;base64,…")
    try:
        base64.b64decode(url[found.end() :], validate=True)
    except binascii.Error as e:
        raise ImageError(f"its data URL isn't base64: {e}") from e


def _data_url(path: Path) -> str:
    try:
        data = small_bytes(path, MOST_BYTES)
    except UnreadableError as e:
        raise ImageError(f"{printable(str(path), 200)}: {e}") from e
    kind = next((kind for mark, kind in KINDS.items() if data.startswith(mark)), None)
    if kind is None:
        raise ImageError(f"{printable(str(path), 200)}: not a PNG, JPEG, GIF, WebP or BMP")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
