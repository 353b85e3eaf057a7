"""Control calls to a vLLM server: readiness, models, token counts, counters.

They aren't timed, and each ends in time (`calls`); the streaming path has its own client.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from ..errors import BenchError
from ..records.beside.families import CACHE_CONFIG, COUNTERS, STARTED
from ..records.text import masked, masked_in
from ..reply.said.event import counted
from ..scenario.secrets import masked_words, secret_texts, url_secrets
from .address import Tls, is_own_address
from .calls import Answer, Calls, check_url
from .in_force import Scalar, in_force
from .models import Model, models_in
from .no_answer import FinalError, HungUpError, NoAnswerError, WrongAddressError, other_protocol
from .page import PageError, Sample, summed, vllm_samples

LIMIT_S = 30.0  # counting the tokens of a long chat, on a server under load
LISTED_S = 8.0  # for /v1/models while a server is waited for: nothing can be told meanwhile
START_PROFILE_S, STOP_PROFILE_S = 60.0, 900.0  # 11 s for 100 tokens of a tiny model
SHORT_S = 5.0  # for what a server knows by heart; signals are only counted meanwhile
SILENT_S = 60.0  # so long a page that gave no answer in time isn't asked for again
PAGES = "web pages, not vLLM: is this the port of another service? Correct base_url"
MOST_TEXT = 200  # characters of a version, or of a label
MOST_LABELS = 100
MOST_WORDS = 500  # of a reply that says why it failed


class ControlError(BenchError):
    """A control call that failed; the text is one line for people."""


class NotReadyError(ControlError):
    """The server isn't ready, but may be after a while."""


class WrongServerError(ControlError):
    """What is at the address, or the key for it, is wrong, and stays so."""

    exit_code = 2


