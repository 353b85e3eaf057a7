"""What is secret: by the names of settings, flags and variables, and by what a scenario sends.

Only Python's own modules are needed, since the launcher runs before any package is there.

Secret are the API key, every value of `headers`, and each value of `extra_body` whose key looks
like one; of several words each alone, too (`Bearer sk-…`), and what `Basic …` encodes. Not secret
is what would only make errors unreadable: texts of less than 4 characters, names of
authentication schemes, media types, and the values of headers that say how a reply may look.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from .echoes import SHORTEST

MASK = "***"
OF_THE_ENVIRONMENT = ("HF_TOKEN", "VLLM_API_KEY")

# vLLM takes shortened flags: --api-k, --hf-t.
_SECRET = re.compile(
    r"pass(word|wd|phrase|code)|pwd|secret|credential|authori[sz]ation|cookie|bearer|jwt|signature"
    r"|(^|_)(auth|pat)($|_)|key|token|(^|_)api_k$|(^|_)hf_t(ok?)?$"
)
# Names with `key` or `token` that are none: numbers, ids and texts of a model's tokens.
_HARMLESS = re.compile(
    r"keywords?|keyboard|(?<!access)(?<!access_)(?<!auth_)(?<!api_)(?<!refresh_)tokens"
    r"|(de)?tokeni[sz][a-z]*|token_(ids?|count|budget|limit|level|type|per_)"
    r"|(bos|eos|pad|unk|sep|cls|mask|stop|start|end|special|image|audio|video|think|max|per)_token"
)
_HEADERS_ON_FORM = {
    *("accept", "accept-charset", "accept-language", "cache-control", "pragma", "user-agent"),
    *("content-language", "dnt", "te", "priority", "prefer", "expect"),
}
_MEDIA_TYPE = re.compile(r"(application|text|audio|image|video|multipart|model)/[a-z0-9.+*-]{1,40}")
_SCHEMES = {"basic", "bearer", "digest", "negotiate", "token", "apikey", "key", "true", "false"}


class Sender(Protocol):
    """What of a scenario is asked for its secrets."""

    @property
    def api_key_env(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def extra_body(self) -> Mapping[str, Any]: ...


def is_secret_key(name: str) -> bool:
    """Whether a setting, flag, header or variable of this name has a secret as its value."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    plain = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return _SECRET.search(_HARMLESS.sub("", plain)) is not None


def without_keys(environ: Mapping[str, str], scenarios: Iterable[Sender]) -> dict[str, str]:
    """Return the variables less the keys that we read: nobody whom we start needs them."""
    keys = {scenario.api_key_env for scenario in scenarios} | {*OF_THE_ENVIRONMENT}
    return {name: value for name, value in environ.items() if name not in keys}


def secrets_of(scenario: Sender, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the texts that must not be shown: what the scenario sends, and keys of its hub."""
    names = (scenario.api_key_env, *OF_THE_ENVIRONMENT)
    keys = [environ.get(name, "") for name in names if name is not None]
    return secret_texts(keys, scenario.headers, scenario.extra_body)


def secret_texts(
    keys: Iterable[str], headers: Mapping[str, str], body: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Return what is secret of these, the longest first: keys, values of headers, of a body."""
    values = [*keys, *_of_headers(headers), *_leaves(body or {}, secret=False)]
    found = {part for value in values for part in _parts(value) if len(part) >= SHORTEST}
    return tuple(sorted(found, key=lambda part: (-len(part), part)))


def url_secrets(url: str) -> tuple[str, ...]:
    """Return what is secret of a URL: user and password, and values of secret query keys."""
    parts = urlsplit(url)
    asked = [v for k, v in parse_qsl(parts.query) if is_secret_key(k)]
    login = [unquote(part) for part in (parts.username, parts.password) if part]
    return secret_texts([*login, *asked], {})


def masked_words(words: Iterable[str]) -> Iterator[str]:
    """Yield a command's words with *** for what a flag or a name announces as secret."""
    secret = awaited = False  # whether a secret's flag came before; whether its value comes next
    for word in words:
        flag = re.match(r"--?[A-Za-z][\w.-]*(=|$)", word)
        if secret and (not flag or (awaited and not word.startswith("--"))):  # --api-key -x9
            yield MASK
            awaited = False
            continue
        secret = is_secret_key(flag[0]) if flag else False
        awaited = secret and "=" not in word
        yield _without_secrets(word)


def _without_secrets(word: str) -> str:
    """Return a word up to the first value whose name looks like a secret, logins in URLs masked."""
    if re.match(r"(bearer|basic)\s+\S", word, re.I):
        return f"{word.split(maxsplit=1)[0]} {MASK}"
    shown = re.sub(r"(://)[^/\s@]+@", rf"\1{MASK}@", word)
    for name in re.finditer(r"([\w.-]+)[\"'\\]*\s*[=:]", shown):
        if is_secret_key(name[1]):
            return shown[: name.end()] + MASK
    return shown


def masked_settings(value: Any) -> Any:
    """Return settings from JSON or YAML with *** for each value whose key looks like a secret."""
    if isinstance(value, Mapping):
        return {k: _shown(k, part) for k, part in value.items()}
    return [masked_settings(part) for part in value] if isinstance(value, list) else value


def _shown(key: str, value: Any) -> Any:
    if not is_secret_key(key) or _is_schema(value):
        return masked_settings(value)
    return _all_masked(value)


def _all_masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _all_masked(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_all_masked(part) for part in value]
    return value if value is None or isinstance(value, bool) else MASK


def _leaves(value: Any, *, secret: bool) -> Iterator[str]:
    """Yield the values of a body under keys that look like secrets, as text."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            own = is_secret_key(key) and not _is_schema(part)
            yield from _leaves(part, secret=own or (secret and not _is_schema(part)))
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, secret=secret)
    elif secret and value is not None and not isinstance(value, bool):
        yield str(value)


def _is_schema(value: Any) -> bool:
    """Whether a value describes one: `{"password": {"type": "string"}}` in a tool's parameters."""
    return isinstance(value, Mapping) and ("type" in value or "$ref" in value or "anyOf" in value)


def _of_headers(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        if name.lower() not in _HEADERS_ON_FORM and not _MEDIA_TYPE.fullmatch(value.lower()):
            yield value


def _parts(value: str) -> Iterator[str]:
    """Yield a value, each of its words, what `name=` in it has, and what is in `Basic …`."""
    whole = " ".join(value.split())
    yield from (value, whole)
    words = [word for word in re.split(r"[\s;,]+", value) if word.lower() not in _SCHEMES]
    yield from words
    yield from (assigned.strip("\"'") for assigned in re.findall(r"\w=([^\s;,=]+)", value))
    if whole.lower().startswith("basic "):
        yield from _login(whole[6:])


def _login(encoded: str) -> Iterator[str]:
    """Yield `user:password` and the password of a Basic authorization."""
    try:
        login = base64.b64decode(encoded + "==").decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    yield login
    yield login.partition(":")[2]
