"""Control calls to a vLLM server: readiness, models, token counts, counters.

They aren't timed, so they use httpx; the streaming path has its own client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from ..errors import BenchError
from ..reply.events import counted
from ..reply.words import error_text
from .address import Tls, is_own_address
from .page import COUNTERS, PageError, Sample, samples, summed

LIMIT_S = 30.0


class ControlError(BenchError):
    """A control call that failed; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of /v1/models."""

    id: str
    root: str | None
    max_model_len: int | None


class Server:
    """A vLLM server, through its control endpoints."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        headers: dict[str, str],
        tls: Tls | None = None,
    ) -> None:
        """Prepare calls to `base_url` (ending in /v1); nothing is sent yet.

        Raises ControlError where no request can go to such a host (256.0.0.1, say), OSError where
        the CA file of `tls` can't be read.
        """
        try:
            _ = httpx.URL(base_url).host
        except (httpx.InvalidURL, UnicodeError) as e:
            raise ControlError(f"{base_url}: not a usable URL: {e}") from e
        parts = urlsplit(base_url)
        root_path = parts.path.removesuffix("/v1")
        self.base_url = base_url
        self.root_url = urlunsplit((parts.scheme, parts.netloc, root_path, "", ""))
        authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._secrets = [v for v in (api_key, *headers.values()) if v]
        self._http = httpx.Client(
            headers={**authorization, **headers},
            timeout=httpx.Timeout(LIMIT_S, connect=5.0),
            # The system's authorities take 20 ms to load: not where nobody asks for them.
            verify=(tls or Tls()).context() if parts.scheme == "https" else False,
            # No proxy from the environment: the streaming path doesn't use one either,
            # and both must speak to the same server.
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def on_this_machine(self) -> bool:
        """Whether the server's address is one of this machine's; a tunnel looks the same."""
        return is_own_address(urlsplit(self.base_url).hostname or "")

    def why_not_ready(self) -> str | None:
        """Return why the server isn't ready; None: it answers /health with 200."""
        try:
            status = self._http.get(f"{self.root_url}/health", timeout=5.0).status_code
        except (httpx.HTTPError, OSError) as e:
            return _reason(e)
        if status not in (200, 404):
            return f"/health answers HTTP {status}"
        try:
            if status == 404:  # a gateway may forward only /v1
                self.models()
        except ControlError as e:
            return str(e)
        return None

    def wait_ready(self, limit_s: float, on_wait: Callable[[float, str], bool]) -> None:
        """Wait until the server is ready; `on_wait(waited_s, why)` may return False to give up.

        Raises ControlError after `limit_s` seconds, or when `on_wait` gives up.
        """
        began_s = time.monotonic()
        while (why := self.why_not_ready()) is not None:
            waited_s = time.monotonic() - began_s
            if waited_s >= limit_s:
                raise ControlError(
                    f"no server at {self.base_url} after {waited_s:.0f} s: {why}: start one with "
                    "make server, or name another with --base-url"
                )
            if not on_wait(waited_s, why):
                raise ControlError(f"gave up waiting for {self.base_url}")
            time.sleep(min(1.0, max(0.05, limit_s - waited_s)))

    def models(self) -> list[Model]:
        """Return what the server serves. Raises ControlError."""
        found = self._json(f"{self.base_url}/models")
        try:
            return [Model(m["id"], m.get("root"), m.get("max_model_len")) for m in found["data"]]
        except (KeyError, TypeError) as e:
            raise ControlError(f"{self.base_url}/models: not a list of models") from e

    def version(self) -> str | None:
        try:
            found = self._json(f"{self.root_url}/version")["version"]
        except (ControlError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

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
        body = {"model": model, **text, **(fields or {})}
        reply = self._send("POST", f"{self.root_url}/tokenize", body)
        if reply.status_code in (400, 413, 422):
            return None
        found = self._checked(reply)
        try:
            return counted(found["count"])
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise ControlError(f"{self.root_url}/tokenize: no count in the reply") from e

    def metrics_text(self, limit_s: float = LIMIT_S) -> str | None:
        """Return /metrics as text; None where there is none, or not within the limit."""
        return _page(self._http, f"{self.root_url}/metrics", limit_s)

    def counters(self) -> dict[str, float] | None:
        """Return the ledger's counters; None where they can't be read."""
        return summed(self._samples(COUNTERS)) or None

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
        found = self._samples(["vllm:cache_config_info"])
        return dict(found[0].labels) if found else None

    def _samples(self, names: Collection[str]) -> list[Sample]:
        """Return the samples on /metrics; none where there is no such page."""
        try:
            return list(samples(self.metrics_text() or "", names))
        except PageError:
            return []

    def _json(self, url: str) -> Any:
        return self._checked(self._send("GET", url))

    def _send(self, method: str, url: str, body: object = None) -> httpx.Response:
        try:
            return self._http.request(method, url, json=body)
        except (httpx.HTTPError, OSError) as e:
            raise ControlError(f"{url}: {_reason(e)}") from e

    def _checked(self, reply: httpx.Response) -> Any:
        try:
            found = reply.json()
        except ValueError:
            found = reply.text[:200]
        if reply.status_code == 401:
            raise ControlError(f"{reply.url}: HTTP 401: set api_key_env to the key's variable")
        if reply.status_code != 200:
            words = error_text(found)
            if reply.status_code == 404 and not self.base_url.endswith("/v1"):
                words = "base_url should end in /v1"
            for secret in self._secrets:  # a gateway may echo it
                words = words.replace(secret, "***")
            raise ControlError(f"{reply.url}: HTTP {reply.status_code}: {words[:500]}")
        return found


def page_getter(url: str, limit_s: float) -> Callable[[], str | None]:
    """Return a function that fetches a page's text over its own connection (None: no page)."""
    http = httpx.Client(trust_env=False)
    return lambda: _page(http, url, limit_s)


def _page(http: httpx.Client, url: str, limit_s: float) -> str | None:
    try:
        reply = http.get(url, timeout=limit_s)
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return None
    return reply.text if reply.status_code == 200 else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
