"""Routes: what answers each path, and the check of API keys."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import orjson

from .answers import Caller, Server
from .faults import fault_of
from .faulty import REFUSALS, answer_to
from .metrics import CONTENT_TYPE
from .truth import refused
from .wire import bodies
from .wire.connection import JSON, VARY, Connection, HttpRequest
from .wire.errors import ApiError
from .wire.generation import (
    CHAT,
    COMPLETIONS,
    RESPONSES,
    check_model,
    read_json,
    read_prompt,
    read_request,
)
from .wire.settings import VERSION
from .wire.vocabulary import vocabulary


class Plain(NamedTuple):
    """An answer that is ready at once."""

    status: int
    body: bytes
    content_type: str | None = JSON
    more: str = VARY  # further header lines


def _json(value: object) -> Plain:
    return Plain(200, orjson.dumps(value))


class Api:
    """Answers each request: at once, or by starting an answer that the pacing feeds."""

    def __init__(self, server: Server, info: dict[str, Any] | None = None) -> None:
        """Make the routes; `info` is for /server_info, which only development mode has."""
        self._server = server
        self._created = int(time.time())
        self._profiling = False
        self.requests = 0  # for tokens, so far; faults refer to this number
        self._routes: dict[str, tuple[str, Callable[[HttpRequest, Connection], Plain | None]]] = {
            "/health": ("GET", lambda *_: Plain(200, b"", None)),
            "/version": ("GET", lambda *_: _json({"version": VERSION})),
            "/metrics": ("GET", lambda *_: Plain(200, server.metrics.text(), CONTENT_TYPE)),
            "/v1/models": ("GET", lambda *_: _json(bodies.models(server.settings, self._created))),
            "/tokenize": ("POST", self._tokenize),
            "/v1/chat/completions": ("POST", partial(self._generate, CHAT)),
            "/v1/completions": ("POST", partial(self._generate, COMPLETIONS)),
            "/v1/responses": ("POST", partial(self._generate, RESPONSES)),
        }
        if server.settings.profiler:
            self._routes["/start_profile"] = ("POST", lambda *_: self._profile(start=True))
            self._routes["/stop_profile"] = ("POST", lambda *_: self._profile(start=False))
        if info is not None:
            self._routes["/server_info"] = ("GET", lambda *_: _json(info))

    def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Answer a request on its connection, now or later."""
        try:
            plain = self._answer(request, connection)
        except ApiError as error:
            more = "" if error.status == 401 else VARY  # vLLM checks the key before the origin
            plain = Plain(error.status, orjson.dumps(error.body), more=more)
        if plain is not None:
            connection.put(*plain)
            connection.end()

    def _answer(self, request: HttpRequest, connection: Connection) -> Plain | None:
        path = request.path
        if path.startswith("/v1") and not self._may(request.headers.get("authorization", "")):
            raise ApiError(401, "Unauthorized")
        if path not in self._routes:
            return Plain(404, b'{"detail":"Not Found"}')
        method, answer = self._routes[path]
        if request.method != method:
            more = f"allow: {method}\r\n{VARY}"
            return Plain(405, b'{"detail":"Method Not Allowed"}', more=more)
        return answer(request, connection)

    def _may(self, authorization: str) -> bool:
        keys = self._server.settings.api_keys
        scheme, _, given = authorization.partition(" ")
        same = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
        return not keys or (scheme.lower() == "bearer" and any(same))

    def _profile(self, *, start: bool) -> Plain:
        """Note the order as vLLM does: a second start is refused, a second stop isn't."""
        if start and self._profiling:
            return Plain(409, b'{"detail":"Profiling is already running"}')
        self._profiling = start
        return Plain(200, b"", None)

    def _generate(self, endpoint: str, request: HttpRequest, connection: Connection) -> None:
        server = self._server
        name = request.headers.get("x-request-id") or secrets.token_hex(8)
        self.requests += 1
        fault = fault_of(server.faults, self.requests, server.settings.seed)
        try:
            if fault is not None and fault.kind in REFUSALS:
                server.metrics.rejected += fault.kind == "http_503"  # as from a full queue
                raise REFUSALS[fault.kind]
            ask = read_request(endpoint, read_json(request.body), server.settings)
        except ApiError as error:
            server.truth.add(refused(name, endpoint, request.received_ns, error.status))
            raise
        server.metrics.see(ask.pictures)
        answer_to(ask, Caller(connection, request, name), server, fault).begin()

    def _tokenize(self, request: HttpRequest, *_: object) -> Plain:
        body = read_json(request.body)
        settings = self._server.settings
        check_model(body, settings)
        words = vocabulary(settings.tokenizer)
        tokens, _ = read_prompt("messages" if "messages" in body else "prompt", body, words)
        shown = words if body.get("return_token_strs") else None
        return _json(bodies.tokenized(tokens, settings.max_model_len, shown))
