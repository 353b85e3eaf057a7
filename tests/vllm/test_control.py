"""Control calls: readiness, models, token counts and counters, of healthy servers and others."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from vllm_bench.vllm import server as control
from vllm_bench.vllm.address import is_own_address
from vllm_bench.vllm.models import Model
from vllm_bench.vllm.server import ControlError, Server, page_getter

from tests.support.beside.ports import free_port
from tests.support.far_end import CLOSE, FarEnd, Step, TinyVllm


def answer(status: int, body: object = b"", content_type: str = "application/json") -> list[Step]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(data)}"
    return [head.encode() + b"\r\n\r\n" + data]


@pytest.fixture
def connect() -> Iterator[Callable[..., Server]]:
    """Make servers' control ends, and close them."""
    made: list[Server] = []

    def make(
        base_url: str, api_key: str | None = None, headers: dict[str, str] | None = None
    ) -> Server:
        made.append(Server(base_url, api_key, headers or {}))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the module's clock by one that only sleeping moves."""
    now_s = [1000.0]

    def sleep(seconds: float) -> None:
        assert seconds > 0
        now_s[0] += seconds

    virtual = SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep)
    monkeypatch.setattr(control, "time", virtual)
    return now_s


def test_a_server_that_answers_health_is_ready(tiny_vllm: TinyVllm, connect) -> None:
    server = connect(tiny_vllm.base_url)
    assert server.why_not_ready() is None
    tiny_vllm.ready = False
    assert "503" in server.why_not_ready()


def test_nobody_there_is_not_ready_and_says_why(connect) -> None:
    assert "refused" in connect(f"http://127.0.0.1:{free_port()}/v1").why_not_ready()


def test_a_server_that_hangs_up_is_not_ready(far_end: FarEnd, connect) -> None:
    far_end.scripts = [[CLOSE]]
    assert "disconnected" in connect(far_end.base_url).why_not_ready()


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (answer(200, {"data": [{"id": "tiny"}]}), None),
        (answer(502, b"<h1>Bad Gateway</h1>"), "HTTP 502: "),
        (answer(401, {"error": "Unauthorized"}), "HTTP 401: set api_key_env"),
    ],
)
def test_behind_a_gateway_without_health_the_models_answer(
    far_end: FarEnd, connect, models: list[Step], why: str | None
) -> None:
    far_end.scripts = [answer(404, {"detail": "Not Found"}), models]
    found = connect(far_end.base_url).why_not_ready()
    assert (found is None) if why is None else (why in found)
    assert [r.path for r in far_end.requests] == ["/health", "/v1/models"]


def test_health_and_the_rest_lie_beside_v1_under_a_path(far_end: FarEnd, connect) -> None:
    far_end.scripts = [answer(200, {"count": 3, "version": "9"})]
    server = connect(far_end.base_url.replace("/v1", "/team/a/v1"))
    server.why_not_ready()
    server.version()
    server.tokenize("tiny", prompt="a")
    paths = [r.path.removeprefix("/team/a/") for r in far_end.requests]
    assert paths == ["health", "v1/models", "version", "tokenize"]


def test_waiting_ends_when_the_server_gets_ready(tiny_vllm: TinyVllm, connect, clock) -> None:
    tiny_vllm.ready = False
    told: list[tuple[float, str]] = []

    def on_wait(waited_s: float, why: str) -> bool:
        told.append((waited_s, why))
        tiny_vllm.ready = len(told) == 3
        return True

    connect(tiny_vllm.base_url).wait_ready(60, on_wait)
    assert [waited_s for waited_s, _ in told] == [0.0, 1.0, 2.0]
    assert all("503" in why for _, why in told)


@pytest.mark.parametrize(("limit_s", "tries"), [(0, 1), (0.25, 2), (5, 6)])
def test_waiting_ends_at_its_limit_with_the_reason(
    tiny_vllm: TinyVllm, connect, clock, limit_s: float, tries: int
) -> None:
    tiny_vllm.ready = False
    with pytest.raises(ControlError) as failed:
        connect(tiny_vllm.base_url).wait_ready(limit_s, lambda *_: True)
    facts = (tiny_vllm.base_url, f"{limit_s:.0f} s", "503", "--base-url")
    assert [fact for fact in facts if fact not in str(failed.value)] == []
    assert len(tiny_vllm.requests) == tries


def test_waiting_ends_when_told_to_give_up(tiny_vllm: TinyVllm, connect, clock) -> None:
    tiny_vllm.ready = False
    with pytest.raises(ControlError, match="gave up waiting for http"):
        connect(tiny_vllm.base_url).wait_ready(60, lambda waited_s, _: waited_s < 3)
    assert len(tiny_vllm.requests) == 4


