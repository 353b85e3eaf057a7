"""An env file: the settings of one server, over what .env and the shell say for all.

    # b.env: as A, with more requests at a time
    MAX_NUM_SEQS=64
    EXTRA_ARGS=--no-enable-prefix-caching

It is written as .env is (env_file.py), and may have what .env may: the launcher's variables, and
any other variable for vLLM. It is the whole difference between two servers: what .env or the shell
sets holds for both, below it, and an empty value takes that away (vLLM's own default holds then).
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..env_file import MOST_BYTES, EnvFileError, parse_env
from ..launcher import (
    OF_COMPOSE,
    OF_THE_LAUNCHER,
    PLACEHOLDER,
    SECRETS,
    SETTINGS,
    asked_of,
    problem_with,
)
from ..scenario.scenario import Scenario
from ..scenario.secrets import (
    MASK,
    OF_THE_ENVIRONMENT,
    is_secret_key,
    masked_words,
    secret_texts,
    url_secrets,
)
from ..small_file import MissingError, UnreadableError, small_text

DEFAULT_PORT = 8000
ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
VARIABLES = (*SETTINGS, *SECRETS, *OF_COMPOSE, *OF_THE_LAUNCHER, "EXTRA_ARGS")
MOST_VALUE = 4096  # characters of a value
API_KEY = "VLLM_API_KEY"


@dataclass(frozen=True, slots=True)
class Settings:
    """What one server is started with."""

    name: str  # the file's stem
    path: Path
    values: Mapping[str, str] = field(repr=False)  # of the file alone, secrets in clear
    environ: Mapping[str, str] = field(repr=False)  # what it is started with
    secrets: tuple[str, ...] = field(repr=False)  # texts that are never shown or written

    @property
    def asked(self) -> dict[str, str]:
        """What vLLM is asked for, by its own names: {"max_num_seqs": "64"}."""
        return asked_of(self.environ)

    @property
    def shown(self) -> dict[str, str]:
        """The file's values, secrets masked."""
        return {name: _shown(name, value) for name, value in self.values.items()}

    @property
    def port(self) -> int:
        """The port that the server will listen on."""
        given = self.asked.get("port", "")
        return int(given) if given.isdecimal() else DEFAULT_PORT

    @property
    def host(self) -> str:
        """The address that the server will listen on; empty: all of this machine's."""
        return self.asked.get("host", "")

    @property
    def base_url(self) -> str:
        """Where clients on this machine reach it, ending in /v1."""
        host = ANY_ADDRESS.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    @property
    def api_key(self) -> str | None:
        """The key that clients must send, if any."""
        given = self.asked.get("api_key", "").split()
        return given[0] if given else self.environ.get(API_KEY) or None

    @property
    def key(self) -> dict[str, str]:
        """The variable with that key, for clients."""
        return {API_KEY: self.api_key} if self.api_key else {}

    def reached_by(self, scenario: Scenario) -> Scenario:
        """Return the scenario with this server's address, and its key unless it names another."""
        here = {"base_url": self.base_url}
        if self.api_key and scenario.api_key_env is None:
            here["api_key_env"] = API_KEY
        return scenario.model_copy(update=here)


def read_env(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an env file over an environment (with .env's values in it).

    Raises EnvFileError, which names the line and quotes no secret.
    """
    try:
        text = small_text(path, MOST_BYTES)
        values = parse_env(text)
    except MissingError as e:
        raise EnvFileError(f"{path}: no such env file") from e
    except UnreadableError as e:
        raise EnvFileError(f"{path}: {e}") from e
    except EnvFileError as e:
        raise EnvFileError(f"{path}, {e}") from e
    for name, value in values.items():
        if problem := _problem(name, value):
            raise EnvFileError(f"{path}, line {_line_of(name, text)}: {problem}")
    return settings_of(path, values, environ or {})


def settings_of(path: Path, values: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
    """Return settings from values as a file would have them; `path` names them.

    Raises EnvFileError.
    """
    whole = {**environ, **values}
    for name in (*values, "EXTRA_ARGS", "PORT"):
        if problem := _problem(name, whole.get(name, "")):
            where = path if name in values else "the environment, or .env"
            raise EnvFileError(f"{where}: {problem}")
    for name in OF_COMPOSE:
        whole.pop(name, None)
    if whole.get("HF_TOKEN", "").startswith(PLACEHOLDER):
        del whole["HF_TOKEN"]
    return Settings(path.stem, path, dict(values), whole, _secrets(values, whole))


def _problem(name: str, value: str) -> str | None:
    """Return what is wrong with a variable; a slip in a name would make A and B the same server."""
    flags = {flag[2:].replace("-", "_").upper(): own for own, (flag, *_) in SETTINGS.items()}
    alike = difflib.get_close_matches(name.upper(), VARIABLES, n=1, cutoff=0.8)
    near = [flags[name.upper()]] if name.upper() in flags else alike
    if near and name not in VARIABLES:
        return f"{name}: no such variable: did you mean {near[0]}?"
    if len(value) > MOST_VALUE:
        return f"{name}: longer than {MOST_VALUE:,} characters"
    problem = problem_with(name, value) if value else None
    shown = "" if name == "EXTRA_ARGS" else f"={value}"
    return f"{name}{shown}: {problem}" if problem else None


def _line_of(name: str, text: str) -> int:
    """Return the number of the last line that sets a variable."""
    lines = text.split("\n")
    return max(n for n, line in enumerate(lines, 1) if line.strip(" \t").startswith(f"{name}="))


def _shown(name: str, value: str) -> str:
    if is_secret_key(name):
        return MASK if value else ""
    if name == "EXTRA_ARGS":
        return shlex.join(masked_words(shlex.split(value)))
    return next(iter(masked_words([value])), "")


def _secrets(values: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the texts that must not be shown, the longest first."""
    named = [n for n in environ if n in OF_THE_ENVIRONMENT or (n in values and is_secret_key(n))]
    words = shlex.split(environ.get("EXTRA_ARGS", ""))
    others = [value for name, value in values.items() if name != "EXTRA_ARGS"]
    keys = [environ[name] for name in named]
    return secret_texts([*keys, *_masked_parts(words), *_masked_parts(others)], {})


def _masked_parts(words: Iterable[str]) -> Iterator[str]:
    """Yield of a command's words what `masked_words` hides."""
    words = list(words)
    for word, shown in zip(words, masked_words(words), strict=True):
        if shown == word:
            continue
        if "://" in word:
            yield from url_secrets(word)
        hidden = word if shown == MASK else word[len(shown) - len(MASK) :]
        yield from (hidden, *re.split(r"[\s\"'{}\[\],:=\\]+", hidden))