class Server:
    """A vLLM server, through its control endpoints."""

    def __init__(
        self, base_url: str, api_key: str | None, headers: dict[str, str], tls: Tls | None = None
    ) -> None:
        """Prepare calls to `base_url` (ending in /v1); nothing is sent yet.

        Raises WrongServerError where no request can go to such a host (256.0.0.1, say), OSError
        where the CA file of `tls` can't be read.
        """
        try:
            check_url(base_url)
        except ValueError as e:
            raise WrongServerError(f"{base_url}: not a usable URL: {e}") from e
        parts = urlsplit(base_url)
        root_path = parts.path.removesuffix("/v1")
        self.base_url = base_url
        self.root_url = urlunsplit((parts.scheme, parts.netloc, root_path, "", ""))
        authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._has_key = bool(api_key)
        self._secrets = secret_texts([api_key or ""], headers)  # a gateway may echo them
        # The system's authorities take 20 ms to load: not where nobody asks for them.
        context = (tls or Tls()).context() if parts.scheme == "https" else None
        self._calls = Calls({**authorization, **headers}, context)
        self._silent_until_s = 0.0
        self.unread: str | None = None  # why the last reading of /metrics gave nothing

    def close(self) -> None:
        self._calls.close()

    def on_this_machine(self) -> bool:
        """Whether the server's address is one of this machine's; a tunnel looks the same."""
        return is_own_address(urlsplit(self.base_url).hostname or "")

    def why_not_ready(self) -> str | None:
        """Return why the server isn't ready; None: it is, and lists what it serves."""
        try:
            self.ready()
        except ControlError as e:
            return str(e)
        return None

    def ready(self) -> list[Model]:
        """Return what the server serves.

        Raises NotReadyError where that may change by waiting, else WrongServerError, ControlError.
        """
        status = self._tried(f"{self.root_url}/health", SHORT_S).status
        if _may_change(status):
            raise NotReadyError(f"/health answers HTTP {status}")
        url = f"{self.base_url}/models"  # a gateway may forward only /v1, and deny the rest
        answer = self._tried(url, LISTED_S)
        wrong_path = answer.status == 404 and not self.base_url.endswith("/v1")
        try:
            found = self._checked(url, answer)
        except ControlError as e:
            if not wrong_path and (answer.status == 404 or _may_change(answer.status)):
                self._check_front_page(answer)
                raise NotReadyError(str(e).removeprefix(self.base_url)) from e
            if answer.status == 400:  # of a proxy to which TLS should be spoken
                self._check_protocol(url, e)
            raise
        if answer.is_page:
            raise WrongServerError(f"{url}: {PAGES}")
        if not answer.body.strip() or _is_empty(found):
            raise NotReadyError("/models lists no model")
        return self._models_of(found)

    def _tried(self, url: str, limit_s: float) -> Answer:
        """Return the answer. Raises NotReadyError where there may be one later, ControlError."""
        try:
            return self._calls.ask(url, limit_s)
        except NoAnswerError as e:
            if isinstance(e, HungUpError):
                self._check_protocol(url, e)
            words = f"{self.base_url}: {masked(str(e), self._secrets)}"
            if isinstance(e, WrongAddressError):
                raise WrongServerError(f"{words}: correct base_url") from e
            if isinstance(e, FinalError):
                raise ControlError(words) from e
            raise NotReadyError(masked(str(e), self._secrets)) from e

    def _check_front_page(self, answer: Answer) -> None:
        """Raise WrongServerError where a page that isn't there is one of a site of web pages.

        A gateway that isn't up yet may answer with such a page too, but has no other.
        """
        if answer.status == 404 and answer.is_page:
            front = self._tried(f"{self.root_url}/", SHORT_S)
            if front.status == 200 and front.is_page:
                raise WrongServerError(f"{self.base_url}: {PAGES}")

    def _check_protocol(self, url: str, problem: BenchError) -> None:
        """Raise WrongServerError where TLS is spoken to a server that doesn't, or isn't."""
        if (other := other_protocol(url)) is not None:
            raise WrongServerError(f"{self.base_url}: {other}: correct base_url") from problem

    def wait_ready(self, limit_s: float, on_wait: Callable[[float, str], bool]) -> list[Model]:
        """Wait until the server is ready, and return what it serves.

        `on_wait(waited_s, why)` may return False to give up. Raises ControlError then, after
        `limit_s` seconds, and at once where waiting changes nothing.
        """
        began_s = time.monotonic()
        while True:
            try:
                return self.ready()
            except NotReadyError as e:
                waited_s = time.monotonic() - began_s
                if waited_s >= limit_s:
                    raise ControlError(
                        f"no server at {self.base_url} after {waited_s:.0f} s: {e}: start one with "
                        "make server, or name another with --base-url"
                    ) from e
                if not on_wait(waited_s, str(e)):
                    raise ControlError(f"gave up waiting for {self.base_url}") from e
            time.sleep(min(1.0, max(0.05, limit_s - waited_s)))

    def models(self) -> list[Model]:
        """Return what the server serves. Raises ControlError."""
        return self._models_of(self._json(f"{self.base_url}/models", LIMIT_S))

    def _models_of(self, found: Any) -> list[Model]:
        models = models_in(found)
        if models is None:
            raise WrongServerError(f"{self.base_url}/models: not a list of models with their ids")
        return models

    def version(self) -> str | None:
        """Return the server's version; None where it doesn't tell any."""
        try:
            found = self._json(f"{self.root_url}/version", SHORT_S)
        except ControlError:
            return None
        version = found.get("version") if isinstance(found, dict) else None
        return version[:MOST_TEXT] if isinstance(version, str) else None

    def tokenize(
        self,
        model: str,
        *,
        messages: list[dict[str, str]] | None = None,
        prompt: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> int | None:
        """Return the number of tokens of a chat or a text, template included.

        `fields` are what else a request says that changes its prompt (tools, say).
        None: the server refuses this one (it is too long, say). Raises ControlError where it
        has no /tokenize or doesn't answer.
        """
        text = {"messages": messages} if messages is not None else {"prompt": prompt}
        found = self._tokenized({"model": model, **text, **(fields or {})})
        try:
            return None if found is None else counted(found["count"])
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise ControlError(f"{self.root_url}/tokenize: no count in the reply") from e

    def token_ids(self, body: Mapping[str, Any]) -> list[int] | None:
        """Return the tokens of what `tokenize` counts, given as its whole body.

        None: the server refuses it, or counts without naming them. Raises ControlError.
        """
        found = self._tokenized(body)
        ids = found.get("tokens") if found else None
        named = isinstance(ids, list) and all(isinstance(token, int) for token in ids)
        return ids if named else None

    def _tokenized(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what is said about a prompt; None: it is refused."""
        url = f"{self.root_url}/tokenize"
        answer = self._ask(url, LIMIT_S, body)
        if answer.status in (400, 413, 422):
            return None
        found = self._checked(url, answer)
        return found if isinstance(found, dict) else {}

    def masked(self, text: str) -> str:
        """Return a text of the server's without its key, and without what looks like a secret."""
        [shown] = masked_words([masked(text, self._secrets)])
        return shown

    def metrics_text(self, limit_s: float = SHORT_S) -> str:
        """Return /metrics as text. Raises ControlError."""
        url = f"{self.root_url}/metrics"
        return _page(url, self._ask(url, limit_s), self._secrets)

    def counters(self) -> dict[str, float] | None:
        """Return the ledger's counters, and when the server began; None: see `unread`."""
        found = summed(s for s in self._samples() if s.name in (*COUNTERS, STARTED))
        return found if found.keys() - {STARTED} else None

    def settled_counters(
        self, arrived: Callable[[dict[str, float]], bool], limit_s: float = 2.0
    ) -> dict[str, float] | None:
        """Return the counters once they have `arrived`, or as they are after `limit_s`.

        vLLM's counters trail its replies by a fraction of a second.
        """
        deadline_s = time.monotonic() + limit_s
        while True:
            found = self.counters()
            if found is None or arrived(found) or time.monotonic() >= deadline_s:
                return found
            time.sleep(0.1)

    def cache_config(self) -> dict[str, str] | None:
        """Return the labels of `vllm:cache_config_info`: block size, blocks, cache dtype."""
        found = next((s.labels for s in self._samples() if s.name == CACHE_CONFIG), None)
        if found is None:
            return None
        return {k[:MOST_TEXT]: v[:MOST_TEXT] for k, v in list(found.items())[:MOST_LABELS]}

    def settings(self, limit_s: float = SHORT_S) -> dict[str, Scalar] | None:
        """Return the settings in force; None where it doesn't tell: see `in_force`.

        A server in development mode looks at its machine first: 3 to 5 s, once.
        """
        try:
            found = self._json(f"{self.root_url}/server_info?config_format=json", limit_s)
        except ControlError:
            return None
        return masked_in(in_force(found), self._secrets) or None

    def profile(self, what: Literal["start", "stop"]) -> None:
        """Switch vLLM's profiler on or off; to stop it takes as long as its files take to write.

        Raises ControlError; WrongServerError where the server was started without it.
        """
        url = f"{self.root_url}/{what}_profile"
        answer = self._ask(url, START_PROFILE_S if what == "start" else STOP_PROFILE_S, {})
        if answer.status == 404:
            raise WrongServerError(
                f"{url}: HTTP 404: the server has no profiler: start vLLM with --profiler-config "
                '\'{"profiler": "torch", "torch_profiler_dir": "DIR"}\''
            )
        if answer.status != 200:
            said = masked(answer.words, self._secrets)
            raise ControlError(f"{url}: HTTP {answer.status}: {said}")

    def _samples(self) -> list[Sample]:
        """Return the samples on /metrics; none where it can't be read: `unread` says why."""
        asked_s = time.monotonic()
        if asked_s < self._silent_until_s:
            return []
        self.unread = None
        try:
            found = vllm_samples(self.metrics_text())
        except (ControlError, PageError) as e:
            self.unread = str(e)
            if time.monotonic() - asked_s > SHORT_S / 2:
                self._silent_until_s = time.monotonic() + SILENT_S
            return []
        if not any(sample.name in COUNTERS for sample in found):
            self.unread = "it has none of vLLM's counters"
        return found

    def _json(self, url: str, limit_s: float) -> Any:
        return self._checked(url, self._ask(url, limit_s))

    def _ask(self, url: str, limit_s: float, body: object = None) -> Answer:
        try:
            posted = None if body is None else json.dumps(body).encode()
            return self._calls.ask(url, limit_s, posted)
        except NoAnswerError as e:
            raise ControlError(f"{url}: {masked(str(e), self._secrets)}") from e

    def _checked(self, url: str, answer: Answer) -> Any:
        """Return the JSON of a reply, None where it is none. Raises ControlError."""
        status = answer.status
        if status == 401:
            key = "set api_key_env to the key's variable"
            refused = "the key is refused: does api_key_env name its variable?"
            raise WrongServerError(f"{url}: HTTP 401: {refused if self._has_key else key}")
        if status == 404 and not self.base_url.endswith("/v1"):
            raise WrongServerError(f"{url}: HTTP 404: base_url should end in /v1")
        if status != 200:
            words = masked(answer.words, self._secrets)[:MOST_WORDS]
            kind = WrongServerError if status == 403 or 300 <= status < 400 else ControlError
            raise kind(f"{url}: HTTP {status}: {words}")
        return answer.json()


def page_getter(url: str, limit_s: float) -> Callable[[], str]:
    """Return a function that fetches a page's text, over a connection of its own each time.

    It raises ControlError.
    """

    secrets = url_secrets(url)
    shown = masked(url, secrets)

    def fetch() -> str:
        with closing(Calls({})) as calls:
            try:
                return _page(shown, calls.ask(url, limit_s), secrets)
            except NoAnswerError as e:
                raise ControlError(f"{shown}: {masked(str(e), secrets)}") from e

    return fetch


def _page(url: str, answer: Answer, secrets: tuple[str, ...]) -> str:
    if answer.status != 200:
        location = masked(answer.location, secrets)[:MOST_TEXT] if answer.location else ""
        to = f", and points to {location}" if location else ""
        raise ControlError(f"{url}: HTTP {answer.status}{to}")
    return answer.text


def _may_change(status: int) -> bool:
    """Whether another answer may come after a while: a server or a gateway that starts."""
    return 200 < status < 300 or status in (408, 425, 429) or status >= 500


def _is_empty(found: Any) -> bool:
    """Whether a list of models has none, yet: some gateways write null for that."""
    return found in ({}, []) or (isinstance(found, dict) and found.get("data", 1) in (None, []))