def test_models_are_what_the_server_lists(tiny_vllm: TinyVllm, connect) -> None:
    assert connect(tiny_vllm.base_url).models() == [Model("tiny", "r", 2048)]


def test_models_of_a_real_server_are_read(far_end: FarEnd, connect, shared: Path) -> None:
    far_end.scripts = [[(shared / "wire" / "models.txt").read_bytes()]]
    assert connect(far_end.base_url).models() == [Model("tiny", "./model", 2048)]


@pytest.mark.parametrize("body", [b"", b"<html>", [], "x", {}, {"data": None}, {"data": [{}]}])
def test_what_is_no_list_of_models_is_refused(far_end: FarEnd, connect, body: object) -> None:
    far_end.scripts = [answer(200, body)]
    with pytest.raises(ControlError, match="/v1/models: not a list of models"):
        connect(far_end.base_url).models()


@pytest.mark.parametrize(
    ("given", "read", "told"),
    [
        (4096, 4096, False),
        ("4096", 4096, False),
        (4096.0, 4096, False),
        (None, None, False),
        (0, None, False),
        ("many", None, True),
        ([4096], None, True),
        ({"a": 1}, None, True),
        (-1, None, True),
        (4096.5, None, True),
        (1e308, None, True),
        (10**30, None, True),
    ],
)
def test_a_length_of_any_shape_is_a_number_or_a_named_problem(
    far_end: FarEnd, connect, given: object, read: int | None, told: bool
) -> None:
    far_end.scripts = [answer(200, {"data": [{"id": "tiny", "max_model_len": given}]})]
    (model,) = connect(far_end.base_url).models()
    assert model.max_model_len == read
    assert (model.problem is not None) == told


def test_one_odd_entry_leaves_the_other_models(far_end: FarEnd, connect) -> None:
    cards = [3, None, {"id": 7}, {"id": ""}, {"id": "a", "root": ["x"]}, {"root": "r"}]
    far_end.scripts = [answer(200, {"data": cards})]
    assert connect(far_end.base_url).models() == [Model("a", None, None)]


def test_an_error_that_is_nested_for_ever_is_an_error(far_end: FarEnd, connect) -> None:
    nested = b'{"error":' * 990 + b"{}" + b"}" * 990
    for status in (200, 500):
        far_end.scripts = [answer(status, nested)]
        with pytest.raises(ControlError, match="/v1/models: "):
            connect(far_end.base_url).models()


def test_a_missing_key_is_told_with_what_to_do(tiny_vllm: TinyVllm, connect) -> None:
    tiny_vllm.api_key = "sk-right"
    with pytest.raises(ControlError, match="/v1/models: HTTP 401: set api_key_env to the key's"):
        connect(tiny_vllm.base_url).models()
    assert connect(tiny_vllm.base_url, "sk-right").models()


def test_own_headers_go_along_and_a_key_that_comes_back_is_masked(far_end: FarEnd, connect) -> None:
    far_end.scripts = [answer(403, {"error": {"message": "no such key: sk-1, t0ps"}})]
    with pytest.raises(ControlError, match=r"HTTP 403: no such key: \*\*\*, \*\*\*$"):
        connect(far_end.base_url, "sk-1", {"X-Token": "t0ps"}).models()
    sent = far_end.requests[0].headers
    assert (sent["authorization"], sent["x-token"]) == ("Bearer sk-1", "t0ps")


