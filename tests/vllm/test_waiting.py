"""Waiting for a server: what may change is waited for, what won't is told at once."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
import trustme
from vllm_bench.run.session import Session
from vllm_bench.vllm import no_answer
from vllm_bench.vllm import server as control
from vllm_bench.vllm.address import Tls
from vllm_bench.vllm.models import Model
from vllm_bench.vllm.server import ControlError, Server

from tests.support.beside.ports import free_port
from tests.support.far_end import CLOSE, RESET, FarEnd, Step, TinyVllm

PAGE = b"<!DOCTYPE html><html><title>Another service</title></html>"
MODELS = {"object": "list", "data": [{"id": "tiny", "max_model_len": 2048}]}
TINY = [Model("tiny", None, 2048)]


def answer(status: int, body: object = b"", *more: str) -> list[Step]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status} X", f"content-length: {len(data)}", *more)
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + data]


WELL = [answer(200), answer(200, MODELS)]
REDIRECT = answer(301, b"", "location: https://gpu7/v1/models")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the module's clock by one that only sleeping moves; probes end soon."""
    now_s = [1000.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    virtual = SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep)
    monkeypatch.setattr(control, "time", virtual)
    monkeypatch.setattr(no_answer, "PROBE_S", 0.1)
    return now_s


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[TinyVllm]:
    """A server that speaks TLS, with a certificate of an authority that nobody knows."""
    server = TinyVllm()
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server.tls)
    with server:
        yield server


def waited(url: str, tls: Tls | None = None, limit_s: float = 60) -> tuple[list[Model], list[str]]:
    """Wait for a server; return what it serves, and why it wasn't ready, time by time."""
    told: list[str] = []
    with closing(Server(url, None, {}, tls)) as server:
        return server.wait_ready(limit_s, lambda _, why: not told.append(why)), told


def refused(url: str, tls: Tls | None = None) -> tuple[int, str]:
    """Return the exit code and the words of a wait that ends before it began."""
    told: list[str] = []
    with closing(Server(url, None, {}, tls)) as server, pytest.raises(ControlError) as failed:
        server.wait_ready(60, lambda _, why: not told.append(why))
    assert told == []
    return failed.value.exit_code, str(failed.value)


@pytest.mark.parametrize(
    "not_yet",
    [
        [answer(503)],
        [answer(502, PAGE)],
        [answer(429)],
        [[CLOSE]],
        [[RESET]],
        [[b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nhalf", CLOSE]],
        [answer(404), answer(404)],
        [answer(404, PAGE), answer(404, PAGE), answer(404, PAGE)],
        [answer(404, PAGE), answer(404, PAGE), answer(502, PAGE)],
        [answer(404), answer(502)],
        [answer(200), answer(503)],
        [answer(200), answer(404)],
        [answer(200), answer(204)],
        [answer(200), answer(200)],
        [answer(200), answer(200, {"object": "list", "data": []})],
        [answer(200), answer(200, {"object": "list", "data": None})],
        [answer(200), [CLOSE]],
    ],
)
def test_what_may_change_is_waited_for(far_end: FarEnd, not_yet: list[list[Step]]) -> None:
    # Once more for each [CLOSE]: a hang-up may come of TLS that isn't spoken, which is looked at.
    far_end.scripts = [*not_yet, *not_yet, *WELL]
    served, told = waited(far_end.base_url)
    assert served == TINY
    assert len(told) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405])
def test_a_gateway_may_answer_health_as_it_likes_if_it_lists_models(
    far_end: FarEnd, status: int
) -> None:
    far_end.scripts = [answer(status, PAGE), answer(200, MODELS)]
    assert waited(far_end.base_url) == (TINY, [])


