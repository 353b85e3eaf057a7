"""Reads .env in one plain dialect, and refuses lines that its other readers read differently.

    # a comment has its own line
    NAME=value
    NAME='a value with #, $ or "'
    NAME="a value with '"

The launcher and the scripts read .env with this file; Docker Compose reads the same .env with
python-dotenv (v1) or with a parser in Go (v2). These two disagree on `$`, backslashes, comments
behind a value and more. So this reader accepts less than both: where they disagree, it refuses the
line. Nothing is expanded or run.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path

from .errors import UsageError
from .small_file import MissingError, UnreadableError, small_text

MOST_BYTES = 1 << 16

# Patterns that a line must not match, and what to write instead; the first match is reported.
# A line has no blanks at its ends, and may be empty or a comment.
REFUSED = {
    r"[\0-\x08\x0b-\x1f]|^\w.*\s$": "has an invisible character: type the line again",
    r"^export\s": "leave out `export`",
    r"^(?!$|#|[A-Za-z_][A-Za-z0-9_]*\s*=)": "not NAME=value, with letters, digits and _ in NAME",
    r"^\w+(\s+=|=\s)": "leave out the blanks around the =",
    r"""^\w+=(?=['"])(?!'[^']*'$|"[^"]*"$)""": (
        "a value that starts with a quote has to end with it, with no other one inside"
    ),
    r"""^\w+=['"].*\\""": "a backslash in quotes: leave out the quotes",
    r"^\w+=.*\$\{": "${ is filled in by Docker Compose: set this variable in the shell instead",
    r"^\w+=(?!').*\$": "$ is filled in by Docker Compose: put the value in single quotes",
    r"""^\w+=(?!['"]).*#""": "a # in the value needs single quotes, a comment its own line",
}


class EnvFileError(UsageError):
    """The file can't be used. The text names the line but never quotes it: it may be a secret."""


def parse_env(text: str) -> dict[str, str]:
    """Return every name with its last value, the empty ones too. Raises EnvFileError."""
    values = {}
    for number, untrimmed in enumerate(text.split("\n"), 1):
        line = untrimmed.removesuffix("\r").strip(" \t")
        for pattern, remedy in REFUSED.items():
            if re.search(pattern, line):
                raise EnvFileError(f"line {number}: {remedy}")
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            values[name] = value[1:-1] if value.startswith(("'", '"')) else value
    return values


def load_env_file(path: Path, environ: MutableMapping[str, str]) -> set[str]:
    """Set what the file gives and `environ` lacks, and return the names. Raises EnvFileError.

    A missing file sets nothing, and an empty value is skipped.
    """
    try:
        # A line doesn't end at a lone \r: for Compose v2 it doesn't either.
        values = parse_env(small_text(path, MOST_BYTES))
    except MissingError:
        return set()
    except UnreadableError as e:
        raise EnvFileError(f"{path}: {e}") from e
    except EnvFileError as e:
        raise EnvFileError(f"{path}, {e}") from e
    given = {name: value for name, value in values.items() if value and name not in environ}
    environ.update(given)
    return set(given)