def test_the_environments_proxy_is_not_used(
    tiny_vllm: TinyVllm, connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    assert connect(tiny_vllm.base_url).why_not_ready() is None


@pytest.mark.parametrize(
    ("reply", "version"),
    [
        (answer(200, {"version": "0.32.0"}), "0.32.0"),
        (answer(200, {"version": None}), None),
        (answer(200, []), None),
        (answer(200, {"version": {"major": 0}}), None),
        (answer(200, {"version": "9" * 5000}), "9" * 200),
        (answer(200, b"[" * 100_000), None),
        (answer(200, b"<html>"), None),
        (answer(404, {"detail": "Not Found"}), None),
        ([CLOSE], None),
    ],
)
def test_a_version_is_told_or_it_is_not(
    far_end: FarEnd, connect, reply: list[Step], version: str | None
) -> None:
    far_end.scripts = [reply]
    assert connect(far_end.base_url).version() == version


def test_the_server_counts_a_chat_and_a_text(tiny_vllm: TinyVllm, connect) -> None:
    server = connect(tiny_vllm.base_url)
    text = "one two three"
    assert server.tokenize("tiny", prompt=text) == 3
    assert server.tokenize("tiny", messages=[{"role": "user", "content": "one two"}]) == 6
    assert tiny_vllm.requests[0].json == {"model": "tiny", "prompt": text}
    server.tokenize("tiny", prompt=text, fields={"add_special_tokens": False})
    assert tiny_vllm.requests[-1].json["add_special_tokens"] is False


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_prompt_that_the_server_refuses_has_no_count(
    far_end: FarEnd, connect, status: int
) -> None:
    far_end.scripts = [answer(status, {"error": {"message": "too long"}})]
    assert connect(far_end.base_url).tokenize("tiny", prompt="x") is None


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(404, {"detail": "Not Found"}), "HTTP 404: Not Found"),
        (answer(500, b"Internal Server Error"), "HTTP 500"),
        (answer(200, {"tokens": []}), "no count in the reply"),
        (answer(200, {"count": "many"}), "no count in the reply"),
        (answer(200, {"count": -1}), "no count in the reply"),
        (answer(200, {"count": 10**30}), "no count in the reply"),
        (answer(200, {"count": True}), "no count in the reply"),
        (answer(200, {"count": [3]}), "no count in the reply"),
        (answer(200, b'{"count": NaN}'), "no count in the reply"),
        (answer(200, b'{"count": 1e999}'), "no count in the reply"),
        (answer(200, b"null"), "no count in the reply"),
        (answer(200, b"<html>"), "no count in the reply"),
        ([CLOSE], "disconnected"),
    ],
)
def test_a_server_that_cannot_count_says_so(
    far_end: FarEnd, connect, reply: list[Step], why: str
) -> None:
    far_end.scripts = [reply]
    with pytest.raises(ControlError, match=f"/tokenize: .*{why}"):
        connect(far_end.base_url).tokenize("tiny", prompt="x")


def test_a_url_that_no_request_can_go_to_is_refused_before_waiting(connect) -> None:
    for host in ("256.256.256.256", "xn--a"):
        with pytest.raises(ControlError, match=f"http://{host}/v1: not a usable URL: "):
            connect(f"http://{host}/v1")


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        (socket.gethostname(), None),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("a..b", False),
    ],
)
def test_an_address_is_this_machines_own_or_it_is_not(host: str, own: bool | None) -> None:
    found = is_own_address(host)
    assert found is own if own is not None else isinstance(found, bool)


def test_a_host_that_nobody_knows_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert is_own_address("nowhere") is False


def test_localhost_is_ours_without_ipv6_and_a_name_of_two_machines_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def addresses(*hosts: str) -> Callable[..., list[object]]:
        families = [socket.AF_INET6 if ":" in h else socket.AF_INET for h in hosts]
        found = [
            (f, socket.SOCK_DGRAM, 0, "", (h, 0)) for f, h in zip(families, hosts, strict=True)
        ]
        return lambda *_, **__: found

    def no_socket(*_: object) -> None:
        raise OSError("address family not supported")

    monkeypatch.setattr(socket, "getaddrinfo", addresses("127.0.0.1", "192.0.2.1"))
    assert is_own_address("both") is False
    monkeypatch.setattr(socket, "getaddrinfo", addresses("::1", "127.0.0.1"))
    monkeypatch.setattr(socket, "socket", no_socket)
    assert is_own_address("localhost") is True


def test_a_base_url_without_v1_is_told_so(tiny_vllm: TinyVllm, connect) -> None:
    with pytest.raises(ControlError, match="/models: HTTP 404: base_url should end in /v1"):
        connect(tiny_vllm.base_url.removesuffix("/v1")).models()
    with pytest.raises(ControlError) as refused:
        connect(tiny_vllm.base_url.replace("/v1", "/nothing/v1")).models()
    assert "should end" not in str(refused.value)


@pytest.mark.parametrize("status", [302, 403])
def test_a_key_in_a_pages_address_is_in_no_complaint(far_end: FarEnd, status: int) -> None:
    url = far_end.base_url.replace("/v1", "/metrics?token=t0p-s3cret-key")
    head = f"HTTP/1.1 {status} X\r\nlocation: {url}&more=1\r\ncontent-length: 0\r\n\r\n"
    far_end.scripts = [[head.encode()]]
    with pytest.raises(ControlError, match=f"HTTP {status}") as raised:
        page_getter(url, 5.0)()
    assert far_end.requests[0].path.endswith("t0p-s3cret-key")
    assert "s3cret" not in str(raised.value)
