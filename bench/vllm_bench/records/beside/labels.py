"""The labels of a series, as Prometheus writes them: `engine="0",model_name="tiny"`."""

from __future__ import annotations

import re
from collections.abc import Mapping

LABEL = r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*'
LABELS = re.compile(rf"{{(?:{LABEL}(?:,|(?=}})))*}}")
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def labels_of(text: str) -> dict[str, str]:
    """Return the labels in a text, with or without its braces; what is none is passed over."""
    return {
        key: re.sub(r'\\[n"\\]', lambda found: _ESCAPES[found.group()], value)
        for key, value in re.findall(LABEL, text)
    }


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as text, by name."""
    return ",".join(f'{key}="{_escaped(labels[key])}"' for key in sorted(labels))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