@pytest.mark.parametrize(
    ("scripts", "code", "words"),
    [
        ([answer(401)], 2, "api_key_env"),
        ([answer(200), answer(401, {"error": "Unauthorized"})], 2, "api_key_env"),
        ([answer(403, {"error": "not you"})], 2, "not you"),
        ([REDIRECT], 2, "https://gpu7/v1/models"),
        ([answer(200, PAGE)], 2, "web page"),
        ([answer(404, PAGE), answer(404, PAGE), answer(200, PAGE)], 2, "web page"),
        ([answer(200), answer(200, [1, 2])], 2, "not a list of models"),
        ([answer(200), answer(200, {"ok": True})], 2, "not a list of models"),
        ([answer(405)], 1, "405"),
        ([answer(410, {"error": "moved"})], 1, "moved"),
        ([[b"220 mail ESMTP\r\n\r\n", CLOSE]], 2, "HTTP"),
        ([[b"SSH-2.0-OpenSSH_9.6\r\n\r\n", CLOSE]], 2, "HTTP"),
        ([[b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", CLOSE]], 1, "HTTP"),
    ],
)
def test_what_stays_is_told_at_once(
    far_end: FarEnd, scripts: list[list[Step]], code: int, words: str
) -> None:
    far_end.scripts = scripts
    found, said = refused(far_end.base_url)
    assert (found, words in said) == (code, True), said
    assert "\n" not in said


def test_a_key_that_is_refused_is_told_at_once(tiny_vllm: TinyVllm) -> None:
    tiny_vllm.api_key = "sk-right"
    with (
        closing(Server(tiny_vllm.base_url, "sk-wrong", {})) as server,
        pytest.raises(ControlError, match="HTTP 401: the key is refused") as failed,
    ):
        server.wait_ready(60, lambda *_: True)
    assert (failed.value.exit_code, "sk-" in str(failed.value)) == (2, False)


def test_a_path_without_v1_is_told_at_once(tiny_vllm: TinyVllm) -> None:
    code, said = refused(tiny_vllm.base_url.removesuffix("/v1"))
    assert (code, "should end in /v1" in said) == (2, True)


@pytest.mark.parametrize("error", [socket.EAI_NONAME, socket.EAI_NODATA])
def test_a_host_that_nobody_knows_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(error, "in the words of a library")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    code, said = refused("http://nowhere:8000/v1")
    assert (code, "no host of this name" in said, "library" in said) == (2, True, False)


def test_a_name_that_cannot_be_looked_up_now_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(ControlError, match=r"after 3 s: .*looked up now"):
        waited("http://gpu7:8000/v1", limit_s=3)


def test_nobody_there_is_waited_for() -> None:
    with pytest.raises(ControlError, match=r"after 3 s: connection refused: "):
        waited(f"http://127.0.0.1:{free_port()}/v1", limit_s=3)


def test_a_certificate_that_nobody_vouches_for_is_told_at_once(secure: TinyVllm) -> None:
    code, said = refused(secure.base_url)
    assert code == 1
    assert all(word in said for word in ("certificate", "tls_ca", "tls_verify"))
    assert not any(word in said for word in ("_ssl.c", "SSL:", "CERTIFICATE_VERIFY_FAILED"))
    assert waited(secure.base_url, Tls(verify=False))[1] == []


def test_a_certificate_for_another_name_is_told_at_once(
    secure: TinyVllm, authority: trustme.CA
) -> None:
    with authority.cert_pem.tempfile() as file:
        assert waited(secure.base_url, Tls(ca_file=file))[1] == []
        code, said = refused(secure.base_url.replace("127.0.0.1", "localhost"), Tls(ca_file=file))
    assert (code, "localhost" in said) == (1, True)


@pytest.mark.parametrize(
    "reason", ["TLSV1_ALERT_PROTOCOL_VERSION", "SSLV3_ALERT_HANDSHAKE_FAILURE"]
)
def test_tls_that_is_refused_is_told_at_once(reason: str) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}] in the words of a library (_ssl.c:1006)")
    error.reason = reason
    told = no_answer.no_answer(error)
    assert isinstance(told, no_answer.FinalError)
    assert "refuses TLS" in str(told)
    assert "library" not in str(told)


def test_http_to_a_server_that_speaks_tls_is_told_at_once(secure: TinyVllm) -> None:
    code, said = refused(secure.base_url.replace("https", "http"))
    assert (code, "https://" in said) == (2, True)
    assert secure.requests == []  # nothing was asked, no key was sent


@pytest.mark.parametrize("words", [b"", b"The plain HTTP request was sent to HTTPS port"])
def test_a_proxy_that_wants_tls_is_told_at_once(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    monkeypatch.setattr(no_answer, "_shakes_hands", lambda _: True)
    far_end.scripts = [answer(400, words)]
    code, said = refused(far_end.base_url)
    assert (code, "https://" in said) == (2, True)


def test_tls_to_a_server_that_speaks_none_is_told_at_once(
    tiny_vllm: TinyVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_bench.vllm.calls.CONNECT_S", 0.1)
    monkeypatch.setattr(no_answer, "PROBE_S", 5.0)
    with closing(Server(tiny_vllm.base_url.replace("http", "https"), "sk-1", {})) as server:
        why = server.why_not_ready() or ""
    assert "http://" in why
    assert not [r for r in tiny_vllm.requests if "authorization" in r.headers]


def test_it_is_told_every_ten_seconds_how_long_it_takes_and_what_can_be_done(
    tiny_vllm: TinyVllm,
) -> None:
    tiny_vllm.ready = False
    said: list[str] = []
    session = SimpleNamespace(wait_s=35.0, say=said.append)
    scenario = SimpleNamespace(base_url=tiny_vllm.base_url)
    on_wait = Session._on_wait(session, scenario, [])  # type: ignore[arg-type]
    with closing(Server(tiny_vllm.base_url, None, {})) as server, pytest.raises(ControlError):
        server.wait_ready(35.0, on_wait)
    ways = "--wait-s changes it; Ctrl-C ends it"
    yet = [f"no answer yet ({seconds} of 35 s; {ways})" for seconds in (0, 10, 20, 30)]
    assert [words in line for words, line in zip(yet, said, strict=True)] == [True] * 4
    assert all("503" in line for line in said)
