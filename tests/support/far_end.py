"""The far end of the wire, faked as bytes: what a server, a proxy or a broken one would send.

`FarEnd` plays one script a request: a list of bytes, pauses, and ways to end.
`TinyVllm` answers vLLM's endpoints, a word a token, and counts what it did.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

RESET = "reset"  # end with a TCP reset
CLOSE = "close"  # end with a FIN
HANG = "hang"  # send nothing more until the client goes away

Step = bytes | float | str  # bytes to send, seconds to wait, or a way to end


@dataclass
class Request:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int  # which accepted connection brought it
    arrived_ns: int = field(default_factory=time.perf_counter_ns)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Server:
    """An asyncio server in a thread, on a free port of the loopback."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.hung_up = 0
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._socket = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
        self.host = host
        self.tls: ssl.SSLContext | None = None  # set before entering: HTTPS
        self.port: int = self._socket.getsockname()[1]

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}/v1"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, sock=self._socket, ssl=self.tls)
        )
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.002))  # sockets are closed a turn later
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        mine = self._connections
        try:
            while (request := await self._read(reader, mine)) is not None:
                self.requests.append(request)
                if not await self.answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up += 1
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {k.lower(): v for k, v in (li.split(": ", 1) for li in lines if li)}
        if self.wants_body(headers):
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        else:
            body = b""
        return Request(method, path, headers, body, connection)

    def wants_body(self, headers: dict[str, str]) -> bool:
        return True

    async def play(
        self, script: list[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Play one script; return whether the connection stays open."""
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step == HANG:
                await reader.read()
                self.hung_up += 1
                return False
            else:
                if step == RESET:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, linger
                    )
                return False
        return True

    async def answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; return whether the connection stays open."""
        return False


class FarEnd(_Server):
    """Plays a script a request, in the order of the requests; the last one again and again."""

    def __init__(self, *scripts: list[Step], host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.scripts = list(scripts)
        self.read_body = True

    def wants_body(self, headers: dict[str, str]) -> bool:
        return self.read_body

    async def answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        return await self.play(script, reader, writer)


SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: object) -> bytes:
    """One server-sent event."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"data: {text}\n\n".encode()


def delta(text: str, finish_reason: str | None = None, **more: object) -> bytes:
    """One chat chunk with content."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event({"id": "x", "choices": [{**choice, **more}]})


def usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    """The usage event at a stream's end."""
    counts = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return event({"id": "x", "choices": [], "usage": counts, "system_fingerprint": "fp-test"})


def good_stream(words: tuple[str, ...] = ("a", "b", "c"), prompt_tokens: int = 5) -> list[bytes]:
    """The events of a healthy chat stream, one a token."""
    role = event(
        {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    )
    return [
        role,
        *(delta(word) for word in words[:-1]),
        delta(words[-1], "length"),
        usage(prompt_tokens, len(words)),
        event("[DONE]"),
    ]


def sse_script(events: list[bytes]) -> list[Step]:
    """A script that sends each event in a chunk and a write of its own."""
    return [SSE_HEAD, *(chunk(e) for e in events), LAST_CHUNK]


class TinyVllm(_Server):
    """vLLM's endpoints as far as the scripts use them; one whitespace-separated word is a token."""

    def __init__(self, model: str = "tiny", max_model_len: int = 2048) -> None:
        super().__init__()
        self.model = model
        self.max_model_len = max_model_len
        self.api_key: str | None = None
        self.ready = True
        self.token_gap_s = 0.0
        self.most_in_flight = 0
        self.misbehave: Callable[[int], list[Step] | None] = lambda _: None
        self.counters = dict.fromkeys(("prompt_tokens", "generation_tokens", "request_success"), 0)
        self._in_flight = 0
        self._completions = 0

    async def answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        path, key = request.path, self.api_key
        wrong_key = key is not None and request.headers.get("authorization") != f"Bearer {key}"
        if path.startswith("/v1") and wrong_key:
            return await self._json(writer, {"error": "Unauthorized"}, 401)
        if path == "/metrics":
            return await self._text(writer, self._metrics())
        if path in ("/v1/completions", "/v1/chat/completions"):
            return await self._complete(request, reader, writer)
        return await self._json(writer, *self._control(request))

    def _control(self, request: Request) -> tuple[object, int]:
        """Body and status of a control call."""
        card = {"id": self.model, "root": "r", "max_model_len": self.max_model_len}
        if request.path == "/tokenize":
            return {"count": self._prompt_tokens(request.json)}, 200
        answers: dict[str, tuple[object, int]] = {
            "/health": ({}, 200 if self.ready else 503),
            "/version": ({"version": "0.0.0-test"}, 200),
            "/v1/models": ({"object": "list", "data": [card]}, 200),
        }
        return answers.get(request.path, ({"detail": "Not Found"}, 404))

    def _prompt_tokens(self, body: dict[str, Any]) -> int:
        if "messages" in body:
            return 4 + sum(len(m["content"].split()) for m in body["messages"])
        return len(body["prompt"].split())

    def _metrics(self) -> str:
        return "".join(
            f'# TYPE vllm:{name} counter\nvllm:{name}_total{{engine="0",model_name="m"}} {value}\n'
            for name, value in self.counters.items()
        )

    async def _complete(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        body = request.json
        if body["model"] != self.model:
            message = {"message": f"The model `{body['model']}` does not exist.", "code": 404}
            return await self._json(writer, {"error": message}, 404)
        prompt_tokens = self._prompt_tokens(body)
        if prompt_tokens >= self.max_model_len:
            message = {"message": "This model's maximum context length is exceeded", "code": 400}
            return await self._json(writer, {"error": message}, 400)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self._completions += 1
        try:
            script = self.misbehave(self._completions)
            if script is not None:
                return await self.play(script, reader, writer)
            return await self._stream(body, prompt_tokens, writer)
        finally:
            self._in_flight -= 1

    async def _stream(
        self, body: dict[str, Any], prompt_tokens: int, writer: asyncio.StreamWriter
    ) -> bool:
        count = body["max_tokens"]
        words = tuple(f"w{i}" for i in range(count))
        if not body["stream"]:
            self._count(prompt_tokens, count)
            usage_now = {"prompt_tokens": prompt_tokens, "completion_tokens": count}
            choice = {
                "index": 0,
                "message": {"content": " ".join(words)},
                "finish_reason": "length",
            }
            return await self._json(writer, {"choices": [choice], "usage": usage_now})
        writer.write(SSE_HEAD)
        for piece in good_stream(words, prompt_tokens):
            writer.write(chunk(piece))
            if self.token_gap_s:
                await writer.drain()
                await asyncio.sleep(self.token_gap_s)
        self._count(prompt_tokens, count)
        writer.write(LAST_CHUNK)
        await writer.drain()
        return True

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.counters["prompt_tokens"] += prompt_tokens
        self.counters["generation_tokens"] += completion_tokens
        self.counters["request_success"] += 1

    async def _json(self, writer: asyncio.StreamWriter, value: object, status: int = 200) -> bool:
        return await self._text(writer, json.dumps(value), status, "application/json")

    async def _text(
        self,
        writer: asyncio.StreamWriter,
        text: str,
        status: int = 200,
        content_type: str = "text/plain",
    ) -> bool:
        body = text.encode()
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        return True
