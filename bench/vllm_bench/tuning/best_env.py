"""A configuration's variables, in words and as an env file to start with; secrets in neither."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from ..env_file import EnvFileError, parse_env
from ..records.text import printable
from ..scenario.secrets import MASK, is_secret_key, masked_words


def setting_words(settings: Mapping[str, str]) -> str:
    """Return settings as one would type them before a command, secrets masked."""
    words = [f"{name}={_shown(name, value)}" for name, value in settings.items()]
    return shlex.join(words) if words else ""


def _shown(name: str, value: str) -> str:
    if is_secret_key(name):
        return MASK
    return " ".join(masked_words(value.split(" ")))


def best_env(values: Mapping[str, str], words: str) -> str:
    """Return an env file with a configuration's variables; what is or looks secret is left out.

    A value that no line of an env file can hold is a comment, to be put in by hand.
    """
    found = [f"# {printable(line)}" for line in ("Found by tune.py.", words)]
    for name, value in values.items():
        if is_secret_key(name):
            found.append(f"# {name} is a secret: set it in the environment or in .env")
        elif (shown := _shown(name, value)) != value:
            found.append(f"# {name}={printable(shown, 1000)}  (a secret, to be put in by hand)")
        else:
            found.append(_line(name, value))
    return "\n".join(found) + "\n"


PLAIN = re.compile(r"[\w./:+,@%=-]*")  # what needs no quotes, in a shell neither


def _line(name: str, value: str) -> str:
    for quote in ("", "'", '"') if PLAIN.fullmatch(value) else ("'", '"', ""):
        line = f"{name}={quote}{value}{quote}"
        try:
            if parse_env(line) == {name: value}:
                return line
        except EnvFileError:
            continue
    return f"# {name}={printable(value, 1000)}  (has quotes of both kinds: set it in the shell)"
