"""Routes: which path is answered by what, and who may ask."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from .answers import Caller, House
from .faults import fault_of
from .faulty import REFUSALS, answer_to
from .metrics import CONTENT_TYPE
from .truth import refused
from .wire import bodies
from .wire.ask import CHAT, COMPLETIONS, chat_tokens, check_model, missing, read_ask, read_json
from .wire.connection import JSON, Connection, HttpRequest
from .wire.errors import ApiError, invalid
from .wire.settings import VERSION
from .wire.tokens import detokenize, tokenize


class Plain(NamedTuple):
    """An answer that is there at once."""

    status: int
    body: bytes
    content_type: str | None = JSON
    more: str = "vary: Origin\r\n"  # further header lines


def _json(value: object, status: int = 200) -> Plain:
    return Plain(status, orjson.dumps(value))


class Api:
    """Answers each request: at once, or by starting an answer that the pacing feeds."""

    def __init__(self, house: House) -> None:
        """Serve one house."""
        self._house = house
        self._created = int(time.time())
        self._requests = 0  # for tokens, so far; faults go by their number
        self._routes: dict[str, dict[str, Callable[[HttpRequest], Plain]]] = {
            "/health": {"GET": lambda _: Plain(200, b"", None)},
            "/ping": {
                "GET": lambda _: Plain(200, b"", None),
                "POST": lambda _: Plain(200, b"", None),
            },
            "/load": {"GET": lambda _: _json({"server_load": house.metrics.load})},
            "/version": {"GET": lambda _: _json({"version": VERSION})},
            "/metrics": {"GET": self._metrics},
            "/v1/models": {"GET": lambda _: _json(bodies.models(house.settings, self._created))},
            "/tokenize": {"POST": self._tokenize},
            "/detokenize": {"POST": self._detokenize},
            "/reset_prefix_cache": {"POST": self._reset_prefix_cache},
        }
        self._generators = {"/v1/chat/completions": CHAT, "/v1/completions": COMPLETIONS}

    def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Answer a request on its connection, now or later."""
        try:
            plain = self._answer(request, connection)
        except ApiError as error:
            plain = _json(error.body, error.status)
        if plain is not None:
            seconds = (time.perf_counter_ns() - request.received_ns) / 1e9
            sizes = (len(request.body), len(plain.body))
            self._house.metrics.http.answered(
                request.method, request.path, plain.status, sizes, seconds
            )
            connection.put(*plain)
            connection.end()

    def _answer(self, request: HttpRequest, connection: Connection) -> Plain | None:
        path = request.path
        if path.startswith("/v1") and not self._may(request.headers.get("authorization", "")):
            return Plain(401, b'{"error":"Unauthorized"}', more="")
        if path in self._generators:
            if request.method != "POST":
                return _not_allowed("POST")
            self._generate(self._generators[path], request, connection)
            return None
        methods = self._routes.get(path)
        if methods is None:
            return _json({"detail": "Not Found"}, 404)
        if request.method not in methods:
            return _not_allowed(", ".join(methods))
        return methods[request.method](request)

    def _may(self, authorization: str) -> bool:
        keys = self._house.settings.api_keys
        scheme, _, given = authorization.partition(" ")
        same = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
        return not keys or (scheme.lower() == "bearer" and any(same))

    def _generate(self, endpoint: str, request: HttpRequest, connection: Connection) -> None:
        house = self._house
        prefix = "chatcmpl" if endpoint == CHAT else "cmpl"
        given = request.headers.get("x-request-id")
        name = given or secrets.token_hex(8)
        self._requests += 1
        fault = fault_of(house.faults, self._requests, house.settings.seed)
        try:
            if fault is not None and fault.kind in REFUSALS:
                raise REFUSALS[fault.kind]
            ask = read_ask(endpoint, read_json(request.body), house.settings)
        except ApiError as error:
            house.truth.add(refused(name, endpoint, request.received_ns, error.status))
            raise
        name = given or ask.request_id or name
        caller = Caller(connection, request, name, f"{prefix}-{name}")
        answer_to(ask, caller, house, fault).begin()

    def _metrics(self, _: HttpRequest) -> Plain:
        workers = self._house.settings.workers
        if workers > 1:  # each knows its own share; half a truth would be taken for a whole one
            why = f"{workers} workers, none of which knows the totals: use --workers 1 for /metrics"
            return Plain(503, why.encode(), "text/plain; charset=utf-8")
        return Plain(200, self._house.metrics.text(), CONTENT_TYPE)

    def _tokenize(self, request: HttpRequest) -> Plain:
        body = read_json(request.body)
        check_model(body, self._house.settings)
        if "messages" in body:
            generation = body.get("add_generation_prompt", True)
            tokens = list(chat_tokens(body["messages"], generation))
        else:
            tokens = tokenize(_field("prompt", body, str))
        limit = self._house.settings.max_model_len
        return _json(bodies.tokenized(tokens, limit, bool(body.get("return_token_strs"))))

    def _detokenize(self, request: HttpRequest) -> Plain:
        body = read_json(request.body)
        check_model(body, self._house.settings)
        return _json({"prompt": detokenize(_field("tokens", body, list))})

    def _reset_prefix_cache(self, _: HttpRequest) -> Plain:
        return _json({"success": self._house.pacing.reset_prefix_cache()})


def _field(name: str, body: dict[str, Any], kind: type) -> Any:
    if name not in body:
        raise missing(name, body)
    value = body[name]
    if not isinstance(value, kind):
        what = "string" if kind is str else "list"
        raise invalid(
            f"{what}_type", f"body.{name}", f"Input should be a valid {what}", repr(value)
        )
    return value


def _not_allowed(methods: str) -> Plain:
    more = f"allow: {methods}\r\nvary: Origin\r\n"
    return Plain(405, b'{"detail":"Method Not Allowed"}', more=more)
