"""What goes into the report's page beside its HTML: data, scripts, and text inside charts.

The page itself is escaped by jinja2. Three things are not HTML and are made safe here: JSON in a
script element, the hashes by which the page names the scripts that may run, and text that plotly
draws, in which it reads a few tags and templates.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import textwrap
from collections.abc import Iterable
from typing import Any

import orjson

from ..records.text import printable

DIGITS = 5  # more can be neither seen nor hovered at, and ten runs are to stay small
LINE_LENGTH = 60  # of a hover label, which plotly doesn't fold


def script_json(document: Any) -> str:
    """Return JSON that can stand inside a script element: nothing in it can end the element."""
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def script_source(text: str) -> str:
    """Return a script as it may stand inside its element; a carriage return would be rewritten
    by the browser before it is hashed, and `</script` in a string would end the element.
    """
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def policy_hash(script: str) -> str:
    """Return a script's hash as a content security policy writes it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def chart_text(text: object, limit: int = 200) -> str:
    """Return foreign text that plotly draws as it stands: no tag, no template, no formula.

    Plotly turns entities back into characters after it has looked for tags and templates.
    """
    safe = html.escape(printable(text, limit), quote=False)
    for character in "{}$":
        safe = safe.replace(character, f"&#{ord(character)};")
    return safe


def hover_lines(text: object, limit: int = 300) -> str:
    """Return foreign text folded into lines for a hover label."""
    lines = textwrap.wrap(printable(text, limit), LINE_LENGTH) or [""]
    return "<br>".join(chart_text(line) for line in lines)


def capital(words: str) -> str:
    """Return words as they begin a heading: what stands in capitals stays so."""
    return words[:1].upper() + words[1:]


def rounded(values: Iterable[float]) -> list[float | None]:
    """Return values with the digits that a chart can show; what is no number is a gap."""
    return [float(f"{v:.{DIGITS}g}") if math.isfinite(v) else None for v in map(float, values)]
